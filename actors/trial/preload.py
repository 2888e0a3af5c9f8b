"""Imports what this worker's trial will need, where a driver asked for it; each worker of Ray imports this first.

It is the one module that works when it is imported: RAY_preload_python_modules is Ray's only way into a worker that
has no task yet.
"""

from __future__ import annotations

import os
from pathlib import Path

from actors.trial.warm_worker import warm
from supervisor.processes.environment import WARM_WORKERS

WARMED = WARM_WORKERS in os.environ and warm(Path(os.environ[WARM_WORKERS]))
"""True in a worker that a driver has started early."""
