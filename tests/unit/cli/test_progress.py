"""Progress: a line that comes late and goes on a terminal, one line elsewhere, and no output beside it."""

from __future__ import annotations

import io
import threading

import pytest

from supervisor.cli.guide import progress
from supervisor.cli.guide.progress import working


class Terminal(io.StringIO):
    """A terminal; `shown` is set once something was written."""

    def __init__(self) -> None:
        super().__init__()
        self.shown = threading.Event()

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        written = super().write(text)
        self.shown.set()
        return written


def test_elsewhere_one_line_is_printed_at_once() -> None:
    out = io.StringIO()
    with working("writing the report", out) as say:
        assert out.getvalue() == "writing the report ...\n"
        say("still writing")
    assert out.getvalue() == "writing the report ...\n"


def test_quick_work_prints_elsewhere_only_what_it_says_itself() -> None:
    out = io.StringIO()
    with working("estimating", out, quick=True):
        pass
    assert out.getvalue() == ""
    with working("estimating", out, quick=True) as say:
        say("timing steps, at most 60 s")
        say("step 2")
    assert out.getvalue() == "timing steps, at most 60 s ...\n"


class File(Terminal):
    """A file, or a pipe."""

    def isatty(self) -> bool:
        return False


def test_quick_work_that_takes_long_is_not_silent_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SILENT_S", 0.0)
    out = File()
    with working("reading every file", out, quick=True):
        out.shown.wait()
    assert out.getvalue().startswith("reading every file ...")


def test_short_work_shows_nothing_on_a_terminal() -> None:
    out = Terminal()
    with working("quick", out):
        pass
    assert out.getvalue() == ""


def test_long_work_shows_its_words_and_seconds_and_wipes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "QUIET_S", 0.0)
    monkeypatch.setattr(progress, "TICK_S", 0.001)
    out, times = Terminal(), iter([10.0, 13.0])
    with working(lambda: "building", out, lambda: next(times, 15.0)):
        out.shown.wait()
    text = out.getvalue()
    assert text.startswith("\rbuilding ... 3 s")
    last = text.rsplit("\r", 2)
    assert (last[1].strip(), last[2]) == ("", ""), "the line is wiped, and the cursor is at its begin"


def test_an_error_ends_the_line_and_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "QUIET_S", 0.0)
    out = Terminal()

    def fail() -> None:
        with working("building", out):
            out.shown.wait()
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert out.getvalue().endswith("\r"), "the line is wiped"


def test_a_terminal_that_was_closed_does_not_end_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "QUIET_S", 0.0)
    out = Terminal()
    written = threading.Event()

    def fail(_: str) -> int:
        written.set()
        raise OSError("Input/output error")

    out.write = fail  # type: ignore[method-assign]
    with working("building", out):
        written.wait()
