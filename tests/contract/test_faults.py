"""Check docs/reliability.md: its table is made from the tests' marks, and the tests that it names exist."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest

from tests.acceptance.faults import table


@functools.cache
def faults() -> list[table.Fault]:
    return table.collect()


def test_the_table_of_faults_is_fresh() -> None:
    """If not: `python -m tests.acceptance.faults.table`."""
    page = table.PAGE.read_text()
    assert table.with_table(page, faults()) == page


def test_each_fault_is_judged_by_what_store_log_or_checker_say() -> None:
    assert [f"{fault.module}: {fault.test}" for fault in faults() if not fault.has_evidence] == []


def test_a_mark_that_is_no_fault_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "test_x.py").write_text('@pytest.mark.fault("x", "a")\ndef test_y(): ...\n')
    with pytest.raises(ValueError, match=r"test_x.py:1: a fault's mark is number, fault and outcome"):
        table.collect(tmp_path)


def test_each_number_has_its_test_and_nearly_all_faults_are_real() -> None:
    """A fault is faked only where a Linux machine cannot be brought to have it."""
    assert sorted({fault.number for fault in faults()}) == list(table.NUMBERS)
    assert len({fault.number for fault in faults() if fault.faked is None}) >= table.REAL_AT_LEAST


def test_each_test_file_that_the_page_names_exists() -> None:
    files = {path.stem for path in (table.CHECKOUT / "tests").rglob("test_*.py")}
    tests = {fault.test for fault in faults()}
    assert set(re.findall(r"`(test_\w+)`", table.PAGE.read_text())) - files - tests == set()
