"""Give the tests of the control room a home whose socket has a short path."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.home import Home


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short, because a socket's path is: pytest's own folders are too deep on some machines."""
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        yield Path(made)


@pytest.fixture
def home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(Home, "runtime", lambda self: folder)
    return Home(folder)
