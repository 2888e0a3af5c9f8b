"""A begun finalisation is set aside by one event: its trials stay, and count no more; the experiment chooses anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from supervisor.domain import finalists, messages
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.early_ends import TEST_OPENED, Named
from supervisor.domain.finalists import search_trials
from supervisor.domain.lifecycle import HOURS, ProcessState
from supervisor.domain.scope import trial_scope
from supervisor.domain.search_time import pace
from supervisor.errors import Conflict
from supervisor.store import lookups, queries
from supervisor.store.database import Store
from supervisor.store.evaluation_writer import EvaluationWriter
from supervisor.store.replay import replay
from supervisor.store.run_writer import RunWriter
from supervisor.store.status_cache import StatusView
from supervisor.store.steering.steer_writer import SteerWriter
from tests.unit.audit.rebuild_home import OPENING, RESULT
from tests.unit.store.writers import CountingClock, E, ended, last_seq, make_writer, reported, say, started, trial

FINALIZE = {"top": 1, "seeds": 2, "folds": 1}
CELL: dict[str, Any] = {"cell": {}, "metric": "loss", "trainable": "own.code:train", "max_hours": None}
VALUES = (0.5, 0.4, 0.3)


def a_run(path: Path, *values: float | None, begun: int = 2, **changes: Any) -> RunWriter:
    """Make a run whose search has ended with these values, and `begun` trials of the finalisation; the last one runs.

    The search has as many trials as there are values.
    """
    values = values or VALUES
    own = {"max_trials": len(values) + 2, "finalize": FINALIZE, "seed": 1, "enqueue": [], **CELL, **changes}
    writer = make_writer(path / "sweep.db", **own)
    writer.move_run(ProcessState.STARTING)
    writer.record("run.started")
    writer.move_experiment(E, ProcessState.STARTING)
    writer.record("experiment.started", experiment=E, max_trials=own["max_trials"])
    for number, value in enumerate(values):
        say(writer, messages.TrialAdded(number, {"lr": float(number)}, "sampled"))
        goes(writer, number, value)
    finalise(writer, begun)
    return writer


def goes(writer: RunWriter, number: int, value: float | None) -> None:
    for message in (started(1, number), reported(1, 1, value, number)):
        say(writer, message)
    say(writer, ended(1, "finished" if value is not None else "diverged", value, number))


def finalise(writer: RunWriter, begun: int = 2) -> list[int]:
    """Begin trials of the finalisation; the last of them runs, the others have ended. Return their numbers."""
    wanted = list(chosen_now(writer).items())[:begun]
    for place, (number, (source, params)) in enumerate(wanted):
        assert say(writer, messages.TrialAdded(number, params, source))
        if place < begun - 1:
            goes(writer, number, 0.2)
        else:
            for message in (started(1, number), reported(1, 1, 0.25, number)):
                say(writer, message)
    return [number for number, _ in wanted]


def chosen_now(writer: RunWriter) -> dict[int, tuple[str, dict[str, Any]]]:
    return finalists.after_search(spec(writer), trials(writer))


def spec(writer: RunWriter) -> dict[str, Any]:
    return lookups.spec(writer.store, "r", E)


def trials(writer: RunWriter) -> list[dict[str, Any]]:
    return queries.trials_of(writer.store.connection, "r", E)


def steer(writer: RunWriter) -> SteerWriter:
    return SteerWriter(writer.store, "r")


def events(writer: RunWriter, name: str) -> list[dict[str, Any]]:
    return [event.fields for event in writer.store.events_after(0) if event.name == name]


def discard(writer: RunWriter, number: int, *, restore: bool = False) -> None:
    steer(writer).discard([Named(E, number)], "ann", restore=restore)


def test_a_discarded_winner_gives_way_to_the_next_one_under_new_numbers(tmp_path: Path) -> None:
    writer = a_run(tmp_path)
    before = chosen_now(writer)
    assert [params["lr"] for _, params in before.values()] == [2.0, 2.0]
    discard(writer, 2)
    assert {number: (source, params["lr"]) for number, (source, params) in chosen_now(writer).items()} == {
        5: ("finalize", 1.0), 6: ("finalize", 1.0)
    }  # fmt: skip
    assert [params["seed"] for _, params in chosen_now(writer).values()] == [params["seed"] for _, params in
                                                                            before.values()]  # fmt: skip
    assert events(writer, "finalisation.set_aside") == [
        {"who": "ann", "verb": "discard", "count": 2, "trials": [3, 4], "finalize": FINALIZE}
    ]


def test_trials_that_were_set_aside_stay_by_name_and_count_no_more(tmp_path: Path) -> None:
    writer = a_run(tmp_path)
    writer.put_command(Command(Action.PAUSE, Origin.OPERATOR, "a look", trial_scope(E, 4), who="bob"), "now")
    discard(writer, 2)
    ends = [(row["state"], row["end_reason"], row["source"], row["value"]) for row in trials(writer)[3:]]
    assert ends == [("TERMINATED", "set_aside", "set_aside", None)] * 2
    assert [row["results"][0][1] for row in trials(writer)[3:]] == [0.2, 0.25], "the store keeps what they reported"
    assert trial(writer, 4)["error"] == "its finalisation was set aside: ann asked for `discard`"
    assert writer.commands() == [], "with the trial ends what an operator held of it alone"
    assert lookups.live_trials(writer.store, "r") == []
    view = queries.run_snapshot(writer.store.connection, "r")["experiments"][0]
    assert (view["counts"], view["finalized"], view["best"]["trial"]) == ({"finished": 3, "set_aside": 2}, None, 1)
    assert view["measured"]["trials"] == [3, 0, 0], "the ETA learns nothing of them"
    del view["trials"]
    assert StatusView(writer.store.connection, "r").now()["experiments"] == [view]


def test_a_late_message_of_a_trial_that_was_set_aside_is_refused(tmp_path: Path) -> None:
    writer = a_run(tmp_path)
    discard(writer, 2)
    assert not say(writer, reported(1, 2, 0.1, 4))
    assert not say(writer, ended(1, "finished", 0.1, 4))


def test_a_driver_that_has_not_heard_of_it_adds_no_trial_by_its_old_choice(tmp_path: Path) -> None:
    writer = a_run(tmp_path, begun=1)
    old = chosen_now(writer)[4]
    discard(writer, 2)
    new = chosen_now(writer)[4]
    assert new[1] != old[1]
    assert not say(writer, messages.TrialAdded(4, old[1], old[0]))
    assert events(writer, "result.refused")[-1]["reason"] == "the choice is another one now"
    assert say(writer, messages.TrialAdded(4, new[1], new[0]))


def test_what_was_restored_may_be_chosen_again(tmp_path: Path) -> None:
    writer = a_run(tmp_path)
    discard(writer, 2)
    finalise(writer)
    discard(writer, 2, restore=True)
    assert {number: params["lr"] for number, (_, params) in chosen_now(writer).items()} == {7: 2.0, 8: 2.0}
    assert [fields["trials"] for fields in events(writer, "finalisation.set_aside")] == [[3, 4], [5, 6]]
    assert spec(writer)["set_aside"] == [3, 4, 5, 6]


def test_an_extended_search_goes_on_and_the_experiment_chooses_among_all(tmp_path: Path) -> None:
    writer = a_run(tmp_path)
    assert steer(writer).extend({Named(E): 2}, 0.0, "ann") == {E: 9}
    assert chosen_now(writer) == {}, "the search goes on"
    assert search_trials(spec(writer)) == 7, "3, 2 that were set aside, 2 more"
    for number, value in ((5, 0.1), (6, 0.9)):
        say(writer, messages.TrialAdded(number, {"lr": float(number)}, "sampled"))
        goes(writer, number, value)
    assert {number: params["lr"] for number, (_, params) in chosen_now(writer).items()} == {7: 5.0, 8: 5.0}


def test_a_search_that_ended_early_tries_so_many_more_and_the_plans_finalisation_counts_again(tmp_path: Path) -> None:
    """In its short time it had planned to finalise on one seed."""
    writer = a_run(tmp_path, begun=0, max_trials=9)
    writer.end_search(E, messages.SearchEnded(HOURS, 3, 1, 1))
    finalise(writer, 1)
    assert steer(writer).extend({Named(E): 2}, 0.0, "ann") == {E: 8}
    after = spec(writer)
    assert (after["searched"], after["search_end"], after["finalize"]) == (None, None, FINALIZE)
    assert search_trials(after) == 3 + 1 + 2


def test_a_search_that_ended_early_goes_on_after_a_discard_as_the_plan_says(tmp_path: Path) -> None:
    """Its driver ends it again at once where it must; so a wish to finish stays."""
    writer = a_run(tmp_path, begun=0, max_trials=9)
    writer.record("experiment.finish_asked", experiment=E, who="ann")
    writer.end_search(E, messages.SearchEnded(HOURS, 3, 1, 1))
    finalise(writer, 1)
    discard(writer, 0)
    assert (search_trials(spec(writer)), spec(writer)["finish_asked"]) == (7 + 1, True)
    writer.end_search(E, messages.SearchEnded(HOURS, 4, 1, 1))
    assert list(chosen_now(writer)) == [4]


def test_a_point_of_the_plan_whose_number_was_taken_is_tried_next(tmp_path: Path) -> None:
    points = [{"lr": 0.1 * place} for place in range(5)]
    writer = a_run(tmp_path, begun=0, max_trials=9, enqueue=points)
    writer.end_search(E, messages.SearchEnded(HOURS, 3, 1, 1))
    finalise(writer, 1)
    discard(writer, 0)
    assert (spec(writer)["enqueue"], spec(writer)["asked"]) == (points[:3], points[3:])


def test_from_the_opening_of_the_test_on_each_verb_is_refused_by_name(tmp_path: Path) -> None:
    writer = a_run(tmp_path)
    discard(writer, 0)
    finalise(writer)
    say(writer, ended(1, "finished", 0.2, 6))
    answers = EvaluationWriter(writer.store, "r")
    answers.open_test(E, OPENING)
    for keep in (lambda: None, lambda: answers.keep_result(E, RESULT)):
        keep()
        seq = last_seq(writer)
        for ask in (
            lambda: discard(writer, 1), lambda: discard(writer, 0, restore=True),
            lambda: steer(writer).extend({Named(E): 2}, 0.0, "ann"),
        ):  # fmt: skip
            with pytest.raises(Conflict, match=TEST_OPENED):
                ask()
        assert last_seq(writer) == seq


def test_an_experiment_that_has_finished_is_opened_again_to_choose_anew(tmp_path: Path) -> None:
    writer = a_run(tmp_path)
    say(writer, ended(1, "finished", 0.2, 4))
    writer.record("experiment.finished", experiment=E, best=0.3, best_trial=2, trials=5, failed=0, seconds=1.0)
    discard(writer, 2)
    assert (writer.experiment_state(E), lookups.experiment(writer.store, "r", E)["reason"]) == (
        ProcessState.STOPPED, "to choose anew"
    )  # fmt: skip


def test_without_a_begun_finalisation_nothing_is_set_aside(tmp_path: Path) -> None:
    writer = a_run(tmp_path, begun=0)
    discard(writer, 2)
    steer(writer).extend({Named(E): 1}, 0.0, "ann")
    assert events(writer, "finalisation.set_aside") == []
    assert spec(writer)["max_trials"] == 6


@pytest.mark.parametrize("number", [3, 4])
def test_no_trial_of_a_finalisation_is_discarded_neither_before_nor_after_it_was_set_aside(
    tmp_path: Path, number: int
) -> None:
    writer = a_run(tmp_path)
    with pytest.raises(Conflict, match="it follows the search"):
        discard(writer, number)
    discard(writer, 0)
    with pytest.raises(Conflict, match="it was set aside with its finalisation"):
        discard(writer, number)


def test_an_experiment_without_hours_left_does_not_choose_anew(tmp_path: Path) -> None:
    writer = a_run(tmp_path, max_hours=1e-9)
    writer.record("driver.started", experiment=E, pid=1)
    writer.record("driver.exited", experiment=E, reason="x", retry_in_s=1.0, log="x")
    with pytest.raises(Conflict, match="its max_hours are used up"):
        discard(writer, 2)


def test_the_search_knows_none_of_them(tmp_path: Path) -> None:
    """Its next driver gets each as one that failed, with the parameters of the search alone."""
    writer = a_run(tmp_path)
    discard(writer, 0)
    known = finalists.known_to_the_search(spec(writer), queries.for_begin(writer.store.connection, "r", E))
    assert [(one["number"], one["state"], one["value"], one["params"], one["results"]) for one in known[3:]] == [
        (3, "ERROR", None, {"lr": 2.0}, []), (4, "ERROR", None, {"lr": 2.0}, [])
    ]  # fmt: skip
    costs = lookups.trial_costs(writer.store, "r", E, 0)
    assert len(costs) == 5
    assert pace(spec(writer), costs, None) == pace(spec(writer), costs[:3], None)


def test_the_events_alone_give_the_same_tables(tmp_path: Path) -> None:
    """The verb follows the setting aside in the same transaction."""
    writer = a_run(tmp_path)
    discard(writer, 2)
    finalise(writer)
    steer(writer).extend({Named(E): 1}, 0.0, "ann")
    beside = Store(tmp_path / "beside.db", CountingClock())
    for event in writer.store.events_after(0):
        replay(beside.connection, event)
    assert queries.tables_of(beside.connection, "r") == queries.tables_of(writer.store.connection, "r")
    names = [event.name for event in writer.store.events_after(0)]
    assert names[-3:] == ["trial.failed", "finalisation.set_aside", "experiment.enlarged"]
