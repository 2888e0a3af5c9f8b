"""The console scripts start this project's program or, with exit code 5, none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import _sweep_launcher
from supervisor.cli.other_supervisor import explain_foreign_flags
from tests.waits import NET_S

CHECKOUT = Path(_sweep_launcher.__file__).resolve().parent
OURS = '__product__ = "sweep-supervisor"\n'
# The signal's handler is a terminal's, also where these tests run in the background of a shell, which ignores it.
CALL = (
    "import signal, sys, _sweep_launcher; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "sys.exit(_sweep_launcher.{command}({argv!r}))"
)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Make a folder as pip installs this project, with a CLI that returns 42."""
    site = tmp_path / "site-packages"
    package = site / "supervisor"
    package.mkdir(parents=True)
    (site / "sweep_supervisor-0.1.0.dist-info").mkdir()
    (site / "_sweep_launcher.py").write_bytes((CHECKOUT / "_sweep_launcher.py").read_bytes())
    (package / "__init__.py").write_text(OURS)
    room = package / "cli"
    room.mkdir()
    for name in ("__init__.py", "other_supervisor.py"):
        (room / name).write_bytes((CHECKOUT / "supervisor" / "cli" / name).read_bytes())
    for cli in ("supervisord", "supervisorctl"):
        (room / f"{cli}.py").write_text(f"def main(argv):\n    print({cli!r}, argv)\n    return 42\n")
    return site


def launch(
    *search_path: Path, command: str = "supervisorctl", argv: tuple[str, ...] = ("status",)
) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(map(str, search_path))}
    return subprocess.run(
        # -S: no site-packages of the test's own environment; -B: no __pycache__ in the fixture.
        [sys.executable, "-S", "-B", "-c", CALL.format(command=command, argv=list(argv))],
        env=environment, cwd=search_path[0].parent, capture_output=True, text=True, timeout=NET_S, check=False,
    )  # fmt: skip


def refusal(result: subprocess.CompletedProcess[str]) -> str:
    """Return the message of a refused launch; check its exit code, its line for each path, and both cures."""
    assert result.returncode == 5, result.stderr
    assert result.stdout == ""
    for needle in (
        "expected (sweep-supervisor):",
        "found:",
        "virtual environment of its own",
        "`sweepd`",
        "`sweepctl`",
    ):
        assert needle in result.stderr
    return result.stderr


@pytest.mark.parametrize("command", ["supervisord", "supervisorctl"])
def test_a_sound_installation_starts_its_own_program_and_returns_its_exit_code(site: Path, command: str) -> None:
    result = launch(site, command=command, argv=("status", "--json"))
    assert (result.returncode, result.stdout.strip(), result.stderr) == (42, f"{command} ['status', '--json']", "")


@pytest.mark.parametrize("command", ["supervisord", "supervisorctl"])
def test_ctrl_c_before_a_verb_runs_ends_the_process_without_a_traceback(site: Path, command: str) -> None:
    room = site / "supervisor" / "cli"
    (room / f"{command}.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    result = launch(site, command=command)
    assert (result.returncode, result.stderr) == (-signal.SIGINT, "")


def test_another_package_first_on_the_path_is_refused_with_both_paths(site: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "supervisor"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("raise SystemExit('the foreign package must not be run')\n")
    message = refusal(launch(other.parent, site))
    assert str(other / "__init__.py") in message
    assert str(site / "supervisor" / "__init__.py") in message


def test_a_package_overwritten_by_the_other_one_is_refused(site: Path) -> None:
    (site / "supervisor" / "__init__.py").write_text("#\n")
    assert "overwritten" in refusal(launch(site))


def test_a_package_damaged_by_the_other_ones_removal_is_refused(site: Path) -> None:
    (site / "supervisor" / "__init__.py").unlink()
    assert "damaged" in refusal(launch(site))


@pytest.mark.parametrize("metadata", ["supervisor-4.3.0.dist-info", "supervisor-4.2.5.egg-info"])
def test_the_other_distribution_in_the_same_environment_is_refused_though_our_files_won(
    site: Path, metadata: str
) -> None:
    (site / metadata).mkdir()
    assert str(site / metadata) in refusal(launch(site))


def test_the_other_distribution_in_another_folder_of_the_path_is_no_problem(site: Path, tmp_path: Path) -> None:
    system = tmp_path / "dist-packages"
    (system / "supervisor-4.2.5.egg-info").mkdir(parents=True)
    assert launch(site, system).returncode == 42


def test_unreadable_entries_of_the_path_are_passed_over(site: Path, tmp_path: Path) -> None:
    archive = tmp_path / "python311.zip"
    archive.write_bytes(b"")
    assert launch(site, archive, tmp_path / "not there").returncode == 42


def test_this_installation_is_its_own() -> None:
    assert _sweep_launcher.find_intruder(CHECKOUT, sys.path) is None


def test_the_check_loads_nothing_heavy(site: Path) -> None:
    """importlib.metadata alone costs as much as the rest of a cold `status`."""
    code = (
        "import sys, _sweep_launcher as l; from pathlib import Path; "
        "print(l.find_intruder(Path(l.__file__).parent, sys.path)); print(*sys.modules, sep='\\n')"
    )
    result = subprocess.run(
        [sys.executable, "-S", "-B", "-c", code],
        env={"PYTHONPATH": str(site)}, capture_output=True, text=True, timeout=NET_S, check=True,
    )  # fmt: skip
    verdict, *modules = result.stdout.splitlines()
    assert verdict == "None"
    assert not {"importlib.metadata", "email", "zipfile", "json", "argparse", "subprocess"} & set(modules)


@pytest.mark.parametrize(
    ("program", "argv", "fact"),
    [
        ("supervisord", [], "expected a verb after"),
        ("supervisord", ["-n"], "-n is an option of Supervisor"),
        ("supervisord", ["-nc", "x.conf"], "-n is an option of Supervisor"),
        ("supervisord", ["--nodaemon"], "--nodaemon is an option of Supervisor"),
        ("supervisord", ["--loglevel=debug"], "--loglevel is an option of Supervisor"),
        ("supervisord", ["-c"], "-c is an option of Supervisor"),
        ("supervisord", ["-c", "gone.conf"], "gone.conf is not used"),
        ("supervisorctl", [], "expected a verb after"),
        ("supervisorctl", ["-s", "http://localhost:9001", "status"], "-s is an option of Supervisor"),
        ("supervisorctl", ["-i"], "-i is an option of Supervisor"),
    ],
)
def test_a_command_line_of_the_other_supervisor_is_explained(program: str, argv: list[str], fact: str) -> None:
    text = explain_foreign_flags(program, argv)
    assert text is not None
    assert fact in text
    assert "sweep-supervisor" in text
    assert "cure:" in text


@pytest.mark.parametrize("spelling", [["-c", "{}"], ["-c{}"], ["--configuration", "{}"], ["--configuration={}"]])
def test_a_configuration_of_the_other_supervisor_is_recognised_by_its_sections(
    tmp_path: Path, spelling: list[str]
) -> None:
    config = tmp_path / "x.conf"
    config.write_text("; managed\n[program:web]\ncommand=/bin/cat\n")
    text = explain_foreign_flags("supervisord", [part.format(config) for part in spelling])
    assert text is not None
    assert f"{config} is a configuration of Supervisor" in text
    assert "[program:web]" in text


def test_a_binary_configuration_file_is_explained_without_an_error(tmp_path: Path) -> None:
    config = tmp_path / "x.conf"
    config.write_bytes(bytes(range(256)) * 1000)
    text = explain_foreign_flags("supervisord", ["-c", str(config)])
    assert text is not None
    assert "is not used" in text


@pytest.mark.parametrize(
    ("program", "argv"),
    [
        ("supervisord", ["start", "smoke"]),
        ("supervisord", ["start", "smoke", "-n"]),
        ("supervisord", ["--help"]),
        ("supervisord", ["--version"]),
        ("supervisorctl", ["tail", "-n", "5"]),
        ("supervisorctl", ["-h"]),
    ],
)
def test_our_own_command_lines_pass(program: str, argv: list[str]) -> None:
    assert explain_foreign_flags(program, argv) is None


@pytest.mark.parametrize("command", ["supervisord", "supervisorctl"])
def test_a_foreign_command_line_ends_with_code_2_before_any_program_starts(site: Path, command: str) -> None:
    result = launch(site, command=command, argv=("-c", "/etc/supervisord.conf"))
    assert (result.returncode, result.stdout) == (2, "")
    assert "/etc/supervisord.conf" in result.stderr
