"""Test the end of `check --try`: its daemon never outlives the command."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from supervisor.cli import try_out
from supervisor.control.handshake import StartRequest

PID = 4242


def test_ctrl_c_ends_the_daemon_of_a_try_before_its_home_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon is in a session of its own: the terminal's signal does not reach it."""
    happened: list[Any] = []

    def waits(_: object, within_s: float) -> bool:
        happened.append(within_s)
        if within_s == try_out.TRY_WITHIN_S:
            raise KeyboardInterrupt
        return True

    monkeypatch.setattr(try_out, "one_trial", lambda request: request)
    monkeypatch.setattr(try_out, "start_daemon", lambda *_: {"pid": PID})
    monkeypatch.setattr(try_out, "_wait_until_free", waits)
    monkeypatch.setattr(os, "kill", lambda *signalled: happened.append(signalled))
    with pytest.raises(KeyboardInterrupt):
        try_out.try_one(StartRequest.__new__(StartRequest))
    assert happened == [try_out.TRY_WITHIN_S, (PID, signal.SIGTERM), try_out.END_WITHIN_S]
