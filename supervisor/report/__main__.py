"""Makes a run's report from its snapshot: `python -P -m supervisor.report FOLDER`, the snapshot as JSON on its input.

A process of its own (report_process starts it), because matplotlib and NumPy have no place in the daemon.
Writes report.html, report.json, results.csv, figures/*.png and EXPERIMENT/best.json into FOLDER.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from supervisor.report import evaluation_figures, scaling_figures, search_figures
from supervisor.report.answer_section import evaluation_section, scaling_section
from supervisor.report.architectures import with_architectures, with_source
from supervisor.report.drawing import Drawing, style
from supervisor.report.files import best_json, json_bytes, report_json, results_csv, write_file
from supervisor.report.page import Picture, Pictures, page
from supervisor.report.scaling_answer import ScalingAnswer, as_json, scaling_answer
from supervisor.report.view import ExperimentRow, RunView, read_view

MAX_VIEW_BYTES = 256 * 2**20
"""A snapshot of 10,000 trials of 50 epochs is about 40 MB."""
MAX_DRAWN_EXPERIMENTS = 60
"""Each costs about half a second and a third of a megabyte of page."""


def write(view: dict[str, Any], folder: Path, now_wall: float) -> Path:
    """Every file of the report, the page last; its path. Raises KeyError or ValueError for what is no snapshot."""
    run = with_source(with_architectures(read_view(view, now_wall)))
    answer = scaling_answer(run)
    with style():
        overview = _known(search_figures.overview(run), scaling_figures.importances(run))
        scaling = [] if answer is None else _scaling_drawings(run, answer)
        diagram, unread = evaluation_figures.reliability(run, folder)
        tested = _known(evaluation_figures.skill(run), diagram)
        own = {experiment.name: _drawings(experiment) for experiment in run.experiments[:MAX_DRAWN_EXPERIMENTS]}
    for drawing in [*overview, *scaling, *tested, *(drawing for several in own.values() for drawing in several)]:
        write_file(folder / "figures" / f"{drawing.name}.png", drawing.png)
    _write_numbers(run, folder, None if answer is None else as_json(answer))
    sections = [evaluation_section(run, _pictures(tested), unread)]
    if answer is not None:
        sections.insert(0, scaling_section(answer, _pictures(scaling)))
    if len(run.experiments) > len(own):
        sections.append(f"<p>Figures are drawn for the first {len(own)} of {len(run.experiments)} experiments.</p>")
    pictures = Pictures(_pictures(overview), {name: _pictures(several) for name, several in own.items()})
    path = folder / "report.html"
    write_file(path, page(run, pictures, "\n".join(sections)).encode())
    return path


def _scaling_drawings(run: RunView, answer: ScalingAnswer) -> list[Drawing]:
    return _known(
        scaling_figures.loss_against_parameters(answer),
        scaling_figures.residuals(answer),
        scaling_figures.depth_and_width(run),
    )


def _drawings(experiment: ExperimentRow) -> list[Drawing]:
    return _known(search_figures.search(experiment), search_figures.parameters(experiment))


def _known(*drawings: Drawing | None) -> list[Drawing]:
    return [drawing for drawing in drawings if drawing is not None]


def _pictures(drawings: Sequence[Drawing]) -> list[Picture]:
    return [Picture(drawing.svg, drawing.caption) for drawing in drawings]


def _write_numbers(run: RunView, folder: Path, answer: dict[str, Any] | None) -> None:
    for experiment in run.experiments:
        best = best_json(experiment, run.now_wall)
        if best is not None:
            write_file(folder / experiment.name / "best.json", json_bytes(best))
    write_file(folder / "results.csv", results_csv(run).encode())
    write_file(folder / "report.json", json_bytes(report_json(run, answer)))


def main(argv: list[str]) -> int:
    if len(argv) != 1:
        print("usage: python -m supervisor.report FOLDER < SNAPSHOT", file=sys.stderr)
        return 2
    # A run's folder is its owner's alone.
    os.umask(0o077)
    text = sys.stdin.buffer.read(MAX_VIEW_BYTES + 1)
    if len(text) > MAX_VIEW_BYTES:
        print(f"a snapshot of over {MAX_VIEW_BYTES:,} bytes", file=sys.stderr)
        return 1
    try:
        write(json.loads(text), Path(argv[0]), time.time())
    except OSError as error:
        print(f"cannot write into {argv[0]}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
