"""Every command of the tutorial is typed here, in its order, in one shell, in an empty folder, from a clean clone."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.home import Home
from tests.acceptance.clone import ROOT, clone_checkout
from tests.acceptance.conftest import Sweep
from tests.waits import NET_S

PAGE = "docs/tutorial.md"
SHOWS = "==> "
"""Begins the line before each command's output."""


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[str]:
    return [line for block in blocks(page, "sh") for line in block.splitlines() if line.strip()]


def script(page: str, folder: Path) -> str:
    """Return one shell script of all commands; the two files are saved where the tutorial says so."""
    lines = ["set -e"]
    for number, command in enumerate(commands(page)):
        lines += [f"echo {shlex.quote(SHOWS + command)}", command]
        if number == 1:
            lines += [f"cp {folder}/my_search.py {folder}/my_search.yaml ."]
    return "\n".join(lines)


@pytest.fixture
def hour(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweep]:
    """Provide the folder in which the tutorial is typed, with the home that it sets and a clone's commands."""
    clone = clone_checkout(tmp_path_factory.mktemp("clone"))
    assert clone.is_what_runs()
    made = Sweep(Home((tmp_path / "first-hour" / "home").resolve()), tmp_path, clone.bin)
    yield made
    made.end()


def test_the_tutorial_sets_its_home_and_saves_its_files_first() -> None:
    page = (ROOT / PAGE).read_text()
    assert commands(page)[:2] == ["mkdir first-hour && cd first-hour", 'export SWEEP_HOME="$PWD/home"']
    assert [len(blocks(page, "python")), len(blocks(page, "yaml"))] == [1, 1]


@pytest.mark.slow
def test_the_first_hour_goes_as_the_tutorial_says(hour: Sweep) -> None:
    page = (hour.bin.parents[1] / PAGE).read_text()
    (hour.folder / "my_search.py").write_text(blocks(page, "python")[0])
    (hour.folder / "my_search.yaml").write_text(blocks(page, "yaml")[0])
    typed = subprocess.run(
        ["bash", "-c", script(page, hour.folder)], cwd=hour.folder, env=hour.environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=NET_S, check=False,
    )  # fmt: skip
    everything = typed.stdout + typed.stderr
    assert typed.returncode == 0, everything
    shown = dict(part.partition("\n")[::2] for part in typed.stdout.split(SHOWS)[1:])
    assert list(shown) == list(dict.fromkeys(commands(page)))

    def of(command: str) -> str:
        [output] = [output for typed, output in shown.items() if typed.startswith(command)]
        return output

    assert "READY" in of("supervisord check --try")
    assert '"trial.finished"' in of("supervisorctl tail -f")
    assert of("supervisorctl trials").splitlines()[0].startswith("trial")
    assert len(of("supervisorctl log 0").splitlines()) == 9
    assert "paused" in of("supervisorctl pause")
    assert "0.45" in of("supervisorctl enqueue")
    assert "800 trials instead of 1000" in of("supervisorctl set")
    assert "DAEMON DIED" in of("supervisorctl status ||")
    assert "exit code 4" in of("supervisorctl status ||")
    assert "BROKEN" not in of("supervisorctl audit")
    assert "passed 1, failed 0, skipped 0" in of("supervisorctl wait")
    assert "'rate':" in of("supervisorctl best")
    assert len((hour.folder / "first-hour" / "trials.csv").read_text().splitlines()) > 5
    assert '"plan": "my_search"' in of("supervisorctl gc")
