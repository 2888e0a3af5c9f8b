"""The driver against a stand-in for the daemon, on a real Ray head."""

from __future__ import annotations


def test_a_users_function_is_searched_to_the_last_trial(drive, spec):
    """Six trials, each reported, ended and acknowledged; the plan's point comes first."""
    daemon = drive(spec(enqueue=[{"x": 0.25}]))
    assert daemon.end() == 0, daemon.log.read_text()
    assert daemon.error() is None
    rows = daemon.store.rows
    assert sorted(rows) == [0, 1, 2, 3, 4, 5]
    assert rows[0].params == {"x": 0.25}
    assert [rows[0].source, rows[1].source] == ["enqueued", "sampled"]
    for row in rows.values():
        assert row.end_reason == "finished"
        assert [step for step, _ in row.results] == [1, 2, 3]
        assert row.value == min(value for _, value in row.results)
