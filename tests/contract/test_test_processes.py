"""Test how the tests are shared between processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.waits import NET_S

ROOT = Path(__file__).resolve().parents[2]
FILES, TESTS = 6, 2

TEST_FILE = """
import os
import pathlib
import pytest

ONCE = pathlib.Path(__file__).with_name("crashed")

@pytest.mark.parametrize("number", range({tests}))
def test_of_file_{file}(number):
    if ({file}, number) == (3, 0) and not ONCE.exists():
        ONCE.touch()
        os._exit(1)
"""


def test_a_test_process_that_dies_fails_its_test_and_leaves_no_other_out(tmp_path: Path) -> None:
    for file in range(FILES):
        (tmp_path / f"test_{file:02}.py").write_text(TEST_FILE.format(file=file, tests=TESTS))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    ended = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-n", "2", "--no-loadscope-reorder", "-p", "tests.conftest",
            "-p", "no:cacheprovider", f"--rootdir={tmp_path}", str(tmp_path),
        ],
        capture_output=True, text=True, timeout=NET_S, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""}, check=False,
    )  # fmt: skip
    # The test is run again after its failure was recorded.
    assert f"1 failed, {FILES * TESTS} passed" in ended.stdout, ended.stdout + ended.stderr
