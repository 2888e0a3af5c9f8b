"""The bug report: bounded, private, without secrets and without data, also from a broken home."""

from __future__ import annotations

import errno
import io
import json
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.cli import supervisorctl
from supervisor.cli.doctor import bundle, examine
from supervisor.errors import UsageError
from supervisor.home import Home
from supervisor.preflight.machine import ok
from tests.unit.cli.doctor.broken_home import sound_home

SECRET, TOKEN, ADDRESS = "s3cr3t-of-the-environment", "f" * 64, "ntfy://ann:pass-of-ann@example.org/topic"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("MY_API_KEY", SECRET)
    monkeypatch.setenv("RAY_SECRET", SECRET)
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path / "home"))
    home = sound_home(tmp_path / "home")
    home.ray_token.write_text(TOKEN)
    home.notify.write_text(f"{ADDRESS}\n")
    return home


def read(file: Path) -> dict[str, str]:
    """Return the texts of a bundle by name."""
    with tarfile.open(file) as archive:
        return {
            entry.name: archive.extractfile(entry).read().decode()  # type: ignore[union-attr]
            for entry in archive.getmembers()
        }


def test_a_bundle_has_checks_environment_packages_status_and_logs(home: Home, tmp_path: Path) -> None:
    (home.logs / "daemon.log").write_text(f"line\ntoken={TOKEN}\nkey {SECRET}\nto {ADDRESS}\n")
    written = bundle.write(home, {"verdict": "wrong"}, tmp_path / "b.tar.gz")
    texts = read(tmp_path / "b.tar.gz")
    names = {name.rpartition("/")[2] for name in texts}
    assert {"checks.json", "environment.json", "packages.txt", "status.json"} <= names
    assert written.files == len(texts)
    assert json.loads(texts["sweep-doctor/status.json"])["run"]["id"] == "smoke-1"
    everything = "\n".join(texts.values())
    assert "line" in everything
    assert not any(secret in everything for secret in (SECRET, TOKEN, ADDRESS, "pass-of-ann"))
    assert stat.S_IMODE((tmp_path / "b.tar.gz").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("config:\n  api_key: hunter2 and more\n  lr: 0.1\n", "config:\n  api_key: ***\n  lr: 0.1\n"),
        ("config: {wandb_api_key: hunter2, lr: 0.1}", "config: {wandb_api_key: ***, lr: 0.1}"),
        ("- password: hunter2", "- password: ***"),
        ("ran train --token hunter2 --lr 0.1", "ran train --token *** --lr 0.1"),
        ("max_tokens: 512\nmax_epochs: 3", "max_tokens: 512\nmax_epochs: 3"),
    ],
)
def test_secrets_of_a_plan_and_of_command_lines_are_hidden(text: str, shown: str) -> None:
    assert bundle.Cleaner({}, "").clean(text) == shown


def test_each_part_of_an_address_is_hidden_and_words_of_comments_are_not(home: Home) -> None:
    home.notify.write_text(
        "# addresses for messages\nping = https://hc-ping.com/0a1b2c3d-4e5f  # check of today\nntfy://my-secret-topic\n"
        "# ntfy://an-older-topic\n"
    )
    cleaned = bundle.Cleaner.of(home).clean(
        "POST https://ntfy.sh/my-secret-topic, GET https://hc-ping.com/0a1b2c3d-4e5f/start, an-older-topic, messages"
    )
    assert not any(part in cleaned for part in ("my-secret-topic", "0a1b2c3d", "an-older-topic"))
    assert cleaned.endswith("messages")


def test_the_live_pages_token_is_hidden_and_the_name_of_its_run_is_not(home: Home) -> None:
    token, run = "0a" * 32, "phase6a-20261130-101500"
    home.page.write_text(json.dumps({"token": token, "port": 8123, "run": run}))
    assert bundle.Cleaner.of(home).clean(f"page {token} of {run}") == f"page *** of {run}"


def test_a_secret_with_letters_beyond_ascii_is_hidden_in_json(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_API_KEY", "gehe\N{LATIN SMALL LETTER I WITH DIAERESIS}mnis")
    bundle.write(home, {"checks": [{"detail": f"found {os.environ['MY_API_KEY']}"}]}, tmp_path / "b.tar.gz")
    assert '"found ***"' in read(tmp_path / "b.tar.gz")["sweep-doctor/checks.json"]


def test_a_disk_that_fills_leaves_no_half_of_a_bundle(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.FileIO):
        def write(self, content: Any) -> int:
            super().write(content[:10])
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(bundle.os, "fdopen", lambda descriptor, mode: Full(descriptor, mode))  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="No space left"):
        bundle.write(home, {}, tmp_path / "b.tar.gz")
    assert not (tmp_path / "b.tar.gz").exists()


def test_the_environment_shows_only_variables_that_steer_this_program() -> None:
    shown = bundle.environment(
        {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "0", "RAY_AUTH_TOKEN": "x1", "MY_API_KEY": "x2", "MAIL": "x3"}
    )
    assert shown == {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "0", "RAY_AUTH_TOKEN": "***"}


@given(st.lists(st.integers(0, 30), max_size=60), st.integers(1, 400))
@settings(max_examples=60)
def test_no_part_of_a_secret_survives_a_cut_at_any_place(widths: list[int], size: int) -> None:
    """A cut between the name of a secret and its value would hide that it is one."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "log"
        file.write_text("".join(f"{'x' * width} password=hunter2hunter2\n" for width in widths))
        cleaned = bundle.Cleaner({}, "").clean(bundle.end_of(file, size))
    assert "hunter2" not in cleaned
    assert len(cleaned) <= size


def test_of_a_long_line_without_an_end_nothing_is_taken(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("token=" + "a" * 1000)
    assert bundle.end_of(tmp_path / "log", 100) == ""


def test_a_bundle_follows_no_link_and_waits_for_no_pipe(home: Home, tmp_path: Path) -> None:
    (tmp_path / "private").write_text("the diary of another")
    (home.logs / "daemon.log").symlink_to(tmp_path / "private")
    os.mkfifo(home.logs / "debug.jsonl")
    bundle.write(home, {}, tmp_path / "b.tar.gz")
    assert "diary" not in "".join(read(tmp_path / "b.tar.gz").values())


def test_a_bundle_holds_no_data_and_no_prints_of_trials(home: Home, tmp_path: Path) -> None:
    session = home.ray_temp / "session_latest" / "logs"
    session.mkdir(parents=True)
    for name in ("worker-1.out", "worker-1.err", "job-driver-1.log"):
        (session / name).write_text("rows of a dataset\n")
    (session / "raylet.err").write_text("the raylet's words\n")
    (home.data / "SPY.csv").write_text("rows of a dataset\n")
    bundle.write(home, {}, tmp_path / "b.tar.gz")
    everything = "".join(read(tmp_path / "b.tar.gz").values())
    assert "the raylet's words" in everything
    assert "rows of a dataset" not in everything


def test_a_bundle_is_bounded(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MAX_BYTES", 50_000)
    (home.logs / "daemon.log").write_text("y" * 49_000 + "\n" + "z" * 49_000 + "\n")
    bundle.write(home, {}, tmp_path / "b.tar.gz")
    texts = read(tmp_path / "b.tar.gz")
    assert "LEFT-OUT" in list(texts)[-1]
    assert sum(map(len, texts.values())) < 51_000


def test_a_broken_home_gives_a_bundle_too(home: Home, tmp_path: Path) -> None:
    home.store.write_bytes(b"no database")
    home.ray_token.unlink()
    home.ray_token.mkdir()
    bundle.write(home, {}, tmp_path / "b.tar.gz")
    assert "problem" in json.loads(read(tmp_path / "b.tar.gz")["sweep-doctor/status.json"])


def test_an_existing_file_stays(home: Home, tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        bundle.write(home, {}, mine)
    with pytest.raises(UsageError, match="exists already"):
        bundle.refuse_existing(mine)
    with pytest.raises(UsageError, match="is no folder"):
        bundle.refuse_existing(tmp_path / "none" / "b.tar.gz")
    assert mine.read_text() == "mine"


def test_doctor_writes_the_bundle_and_says_what_to_do_with_it(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(examine, "steps", lambda _: [("clock", lambda: ok("clock", "plausible"))])
    file = tmp_path / "b.tar.gz"
    assert supervisorctl.main(["doctor", "--bundle", str(file)]) == 0
    assert f"tar tzf {file}" in capsys.readouterr().err
    assert json.loads(read(file)["sweep-doctor/checks.json"])["checks"][0]["name"] == "clock"
    assert supervisorctl.main(["doctor", "--bundle", str(file)]) == 2
