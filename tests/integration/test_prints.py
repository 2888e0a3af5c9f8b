"""What trials print is in the files of their attempts, on a real Ray head."""

from __future__ import annotations

import sys

import pytest

from supervisor.domain.messages import AttemptLost, TrialStarted
from tests import waits

KINDS = ("good", "raises", "dies", "floods", "pumpless", "later")
MORE = {"raises": ["raises now"], "pumpless": ["pumpless still"]}


def said_by(kind):
    by = [f"{kind} by python", f"{kind} by c", f"{kind} by a child", f"{kind} password=***"]
    return by + MORE.get(kind, [])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the trainable finds its pump by /proc")
def test_each_attempt_has_its_own_prints_whatever_happens_to_its_worker(drive, spec, tmp_path):
    """The worker is used again, is killed, fills the pipe from C with Python's lock held, loses its pump."""
    daemon = drive(
        spec(
            trainable="printing_trainables:prints",
            config={"folder": str(tmp_path)},
            space={"kind": {"type": "categorical", "choices": list(KINDS)}},
            enqueue=[{"kind": kind} for kind in KINDS],
            max_trials=len(KINDS),
            sampler={"kind": "random", "startup_trials": 0},
        )
    )
    daemon.succeeds()
    rows = {row.params["kind"]: row for row in daemon.store.rows.values()}
    ends = {kind: rows[kind].end_reason for kind in KINDS}
    assert ends == {**dict.fromkeys(KINDS, "finished"), "raises": "error"}
    assert [message.number for message in daemon.all(AttemptLost)] == [rows["dies"].number]
    started = daemon.all(TrialStarted)
    assert len({message.worker_pid for message in started}) < len(started), "a worker was used again"
    for kind, row in rows.items():
        for attempt in range(1, row.attempt + 1):
            path = daemon.folder / "experiment" / str(row.number) / f"attempt-{attempt}.log"
            expected = said_by(kind) + (["dies now"] if kind == "dies" and attempt == 1 else [])

            def lines(path=path):
                found = path.read_text().splitlines() if path.exists() else []
                # Ray, and libraries, may print, too.
                return [line for line in found if line.startswith(KINDS) and line != "floods on"]

            waits.until(f"{path} is written", lambda expected=expected, lines=lines: lines() == expected, lines)
    flood = daemon.folder / "experiment" / str(rows["floods"].number) / "attempt-1.log"
    waits.until("the flood is written", lambda: flood.stat().st_size >= 1_000_000)
