"""Test which checkpoints a run keeps: during it, over kills, and at its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.daemon.upkeep import background
from supervisor.home import Home
from tests.acceptance.lives import DRIVER, EPOCHS, KILLED, check_everything, life, state

OLD = 'checkpoint = folder / f"{number}-checkpoint-{step}.pt"'
NEW = 'checkpoint = folder / str(number) / f"checkpoint-{step}.pt"; checkpoint.parent.mkdir(exist_ok=True)'
IN_FOLDERS = DRIVER.replace(OLD, NEW)


def always_tidying() -> None:
    background.HOUSEKEEPING_PERIOD_S = 0.01


def left(home: Home) -> list[str]:
    return sorted(str(path.relative_to(path.parents[1])) for path in Path(home.runs).glob("*/x/*/checkpoint-*"))


@pytest.mark.parametrize("kills", [0, 3])
def test_a_run_leaves_its_best_trials_newest_checkpoint(
    home: Home, kills: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two trials of the same value: the first is the best. Killed and begun again it leaves the same, and loses nothing
    on the way: each life tidies all the time, and the checker looks at what the next would go on from."""
    assert NEW in IN_FOLDERS
    monkeypatch.setenv("SWEEP_TEST_PAUSE_S", "0.05")
    for hit in range(kills):
        code, _ = life(home, f"ack.send:{3 + hit}:kill", driver=IN_FOLDERS, change=always_tidying)
        assert code == KILLED
    code, _ = life(home, driver=IN_FOLDERS, change=always_tidying)
    assert (code, state(home)) == (0, "EXITED")
    events = check_everything(home)
    assert left(home) == [f"0/checkpoint-{EPOCHS}.pt"]
    pruned = [event for event in events if event["event"] == "checkpoints.pruned"]
    # A daemon that is killed between a removal and its telling has removed what it never events.
    told_of, gone = sum(event["count"] for event in pruned), 2 * EPOCHS - 1
    assert told_of <= gone if kills else told_of == gone
