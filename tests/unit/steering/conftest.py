"""Keep the tests of steering short."""

from __future__ import annotations

import pytest

from supervisor.daemon.experiments import experiment_state


@pytest.fixture(autouse=True)
def short_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment_state, "BACKOFF_CAP_S", 0.1)
