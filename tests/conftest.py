"""Choose how much the property tests try, and which tests share a process.

A property test is written as `@given(...)` alone: the profile says how many examples it tries, few in `make test` and
many in `make test-all`. Write `@settings(max_examples=N)` only where one example costs more than about 10 ms, with an N
that keeps the test under a second. What must run longer to show anything is marked `slow`.
"""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, settings

# A busy machine must not fail a test, so neither an example's duration nor that of its data is judged.
UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
# `make test`: few examples, the same ones each time.
settings.register_profile("fast", UNTIMED, max_examples=20, derandomize=True, database=None)
# `make test-all`: many examples, others each time (pytest --hypothesis-profile=full).
settings.register_profile("full", UNTIMED, max_examples=200, print_blob=True)
settings.load_profile("fast")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--minutes", type=float, default=None, help="begin no test after so many minutes; skip the rest")


BEGAN_S = time.monotonic()


def pytest_runtest_setup(item: pytest.Item) -> None:
    minutes = item.config.getoption("--minutes")
    if minutes is not None and time.monotonic() - BEGAN_S > 60 * minutes:
        pytest.skip(f"the {minutes:g} minutes are over")


def needs_ray_head(item: pytest.Item) -> bool:
    return "ray_head" in getattr(item, "fixturenames", ())


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give one process all tests on the shared Ray head, and begin with them, for they take longest.

    The tests of any other file stay together too, since they share the fixtures of their module.
    """
    items.sort(key=lambda item: not needs_ray_head(item))
    for item in items:
        group = "ray_head" if needs_ray_head(item) else item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))
