"""Choose how much the property tests try, and which tests share a process.

A property test is written as `@given(...)` alone: the profile says how many examples it tries, few in `make test` and
many in `make test-all`. Write `@settings(max_examples=N)` only where one example costs more than about 10 ms, with an N
that keeps the test under a second. What must run longer to show anything is marked `slow`.
"""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# A busy machine must not fail a test, so neither an example's duration nor that of its data is judged.
UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
# `make test`: few examples, the same ones each time.
settings.register_profile("fast", UNTIMED, max_examples=20, derandomize=True, database=None)
# `make test-all`: many examples, others each time (pytest --hypothesis-profile=full).
settings.register_profile("full", UNTIMED, max_examples=200, print_blob=True)
settings.load_profile("fast")


# A call of Ray where none runs must fail, rather than start a Ray in the tests' own process.
os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--minutes", type=float, default=None, help="begin no test after so many minutes; skip the rest")


BEGAN_S = time.monotonic()


def pytest_runtest_setup(item: pytest.Item) -> None:
    minutes = item.config.getoption("--minutes")
    if minutes is not None and time.monotonic() - BEGAN_S > 60 * minutes:
        pytest.skip(f"the {minutes:g} minutes are over")


RAY = "tests/integration/"
"""The folder whose tests share one Ray head."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests on Ray: no others take as long."""
    items.sort(key=lambda item: not item.nodeid.startswith(RAY))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give one process all tests on Ray, so that there is one head; the others take one file at a time.

    xdist's own groups (`--dist loadgroup`) have no effect under pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling

    class FilesAndOneRay(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return RAY if nodeid.startswith(RAY) else nodeid.partition("::")[0]

        def remove_node(self, node: Any) -> str | None:
            """Put back only files with tests left to run.

            xdist puts back those that are done, too. A process that then takes one, with its last test at hand,
            gets no further message and waits for ever.
            """
            work = self.assigned_work[node]
            for file in [file for file, done in work.items() if all(done.values())]:
                del work[file]
            crashed: str | None = super().remove_node(node)
            return crashed

    return FilesAndOneRay(config, log)
