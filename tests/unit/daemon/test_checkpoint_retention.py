"""Checkpoints that stay: of live trials, of an experiment's best, for its evaluation. The others are removed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.clock import Clock
from supervisor.daemon.upkeep import checkpoint_retention
from supervisor.daemon.upkeep.checkpoint_retention import WEIGHTS, CheckpointRetention, Folder, Keep, keeps, removable
from supervisor.domain import messages
from supervisor.store.database import Store
from supervisor.store.run_writer import RunWriter, create_run
from supervisor.store.trial_writer import TrialWriter

SPEC: dict[str, Any] = {
    "name": "x", "mode": "min", "max_trials": 8, "trainable": "patchtst", "seed": 1, "concurrency": 1,
    "finalize": {"top": 2, "seeds": 2},
}  # fmt: skip
PLAIN = {**SPEC, "finalize": None}


def trial(number: int, end_reason: str | None, value: float | None = None) -> dict[str, Any]:
    good = end_reason in ("finished", "early_stopped", "pruned")
    state = "RUNNING" if end_reason is None else "TERMINATED" if good else "ERROR"
    return {"number": number, "state": state, "end_reason": end_reason, "value": value if good else None,
            "params": {"lr": number}}  # fmt: skip


SEARCHED = [trial(0, "finished", 0.5), trial(1, "finished", 0.4), trial(2, "pruned", 0.9), trial(3, "diverged")]


def test_live_trials_keep_all_files_the_best_its_newest_and_the_others_none() -> None:
    trials = [*SEARCHED, trial(4, None), trial(5, "pruned", 0.3)]
    assert keeps(PLAIN, trials, tested=False) == {
        0: Keep.NOTHING, 1: Keep.NOTHING, 2: Keep.NOTHING, 3: Keep.NOTHING, 4: Keep.ALL, 5: Keep.NEWEST
    }  # fmt: skip


def test_weights_of_a_finalisation_stay_until_its_winner_is_evaluated() -> None:
    finals = [trial(4, "finished", 0.45), trial(5, "early_stopped", 0.46), trial(6, "finished", 0.6)]
    running = keeps(SPEC, [*SEARCHED, *finals, trial(7, None)], tested=False)
    assert [running[number] for number in range(4, 8)] == [Keep.WEIGHTS] * 3 + [Keep.ALL]
    ended = [*SEARCHED, *finals, trial(7, "finished", 0.6)]
    assert [keeps(SPEC, ended, tested=False)[number] for number in range(4, 8)] == [Keep.WEIGHTS] * 4
    assert [keeps(SPEC, ended, tested=True)[number] for number in range(4, 8)] == [Keep.WEIGHTS] * 2 + [
        Keep.NOTHING
    ] * 2


def test_a_users_trainable_keeps_its_winners_checkpoints_without_an_evaluation() -> None:
    spec = {**SPEC, "trainable": "mine:Train"}
    finals = [trial(4, "finished", 0.45), trial(5, "finished", 0.46), trial(6, "finished", 0.6), trial(7, "oom")]
    kept = keeps(spec, [*SEARCHED, *finals], tested=False)
    assert [kept[number] for number in range(4, 8)] == [Keep.NEWEST] * 2 + [Keep.NOTHING] * 2


ENDS = st.sampled_from(["finished", "early_stopped", "pruned", "diverged", "oom", "hung", "error", "operator"])


@given(
    st.lists(st.tuples(ENDS, st.sampled_from([0.1, 0.2, 0.3])), min_size=8, max_size=8),
    st.permutations(range(4)),
    st.permutations(range(4, 8)),
    st.sampled_from([SPEC, {**SPEC, "trainable": "mine:Train"}, PLAIN]),
)
def test_a_removable_file_is_never_needed_again(
    ends: list[tuple[str, float]], search: list[int], final: list[int], spec: dict[str, Any]
) -> None:
    """Trials end in any order, those of the search first; of an ended trial ever less is kept."""
    ended: dict[int, dict[str, Any]] = {}
    before: dict[int, Keep] = {}
    for number in [*search, *final]:
        ended[number] = trial(number, *ends[number])
        known = range(4 if len(ended) <= 4 else 8)
        now = keeps(spec, [ended.get(one) or trial(one, None) for one in known], tested=False)
        assert all(now[one] is Keep.ALL for one in known if one not in ended)
        assert all(now[one] <= kept for one, kept in before.items())
        before = {one: now[one] for one in ended}
    tested = keeps(spec, [ended[one] for one in range(8)], tested=True)
    assert all(tested[one] <= kept for one, kept in before.items())


# --- files -----------------------------------------------------------------------------------------------------------


def filled(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if name.endswith("/"):
            (folder / name).mkdir()
            (folder / name / "state").write_bytes(b"12345")
        else:
            (folder / name).write_bytes(b"1234567890")
    return folder


STRANGE = "hung-attempt-1.txt"
FILES = (
    "checkpoint-3.pt", "checkpoint-10.pt", WEIGHTS, ".checkpoint-11.pt.77.part", ".best.pt.77.part", ".fresh-2/",
    "checkpoint-1/", STRANGE, "checkpoint-x.pt", "notes",
)  # fmt: skip


@pytest.mark.parametrize(
    ("keep", "named", "stay"),
    [
        (Keep.ALL, None, set(FILES)),
        (Keep.NEWEST, "checkpoint-3.pt", {"checkpoint-3.pt", WEIGHTS}),
        (Keep.NEWEST, "gone/checkpoint-4.pt", {"checkpoint-10.pt", WEIGHTS}),
        (Keep.NEWEST, None, {"checkpoint-10.pt", WEIGHTS}),
        (Keep.WEIGHTS, "checkpoint-10.pt", {WEIGHTS}),
        (Keep.NOTHING, "checkpoint-10.pt", set()),
    ],
)
def test_only_known_files_are_removable(tmp_path: Path, keep: Keep, named: str | None, stay: set[str]) -> None:
    folder = Folder(filled(tmp_path / "0", *FILES), keep, None if named is None else tmp_path / "0" / named)
    left = {path.name for path in folder.path.iterdir()} - {path.name for path in removable(folder)}
    assert left == {name.rstrip("/") for name in stay} | {STRANGE, "checkpoint-x.pt", "notes"}


class Bench:
    """A run in a real store. Trial 0 finished, 1 finished better, 2 was pruned, 3 runs; each has two checkpoints."""

    def __init__(self, root: Path) -> None:
        self.store, self.folder = Store(root / "sweep.db", Clock()), root / "runs" / "r"
        create_run(
            self.store, "r", plan="p", fingerprint="f", source="built-in", plan_text="", hardware={}, data={},
            specs=[PLAIN],
        )  # fmt: skip
        self.writer, self.trials = RunWriter(self.store, "r"), TrialWriter(self.store, "r")
        for number, value in enumerate((0.5, 0.4, 0.9, None)):
            self.trials.handle("x", messages.TrialAdded(number, {}, "sampled"))
            self.trials.handle("x", messages.TrialStarted(number, 1, "t", "n", 1, None))
            path = self.folder / "x" / str(number) / "checkpoint-2.pt"
            self.trials.handle("x", messages.ResultReported(number, 1, 2, value, {}, str(path)))
            filled(path.parent, "checkpoint-1.pt", "checkpoint-2.pt")
            if value is not None:
                self.trials.handle(
                    "x", messages.TrialEnded(number, 1, "pruned" if number == 2 else "finished", value, None)
                )
        self.retention = CheckpointRetention(self.writer, self.folder)

    def tidy(self) -> int:
        return asyncio.run(self.retention.tidy())

    def files(self) -> set[str]:
        return {str(path.relative_to(self.folder / "x")) for path in self.folder.rglob("*.pt")}

    def recorded(self) -> list[dict[str, Any]]:
        rows = self.store.rows("SELECT fields FROM event WHERE name = 'checkpoints.pruned' ORDER BY seq")
        return [json.loads(row["fields"]) for row in rows]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


KEPT = {"1/checkpoint-2.pt", "3/checkpoint-1.pt", "3/checkpoint-2.pt"}


def test_a_round_keeps_the_best_and_live_trials_and_records_the_rest_as_pruned(bench: Bench) -> None:
    assert bench.tidy() == 5
    assert bench.files() == KEPT
    assert sorted(path.name for path in (bench.folder / "x").iterdir()) == ["1", "3"]
    assert bench.recorded() == [{"count": 5, "bytes": 50}]
    assert bench.tidy() == 0
    assert len(bench.recorded()) == 1


def test_a_new_best_trial_replaces_the_old_one(bench: Bench) -> None:
    bench.tidy()
    bench.trials.handle("x", messages.TrialEnded(3, 1, "finished", 0.1, None))
    bench.tidy()
    assert bench.files() == {"3/checkpoint-2.pt"}


def test_after_a_crash_between_two_removals_the_next_round_does_the_rest(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = checkpoint_retention.remove_path
    for survived in range(5):
        left = iter(range(1))

        def dies(path: Path, left: Any = left) -> int:
            if next(left, None) is None:
                raise KeyboardInterrupt
            return remove(path)

        monkeypatch.setattr(checkpoint_retention, "remove_path", dies)
        if survived < 4:
            with pytest.raises(KeyboardInterrupt):
                checkpoint_retention.remove(list(bench.retention.folders()), 100)
        else:
            checkpoint_retention.remove(list(bench.retention.folders()), 100)
        assert bench.files() >= KEPT
        assert len(bench.files()) == len(KEPT) + 4 - survived
    monkeypatch.undo()
    assert bench.tidy() == 0
    assert bench.files() == KEPT


def test_a_round_is_bounded_and_the_end_of_the_run_does_all_rounds(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_retention, "MAX_A_ROUND", 2)
    assert bench.tidy() == 2
    asyncio.run(bench.retention.tidy_up())
    assert bench.files() == KEPT
    assert [event["count"] for event in bench.recorded()] == [2, 2, 1]


def test_a_file_that_cannot_be_removed_does_not_keep_the_others(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    remove = checkpoint_retention.remove_path

    def refuses(path: Path) -> int:
        if path.parent.name == "0":
            raise PermissionError(13, "Permission denied", str(path))
        return remove(path)

    monkeypatch.setattr(checkpoint_retention, "remove_path", refuses)
    assert bench.tidy() == 3
    assert bench.files() == KEPT | {"0/checkpoint-1.pt", "0/checkpoint-2.pt"}


def test_a_link_instead_of_a_trials_folder_is_not_followed(bench: Bench, tmp_path: Path) -> None:
    elsewhere = filled(tmp_path / "elsewhere", "checkpoint-1.pt")
    (bench.folder / "x" / "4").symlink_to(elsewhere)
    bench.trials.handle("x", messages.TrialAdded(4, {}, "sampled"))
    bench.trials.handle("x", messages.TrialEnded(4, 1, "error", None, "no"))
    bench.tidy()
    assert (elsewhere / "checkpoint-1.pt").exists()


def test_an_unreadable_folder_does_not_fail_the_run(bench: Bench) -> None:
    (bench.folder / "x").rename(bench.folder / "aside")
    assert bench.tidy() == 0, "there is none yet"
    (bench.folder / "x").write_text("not a folder")
    assert bench.tidy() == 0
    asyncio.run(bench.retention.tidy_up())
