"""Test a plan's file that changes after the run began: it is reported only."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.errors import PlanError
from supervisor.plan.drift import MAX_CHANGES, PlanSource, differences, sha256_of
from supervisor.plan.loader import load_plan


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(load_plan("smoke").text.replace("name: smoke", "name: mine"))
    return path


def test_an_edit_is_reported_key_by_key_until_it_is_undone(file: Path) -> None:
    text = file.read_text()
    source = PlanSource(file, sha256_of(file))
    assert source.changed() is False
    assert source.reread(text).changes == ()
    file.write_text(text.replace("name: mine", "name: other"))
    assert source.changed() is True
    assert source.reread(text).changes == ("name: mine -> other",)
    file.write_text(text + "\n")
    assert source.changed() is True, "the hash differs, though no value does"
    assert source.reread(text).changes == ()
    file.write_text(text)
    assert source.changed() is False


def test_an_edit_that_makes_the_plan_invalid_is_reported(file: Path) -> None:
    text = file.read_text()
    source = PlanSource(file, sha256_of(file))
    file.write_text("name: [")
    found = source.reread(text)
    assert found.error is not None
    assert "not YAML" in found.error
    file.unlink()
    assert "does not exist" in str(source.reread(text).error)
    assert source.changed() is None, "without a file it is unknown"


def test_a_plan_without_file_or_hash_is_never_called_changed() -> None:
    assert PlanSource(None, None).view() is None
    assert PlanSource(None, None).changed() is None
    assert PlanSource(Path(__file__), None).changed() is None


def test_a_file_too_large_for_a_plan_is_not_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "huge.yaml").write_bytes(b"#" * 2_000_000)
    with pytest.raises(PlanError, match="larger than"):
        sha256_of(tmp_path / "huge.yaml")
    assert PlanSource(tmp_path / "huge.yaml", "0").changed() is None


def test_differences_have_dotted_keys_and_short_values() -> None:
    before = {"a": {"b": 1, "c": "x" * 100}, "d": [1, 2]}
    assert differences(before, before) == []
    assert differences(before, {"a": {"b": 2}, "d": [1, 2], "e": None}) == [
        "a.b: 1 -> 2", f"a.c: {'x' * 57}... -> absent", "e: absent -> None",
    ]  # fmt: skip
    assert MAX_CHANGES == 20
