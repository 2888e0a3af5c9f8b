"""Choose how much the property tests try: little in `make test`, much in `make test-all`.

A property test is written as `@given(...)` alone; the profile says how many examples it tries. Write
`@settings(max_examples=N)` only where one example costs more than about 10 ms, with an N that keeps the test under a
second. What must run longer to show anything is marked `slow`.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A busy machine must not fail a test, so neither an example's duration nor that of its data is judged.
UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
# `make test`: few examples, the same ones each time.
settings.register_profile("fast", UNTIMED, max_examples=20, derandomize=True, database=None)
# `make test-all`: many examples, others each time (pytest --hypothesis-profile=full).
settings.register_profile("full", UNTIMED, max_examples=200, print_blob=True)
settings.load_profile("fast")
