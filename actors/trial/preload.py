"""Imports what this worker's trial will need, where a driver asked for it; each worker of Ray imports this first.

It is the one module that works when it is imported: RAY_preload_python_modules is Ray's only way into a worker that
has no task yet.
"""

from __future__ import annotations

from actors.trial.warm_worker import tickets_folder, warm

FOLDER = tickets_folder()
WARMED = FOLDER is not None and warm(FOLDER)
"""True in a worker that a driver has started early."""
