"""Runs a user's function as a Trainable: each of its reports is a step, and its checkpoints become ours.

The function runs in the thread of Ray's session, which waits in each report until the next step.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow.fs
from ray import tune
from ray.tune.result import RESULT_DUPLICATE
from ray.tune.trainable.function_trainable import FunctionTrainable, wrap_function
from ray.tune.trainable.trainable_fn_utils import get_session  # type: ignore[attr-defined]  # Ray's own import

from actors.trial.prints import PRINTS
from actors.trial.report_values import as_result, described, plain
from actors.trial.result_keys import failed, failure_reason
from actors.trial.user_code import error_text

LOG = logging.getLogger("trainable")
STOP_WITHIN_S = 2.0


class KeptCheckpoint(tune.Checkpoint):
    """A checkpoint of an earlier attempt; `used` says that the function has asked for its files."""

    used = False

    @property
    def path(self) -> str:
        self.used = True
        return self._kept_path

    @path.setter
    def path(self, path: str) -> None:
        self._kept_path = path


def trial_class(function: Callable[[dict[str, Any]], Any]) -> type[FunctionTrial]:
    """Return the class that runs a user's function. Raises ValueError unless it takes one argument, config."""
    # Ray's own class knows what tune.with_parameters and tune.with_resources have added.
    base = wrap_function(function)
    name = getattr(function, "__name__", type(function).__name__)
    made: type[FunctionTrial] = type(name, (FunctionTrial, base), {"sweep_function": staticmethod(function)})
    return made


class FunctionTrial(FunctionTrainable):
    """The class of a user's function."""

    sweep_function: Callable[[dict[str, Any]], Any]
    sweep_metric: str

    _offered: tune.Checkpoint | None = None
    _kept: KeptCheckpoint | None = None
    _stopping = False

    def setup(self, config: dict[str, Any]) -> None:
        super().setup(config)  # type: ignore[no-untyped-call]
        session: Any = get_session()
        self._report_to_ray = session.report
        # tune.report() and ray.train.report() call this attribute of the session.
        session.report = self._report
        self._begin_function()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        taken = bool(super().reset_config(new_config))  # type: ignore[no-untyped-call]
        self._begin_function()
        return taken

    def _begin_function(self) -> None:
        self._offered = self._kept = None
        self._stopping = False

    def _trainable_func(self, config: dict[str, Any]) -> None:
        """Run the function in the session's thread; hand its end over as the last report."""
        try:
            self._report_returned(self.sweep_function(config))
        except BaseException as error:
            if self._stopping:
                # Nobody reads a report any more.
                raise SystemExit(0) from error
            text = error_text(error)
            PRINTS.settle()
            if text is not None:
                self._hand_over(failed(failure_reason(text), text))
        if not self._stopping:
            self._hand_over({RESULT_DUPLICATE: True})

    def _report_returned(self, returned: object) -> None:
        """Report the values of a generator, or of a `return`: a number is the metric, a dictionary a report."""
        found: Iterable[object] = returned if inspect.isgenerator(returned) else [returned]
        for value in found:
            if isinstance(value, dict):
                if value:
                    self._report(value)
            elif value is not None:
                number = plain({self.sweep_metric: value}, self.sweep_metric).values.get(self.sweep_metric)
                if isinstance(number, int | float) and not isinstance(number, bool):
                    self._report({self.sweep_metric: number})
                else:
                    LOG.warning("the function returned %s, which is left out", described(value))

    def _report(self, metrics: object, checkpoint: tune.Checkpoint | None = None, **_: Any) -> None:
        """Hand a report over and wait for the next step; called in the function's thread."""
        if self._stopping:
            raise SystemExit(0)
        values = as_result(metrics, self.sweep_metric)
        # Copied by the other thread, as long as this one waits: then the time of the copy is no part of the step.
        self._offered = checkpoint
        self._hand_over(values)

    def _hand_over(self, result: dict[str, Any]) -> None:
        try:
            self._report_to_ray(result)
        except SystemExit:
            # The session's way to end the function.
            self._stopping = True
            raise

    def sweep_offers_checkpoint(self) -> bool:
        """Return whether the last report came with a checkpoint."""
        return self._offered is not None

    def sweep_began_anew(self) -> bool:
        """Return, at the first report of an attempt, whether the function left its earlier checkpoint unused."""
        kept, self._kept = self._kept, None
        return kept is not None and not kept.used

    def save_checkpoint(self, checkpoint_dir: str = "") -> None:
        if self._offered is None:
            raise RuntimeError("expected a checkpoint in the last report, found none")
        self._offered.to_directory(checkpoint_dir)

    def sweep_load(self, path: Path) -> None:
        """Begin from the checkpoint at `path`."""
        self._kept = self.sweep_hand_back(path)

    def sweep_hand_back(self, path: str | Path) -> KeptCheckpoint:
        """Let tune.get_checkpoint() return the checkpoint at `path`."""
        checkpoint = KeptCheckpoint(path, pyarrow.fs.LocalFileSystem())
        session: Any = get_session()
        session.loaded_checkpoint = checkpoint
        return checkpoint

    def sweep_release(self) -> None:
        """End the function's thread, and so free its memory."""
        session: Any = get_session()
        session.finish(timeout=STOP_WITHIN_S)
