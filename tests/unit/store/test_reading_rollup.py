"""Test readings by the minute: smallest, mean and largest value stay."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from supervisor.store.reading_rollup import ReadingRollup

VALUES = st.none() | st.floats(-100, 200)


@given(st.lists(st.tuples(st.floats(0, 40), st.sampled_from(["a", "b"]), VALUES), max_size=60))
def test_minutes_hold_every_reading_once_with_its_extremes(steps: list[tuple[float, str, float | None]]) -> None:
    rollup, wall, rows, added = ReadingRollup(), 1_000_000.0, [], []
    for gap, sensor, value in steps:
        wall += gap
        rows += rollup.add("n", [{"sensor_id": sensor, "unit": "celsius", "value": value}], wall)
        added.append((sensor, int(wall // 60), value))
    rows += rollup.close()
    assert sum(row.count for row in rows) == len(added)
    for row in rows:
        values = [v for sensor, minute, v in added if (sensor, minute) == (row.sensor_id, row.minute) and v is not None]
        assert row.believed == len(values)
        assert (row.low, row.high) == (min(values, default=None), max(values, default=None))
        assert row.mean is None or row.low - 1e-9 <= row.mean <= row.high + 1e-9
    assert len({(row.sensor_id, row.minute) for row in rows}) == len(rows)


def test_what_is_heard_no_more_is_closed_and_forgotten() -> None:
    """Each start of Ray gives nodes new ids; those of a week's starts are not all kept."""
    rollup, rows = ReadingRollup(), []
    for start in range(50):
        rows += rollup.add(f"node{start}", [{"sensor_id": "a", "unit": "celsius", "value": 1.0}], 600.0 * start)
    assert [row.node for row in rows] == [f"node{start}" for start in range(49)]
    assert len(rollup.close()) == 1
