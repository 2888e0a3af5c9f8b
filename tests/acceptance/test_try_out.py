"""A plan's trainable is imported before a start, and tried for one epoch where that is asked for."""

from __future__ import annotations

import pytest

from tests.acceptance.conftest import Sweep


@pytest.mark.slow
def test_a_plan_whose_trainable_cannot_be_imported_starts_nothing(sweep: Sweep) -> None:
    plan = sweep.plan("lost")
    (sweep.folder / "quick.py").write_text("def objectives(config): pass\n")
    for arguments in (("check", plan), ("start", plan, "--dry-run"), ("start", plan)):
        refused = sweep.d(*arguments)
        assert refused.returncode != 0
        assert "quick has no 'objective'" in refused.stdout + refused.stderr
        assert "did you mean objectives?" in refused.stdout + refused.stderr
    assert not sweep.home.store.exists()


@pytest.mark.slow
def test_one_epoch_is_tried_in_a_home_of_its_own(sweep: Sweep) -> None:
    good = sweep.d("check", sweep.plan("good"), "--try")
    assert "its first epoch ended with" in good.stdout, good.stdout + good.stderr
    wrong = sweep.d("check", sweep.plan("wrong"), "--try", "--set", "metric=los")
    assert wrong.returncode == 1
    assert "did you mean loss?" in wrong.stdout
    assert not sweep.home.store.exists()
