"""sd_notify: the datagram that a service manager waits for; nothing is sent without a manager."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from supervisor.daemon.upkeep.sd_notify import ServiceNotify


def test_the_manager_gets_the_datagram_and_children_cannot_send_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "n"))
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "n"))
        notify = ServiceNotify()
        assert "NOTIFY_SOCKET" not in os.environ
        notify.send(READY="1", STATUS="two of three")
        assert manager.recv(200) == b"READY=1\nSTATUS=two of three"


def test_an_abstract_address_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0sweep-test-notify")
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", "@sweep-test-notify")
        ServiceNotify().send(STOPPING="1")
        assert manager.recv(200) == b"STOPPING=1"


def test_without_a_manager_or_with_a_dead_one_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert ServiceNotify().send(READY="1") is None
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    assert ServiceNotify().send(READY="1") is None
