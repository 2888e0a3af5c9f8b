"""Give the tests of the store a run with one experiment."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.store.run_writer import RunWriter
from tests.unit.store.writers import make_writer


@pytest.fixture
def writer(tmp_path: Path) -> RunWriter:
    return make_writer(tmp_path / "sweep.db")
