"""Splits share no day, keep the same dates for every horizon, and keep the test sealed."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from training.data.splits import Indices, SplitIndices, TestOpening, open_test, split_days
from training.errors import SealedTestError, SplitError
from training.settings import SplitSettings


def days_of(samples: Indices, context: int, horizon: int) -> set[int]:
    """Every day that a set of samples sees or is labelled from, by the definition."""
    return {day for sample in samples for day in range(sample - context + 1, sample + horizon + 1)}


def opening(path: Path) -> TestOpening:
    return TestOpening(path, "a person", "the final answer", "abc", "2026-01-01T00:00:00+00:00")


@st.composite
def layouts(draw: st.DrawFn) -> tuple[int, int, SplitSettings]:
    context, purge = draw(st.integers(2, 40)), draw(st.integers(1, 10))
    train = draw(st.floats(0.3, 0.7))
    split = SplitSettings(
        kind=draw(st.sampled_from(["contiguous", "chunks", "folds"])),
        train_fraction=train,
        val_fraction=draw(st.floats(0.1, 0.9 - train)),
        purge=purge,
        blocks=draw(st.integers(2, 6)),
        folds=draw(st.integers(2, 6)),
        min_val_windows=1,
    )
    return draw(st.integers(300, 2500)), context, split


@given(layouts())
def test_no_two_parts_share_a_day_and_none_leaves_the_table(layout: tuple[int, int, SplitSettings]) -> None:
    rows, context, split = layout
    try:
        parts = split_days(rows, context, split)
    except SplitError:
        assume(False)
    test = parts.test_indices._hidden
    touched = [days_of(part, context, split.purge) for part in (parts.train_indices, parts.val_indices, test)]
    assert all(touched)
    assert len(set.union(*touched)) == sum(len(days) for days in touched)
    assert min(set.union(*touched)) >= 0
    assert max(set.union(*touched)) <= rows - 1
    assert {int(row) for row in np.flatnonzero(~parts.visible_rows)} == touched[2]


@given(layouts())
def test_a_fold_trains_before_its_validation_and_tests_after_it(layout: tuple[int, int, SplitSettings]) -> None:
    rows, context, other = layout
    split = replace(other, kind="folds")
    try:
        search = split_days(rows, context, split)
    except SplitError:
        assume(False)
    folds = [split_days(rows, context, split, fold) for fold in split.test_folds]
    assert np.array_equal(np.concatenate([fold.val_indices for fold in folds]), search.val_indices)
    tests = [fold.test_indices._hidden for fold in folds]
    assert np.array_equal(np.concatenate(tests), search.test_indices._hidden)
    assert np.array_equal(folds[-1].train_indices, search.train_indices)
    for fold, test in zip(folds, tests, strict=True):
        assert set(fold.train_indices) <= set(search.train_indices)
        seen = [days_of(part, context, split.purge) for part in (fold.train_indices, fold.val_indices, test)]
        assert max(seen[0]) < min(seen[1]) <= max(seen[1]) < min(seen[2])
        visible = {int(row) for row in np.flatnonzero(fold.visible_rows)}
        assert seen[0] | seen[1] <= visible
        assert max(visible) == max(seen[1])
        assert not visible & set.union(*(days_of(other, context, split.purge) for other in tests))


def test_folds_lie_years_apart_and_share_validation_and_test_evenly() -> None:
    split = SplitSettings(kind="folds")
    folds = [split_days(5000, 80, split, fold) for fold in split.test_folds]
    assert [len(fold.val_indices) for fold in folds] == [250 - 84] * 3
    assert [len(fold.test_indices) for fold in folds] == [250 - 84] * 3
    starts = [int(fold.val_indices[0]) for fold in folds]
    assert all(later - earlier > 4 * 252 for earlier, later in itertools.pairwise(starts))
    assert folds[-1].test_indices._hidden[-1] == 5000 - 5 - 1
    assert [round(len(fold.train_indices) / 5000, 2) for fold in folds] == [0.45, 0.55, 0.65]


def test_one_fold_would_be_the_contiguous_split() -> None:
    one, before = split_days(4321, 80, SplitSettings(kind="folds", folds=1)), split_days(4321, 80, SplitSettings())
    assert np.array_equal(one.train_indices, before.train_indices)
    assert np.array_equal(one.val_indices, before.val_indices)
    assert np.array_equal(one.test_indices._hidden, before.test_indices._hidden)


def test_contiguous_goes_forward_in_time_and_wastes_only_purge_and_embargo() -> None:
    split = SplitSettings(purge=5)
    parts = split_days(5000, 80, split)
    test = parts.test_indices._hidden
    assert parts.train_indices[0] == 79
    assert parts.train_indices[-1] < parts.val_indices[0] < parts.val_indices[-1] < test[0]
    assert parts.val_indices[0] - parts.train_indices[-1] == 80 + 5
    assert test[-1] == 5000 - 5 - 1
    for part in (parts.train_indices, parts.val_indices, test):
        assert np.array_equal(part, np.arange(part[0], part[-1] + 1))


def test_chunks_hold_validation_out_of_every_part_of_the_timeline() -> None:
    parts = split_days(5000, 30, SplitSettings(kind="chunks", blocks=5))
    for block in range(5):
        inside = (parts.val_indices >= block * 1000) & (parts.val_indices < (block + 1) * 1000)
        assert inside.sum() > 50


def test_too_few_validation_windows_say_what_to_change() -> None:
    with pytest.raises(SplitError, match="expected at least 200 validation windows") as caught:
        split_days(1500, 80, SplitSettings())
    assert "longer history" in caught.value.remedy
    assert "About 1,894 days are enough" in caught.value.remedy
    assert len(split_days(1894, 80, SplitSettings()).val_indices) >= 200


def test_a_history_too_short_for_its_folds_says_how_long_it_must_be() -> None:
    with pytest.raises(SplitError, match="found 72 in 2,160 days") as caught:
        split_days(2160, 80, SplitSettings(kind="folds"))
    assert "About 3,014 days are enough" in caught.value.remedy
    assert "split.folds" in caught.value.remedy
    with pytest.raises(SplitError, match="no test window of fold 1"):
        split_days(2160, 80, SplitSettings(kind="folds", val_fraction=0.25, min_val_windows=1))


def test_a_part_without_a_window_is_refused() -> None:
    with pytest.raises(SplitError, match="no test window"):
        split_days(2000, 80, SplitSettings(train_fraction=0.6, val_fraction=0.38))


class TestTheSeal:
    """The test split can be counted; only a recorded opening can read it, once."""

    def parts(self) -> SplitIndices:
        return split_days(5000, 80, SplitSettings())

    def test_it_shows_its_size_and_nothing_else(self) -> None:
        sealed = self.parts().test_indices
        assert len(sealed) == 5000 * 0.15 - 84
        assert "hidden" not in repr(sealed)
        with pytest.raises(SealedTestError):
            list(sealed)
        with pytest.raises(SealedTestError):
            np.asarray(sealed)

    def test_it_opens_for_a_recorded_opening(self, tmp_path: Path) -> None:
        record = tmp_path / "test-opened.json"
        indices = open_test(self.parts(), opening(record))
        assert len(indices) == len(self.parts().test_indices)
        assert json.loads(record.read_text()) == {
            "opened_by": "a person",
            "reason": "the final answer",
            "dataset_sha256": "abc",
            "opened_at": "2026-01-01T00:00:00+00:00",
        }
        assert record.stat().st_mode & 0o777 == 0o600

    def test_its_record_survives_a_power_cut(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        synced: list[Path] = []
        monkeypatch.setattr("training.data.splits.sync_folder", synced.append)
        open_test(self.parts(), opening(tmp_path / "test-opened.json"))
        assert synced == [tmp_path]

    def test_it_does_not_open_twice(self, tmp_path: Path) -> None:
        record = tmp_path / "test-opened.json"
        open_test(self.parts(), opening(record))
        before = record.read_bytes()
        with pytest.raises(SealedTestError, match="opened before"):
            open_test(self.parts(), opening(record))
        assert record.read_bytes() == before

    @pytest.mark.parametrize("token", [None, True, "please"])
    def test_it_does_not_open_for_anything_else(self, token: object) -> None:
        with pytest.raises(SealedTestError, match="expected a TestOpening"):
            open_test(self.parts(), token)  # type: ignore[arg-type]
