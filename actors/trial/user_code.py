"""Finds a user's trainable by its name, and says how a user's code ended."""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from typing import Any

from supervisor.errors import PlanError
from supervisor.formatting import nearest

NO_SHARE = (
    "the trial starts a Ray task or actor of its own, and its plan reserves no share for it: add `nested: [{cpu: 1}]` "
    "to the plan's `resources`, an entry for each that runs at a time"
)


def resolve(name: str) -> Any:
    """Return the object that `package.module:attribute` names. Raises PlanError that says which part is missing."""
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise PlanError(f"trainable {name!r} is not of the form package.module:attribute", key="trainable")
    found = _imported(name, module_name)
    for part in attribute.split("."):
        if not hasattr(found, part):
            remedy = nearest(part, dir(found)) or "define it there, at the module's top level"
            raise PlanError(f"trainable {name!r}: {module_name} has no {attribute!r}", key="trainable", remedy=remedy)
        found = getattr(found, part)
    if not callable(found):
        text = f"trainable {name!r} is a {type(found).__name__}, neither a function nor a class"
        raise PlanError(text, key="trainable")
    return found


def _imported(name: str, module_name: str) -> Any:
    cure = "put the module's folder beside the plan, or install its package in this environment"
    try:
        return importlib.import_module(module_name)
    except ImportError as error:
        text = f"trainable {name!r}: cannot import {module_name}: {error}"
        raise PlanError(text, key="trainable", remedy=cure) from error
    except BaseException as error:
        # The module's own code: a SyntaxError, a NameError, a script's sys.exit().
        text = (
            f"trainable {name!r}: the import of {module_name} fails: {type(error).__name__}: {error}{_line_of(error)}"
        )
        raise PlanError(text, key="trainable", remedy="mend the module, or what it needs") from error


def _line_of(error: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    frames = frames[1:]  # the first is ours
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""


def error_text(error: BaseException) -> str | None:
    """Return the text of an error that ended a user's code; None for an exit with status 0, which is a normal end.

    Raises the error again if it is Ray's own way to end this process. Call it where the error is handled.
    """
    if not isinstance(error, SystemExit):
        # Ray's own refusal of a task that is larger than each share of its trial; its remedy is for Ray's API.
        too_large = "cannot fit into any bundles" in str(error)
        return traceback.format_exc() + (NO_SHARE if too_large else "")
    if hasattr(error, "ray_terminate_msg"):
        # A signal asked this process to end.
        raise error
    status = error.code
    if status is None or (isinstance(status, int) and status == 0):
        return None
    return f"{traceback.format_exc()}it called sys.exit({status!r})"


def check(name: str) -> dict[str, str | None]:
    """Import a trainable and check its form, as a driver does; return the error and its remedy."""
    from actors.trial.supervised import supervise

    try:
        supervise(resolve(name))
    except PlanError as error:
        return {"error": error.message, "remedy": error.remedy}
    return {"error": None, "remedy": None}


def main() -> int:
    """Check the trainable of the first argument for `supervisord check`; answer in JSON."""
    # What the user's module prints goes to standard error.
    answer = os.dup(1)
    os.dup2(2, 1)
    os.write(answer, json.dumps(check(sys.argv[1])).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
