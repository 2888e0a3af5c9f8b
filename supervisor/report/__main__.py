"""Writes a run's report from its snapshot: `python -P -m supervisor.report FOLDER [--ahead] < SNAPSHOT`.

It is a process of its own, because matplotlib and NumPy are too heavy for the daemon. With `--ahead` an earlier
snapshot comes first, as one line: the figures of the experiments that have ended by then are drawn at once.
It writes report.html, report.json, results.csv, figures/*.png and EXPERIMENT/best.json into FOLDER.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from supervisor.domain.lifecycle import ENDED
from supervisor.report import evaluation_figures, importance, search_figures
from supervisor.report.answer_text import sentences
from supervisor.report.architectures import with_architectures, with_source
from supervisor.report.drawing import style
from supervisor.report.evaluated import Evaluated
from supervisor.report.evaluation_section import evaluation_section, fold_tables
from supervisor.report.files import best_json, json_bytes, report_json, results_csv, write_file
from supervisor.report.page import Drawing, page
from supervisor.report.predictions import predictions_of
from supervisor.report.process import AHEAD
from supervisor.report.scaling import figures as scaling_figures
from supervisor.report.scaling.answer import ScalingAnswer, as_json, scaling_answer
from supervisor.report.scaling.section import scaling_section
from supervisor.report.view import ExperimentRow, RunView, read_view

MAX_VIEW_BYTES = 256 * 2**20
"""A snapshot of 10,000 trials of 50 epochs is about 40 MB."""
MAX_DRAWN_EXPERIMENTS = 60
"""Each costs about half a second, and a third of a megabyte in the page."""


class Figures:
    """Draws the figures of experiments, each only once for the same content."""

    def __init__(self) -> None:
        self._drawn: dict[str, tuple[str, list[Drawing]]] = {}

    def of(self, experiment: ExperimentRow) -> list[Drawing]:
        """Return the figures of an experiment."""
        content = hashlib.sha256(repr(experiment).encode()).hexdigest()
        known, drawn = self._drawn.get(experiment.name, ("", []))
        if known != content:
            drawn = _known(search_figures.search(experiment), search_figures.parameters(experiment))
            self._drawn[experiment.name] = content, drawn
        return drawn

    def of_all(self, run: RunView) -> dict[str, list[Drawing]]:
        """Return the figures of the experiments that get some, by name."""
        return {experiment.name: self.of(experiment) for experiment in run.experiments[:MAX_DRAWN_EXPERIMENTS]}


def draw_ahead(view: dict[str, Any], figures: Figures, now_wall: float) -> None:
    """Draw the experiments of an earlier snapshot that have ended; an error is left to the report itself."""
    try:
        run = _read(view, now_wall)
        with style():
            for experiment in run.experiments[:MAX_DRAWN_EXPERIMENTS]:
                if experiment.state in ENDED:
                    figures.of(experiment)
    except (KeyError, ValueError, TypeError) as error:
        print(f"nothing is drawn ahead: {type(error).__name__}: {error}", file=sys.stderr)


def _read(view: dict[str, Any], now_wall: float) -> RunView:
    return with_source(with_architectures(read_view(view, now_wall)))


def write(view: dict[str, Any], folder: Path, now_wall: float, figures: Figures | None = None) -> Path:
    """Write every file of the report, with `figures` drawn before; return the path of its page.

    Raises KeyError or ValueError for a bad `view`.
    """
    run = _read(view, now_wall)
    predictions, unread = predictions_of(run, folder)
    answer, tested = scaling_answer(run, predictions), Evaluated.of(run, predictions)
    answered = sentences(run, answer, tested.compared, tested.goal)
    with style():
        overview = _known(search_figures.overview(run), importance.importances(run))
        scaling = [] if answer is None else _scaling_drawings(run, answer)
        of_tests = _known(evaluation_figures.skill(run), evaluation_figures.reliability(predictions))
        own = (figures or Figures()).of_all(run)
    for drawing in [*overview, *scaling, *of_tests, *(drawing for several in own.values() for drawing in several)]:
        write_file(folder / "figures" / f"{drawing.name}.png", drawing.png)
    numbers = {"answer": answered, "scaling": None if answer is None else as_json(answer), **tested.as_json()}
    _write_numbers(run, folder, numbers)
    sections = [evaluation_section(run, tested, of_tests, unread)]
    if answer is not None:
        sections.insert(0, scaling_section(answer, scaling))
    if len(run.experiments) > len(own):
        sections.append(f"<p>Figures are drawn for the first {len(own)} of {len(run.experiments)} experiments.</p>")
    doubts, path = () if answer is None else answer.doubts, folder / "report.html"
    write_file(path, page(run, overview, own, answered, doubts, "\n".join(sections), fold_tables(run)).encode())
    return path


def _scaling_drawings(run: RunView, answer: ScalingAnswer) -> list[Drawing]:
    return _known(
        scaling_figures.loss_against_parameters(answer),
        scaling_figures.residuals(answer),
        scaling_figures.depth_and_width(run),
    )


def _known(*drawings: Drawing | None) -> list[Drawing]:
    return [drawing for drawing in drawings if drawing is not None]


def _write_numbers(run: RunView, folder: Path, numbers: dict[str, Any]) -> None:
    for experiment in run.experiments:
        best = best_json(experiment, run.now_wall)
        if best is not None:
            write_file(folder / experiment.name / "best.json", json_bytes(best))
    write_file(folder / "results.csv", results_csv(run).encode())
    write_file(folder / "report.json", json_bytes(report_json(run, numbers)))


def main(argv: list[str]) -> int:
    """Read the snapshot from the standard input and write its report into the folder that `argv` names."""
    folder, *options = argv or [""]
    if not folder or options not in ([], [AHEAD]):
        print(f"usage: python -m supervisor.report FOLDER [{AHEAD}] < SNAPSHOT", file=sys.stderr)
        return 2
    # A run's folder is its owner's alone.
    os.umask(0o077)
    figures = Figures()
    if options:
        earlier = sys.stdin.buffer.readline(MAX_VIEW_BYTES)
        if not earlier.endswith(b"\n"):
            return 0  # the daemon has ended, or has no use for a report any more
        draw_ahead(json.loads(earlier), figures, time.time())
    text = sys.stdin.buffer.read(MAX_VIEW_BYTES + 1)
    if len(text) > MAX_VIEW_BYTES:
        print(f"the snapshot is over {MAX_VIEW_BYTES:,} bytes", file=sys.stderr)
        return 1
    try:
        write(json.loads(text), Path(folder), time.time(), figures)
    except OSError as error:
        print(f"cannot write into {folder}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
