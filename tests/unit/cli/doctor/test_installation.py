"""The checks of the installation: the commands' owner, limits, shared memory."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from supervisor.cli.doctor import installation
from supervisor.home import Home
from supervisor.preflight.machine import Level

OURS, THEIRS = "#!/x/python\nfrom _sweep_launcher import supervisord\n", "#!/x/python\nfrom supervisor import x\n"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "own" / "bin"
    folder.mkdir(parents=True)
    for name in installation.COMMANDS:
        (folder / name).write_text(OURS)
    return folder


@pytest.mark.parametrize(
    ("script", "level", "words"),
    [
        (OURS, Level.WARNING, "another copy"),
        (THEIRS, Level.WARNING, "another program"),
        (None, Level.OK, "not on PATH"),
    ],
)
def test_the_owner_of_a_command_on_the_path_is_named(
    own: Path, tmp_path: Path, script: str | None, level: Level, words: str
) -> None:
    found = tmp_path / "supervisord"
    if script is not None:
        found.write_text(script)
    checks = installation.check_commands(own, lambda _: None if script is None else str(found))
    assert {check.level for check in checks} == {level}
    assert all(words in check.detail for check in checks)
    if level is Level.WARNING:
        assert "sweepd" in (checks[0].remedy or "")
        assert "sweepctl" in (checks[1].remedy or "")


def test_own_commands_on_the_path_are_right_and_missing_ones_an_error(own: Path) -> None:
    found = installation.check_commands(own, lambda name: str(own / name))
    assert [check.level for check in found] == [Level.OK, Level.OK]
    (own / "supervisorctl").unlink()
    found = installation.check_commands(own, lambda name: str(own / name))
    assert [check.level for check in found] == [Level.OK, Level.ERROR]
    assert "make install" in (found[1].remedy or "")


def test_a_link_to_an_own_command_is_right(own: Path, tmp_path: Path) -> None:
    """Link the command as pipx and uv put it on the PATH."""
    for name in installation.COMMANDS:
        (tmp_path / name).symlink_to(own / name)
    found = installation.check_commands(own, lambda name: str(tmp_path / name))
    assert [check.level for check in found] == [Level.OK, Level.OK]


@pytest.mark.parametrize(
    ("soft", "level"), [(256, Level.WARNING), (1024, Level.OK), (resource.RLIM_INFINITY, Level.OK)]
)
def test_few_open_files_are_a_warning(soft: int, level: Level) -> None:
    assert installation.check_open_files(soft).level is level


def test_little_shared_memory_is_a_warning_and_none_no_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert installation.check_shared_memory(tmp_path / "none") == []
    monkeypatch.setattr(installation, "free_bytes", lambda _: 64 * 2**20)
    (found,) = installation.check_shared_memory(tmp_path)
    assert (found.level, "--shm-size" in (found.remedy or "")) == (Level.WARNING, True)


@pytest.mark.parametrize(("encodings", "level"), [(["utf-8", "UTF8"], Level.OK), (["ascii", "utf-8"], Level.WARNING)])
def test_a_terminal_without_our_signs_is_a_warning(encodings: list[str | None], level: Level) -> None:
    assert installation.check_encoding(encodings).level is level


def test_the_home_and_its_origin_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path))
    assert f"home {tmp_path} (SWEEP_HOME)" in installation.check_environment(Home(tmp_path)).detail
