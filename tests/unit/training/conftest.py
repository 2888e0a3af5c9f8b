"""Two datasets for all tests of training, each built once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.training.small_trial import build


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def stationary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("stationary"), "s28")
