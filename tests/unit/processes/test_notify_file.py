"""The file of addresses: one a line, a ping, a time for the digest; a mistake is told without quoting it."""

from __future__ import annotations

from datetime import time
from pathlib import Path

import pytest

from supervisor.errors import UnsafeFile, UsageError
from supervisor.processes.notify_file import DIGEST_AT, NotifySettings, label, read_settings

SECRET = "hunter2"
ADDRESS = f"ntfy://me:{SECRET}@example.org/topic?priority=high"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "notify"
    path.touch(mode=0o600)
    return path


def test_the_addresses_are_the_lines_that_are_no_comment_and_no_setting(file: Path) -> None:
    settings = ("ping = https://a.example/u?k=1", "digest=7:30  # early")
    lines = ("\ufeff# mine", "", ADDRESS, "  json://a  # my phone", ADDRESS, *settings)
    file.write_text("\n".join(lines))
    assert read_settings(file) == NotifySettings((ADDRESS, "json://a"), "https://a.example/u?k=1", time(7, 30))
    file.write_text(f"{ADDRESS}\nDigest = OFF\n")
    assert read_settings(file).digest_at is None
    file.unlink()
    assert read_settings(file) == NotifySettings((), None, DIGEST_AT)


@pytest.mark.parametrize(
    ("line", "message", "cure"),
    [
        (f"mailto {SECRET}", "line 2: expected SERVICE", "one address a line"),
        (f"ping = file:///{SECRET}", "line 2: expected ping = https://", "copy the URL"),
        (f"ping = {SECRET}", "line 2: expected ping = https://", "copy the URL"),
        (f"digest = {SECRET}", "line 2: expected digest = HH:MM or off", "digest = 08:00"),
        ("digest = 24:00", "line 2: expected digest = HH:MM or off", "digest = 08:00"),
        (f"pings = https://{SECRET}", "expected an address or one of ping, digest, found the name pings", "mean ping"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_its_cure_without_quoting_it(
    file: Path, line: str, message: str, cure: str
) -> None:
    file.write_text(f"ntfy://ok\n{line}\n")
    with pytest.raises(UsageError, match=message) as caught:
        read_settings(file)
    assert SECRET not in caught.value.render()
    assert cure in (caught.value.remedy or "")


def test_links_and_too_many_addresses_are_refused(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(file)
    with pytest.raises(UnsafeFile):
        read_settings(link)
    file.write_text("".join(f"ntfy://a{n}\n" for n in range(21)))
    with pytest.raises(UsageError, match="more than 20"):
        read_settings(file)


def test_texts_name_an_address_by_scheme_and_position() -> None:
    assert label(2, ADDRESS) == "ntfy (address 2)"
