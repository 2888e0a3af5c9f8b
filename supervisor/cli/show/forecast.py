"""Runs the verb predict: what the answer of an experiment says of the last days of a file. Returns the exit code."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from supervisor.cli.guide.progress import working
from supervisor.cli.show.views import experiments_of, print_json, run_view
from supervisor.cli.watch import columns_of
from supervisor.domain import finalists
from supervisor.domain.answer import TESTED
from supervisor.errors import Conflict, UsageError, WorkerFailed
from supervisor.formatting import folded, number, table
from supervisor.home import Home
from supervisor.processes.environment import passed_environment, thread_environment
from supervisor.processes.json_worker import JsonWorker, python_module
from supervisor.store.lookups import dataset_here

WEIGHTS = "best.pt"
"""The file of a finalisation trial's best weights, in its folder (training.best_weights)."""
REFUSED = "refused"
"""The key of an answer that is a refusal (training.predict)."""
DEADLINE_S = 600.0
THREADS = 1
"""Trials use the other cores."""
MAX_DAYS = 1000
NO_ADVICE = (
    "This is no advice, and no test: the file may hold days that the model was trained on, and the market of tomorrow"
    " is in no file."
)


def predict(home: Home, arguments: argparse.Namespace) -> int:
    if not 1 <= arguments.days <= MAX_DAYS:
        raise UsageError(f"expected --days from 1 to {MAX_DAYS}, found {arguments.days}")
    view = run_view(home, arguments.run_or_plan, trials=True)
    found = experiments_of(view, [arguments.experiment])
    if len(found) != 1:
        raise UsageError(f"expected one experiment, found {len(found)}", remedy="write its whole name")
    (experiment,) = found
    check_answer(experiment)
    request = request_of(home, view["run"]["id"], experiment, arguments)
    with working(f"reading {arguments.file} and the weights of {len(request['trials'])} trials", quick=True):
        answer = _ask(request)
    if arguments.json:
        values = {key: value for key, value in answer.items() if key != "schema"}
        print_json({"run": view["run"]["id"], "experiment": experiment["name"], **values, "note": NO_ADVICE})
    else:
        print(forecast_text(view["run"]["id"], experiment, answer, columns_of(sys.stdout)))
    return 0


def check_answer(experiment: dict[str, Any]) -> None:
    """Raise Conflict, with the cure, for an experiment without a finalised model of the built-in search."""
    name, trainable = experiment["name"], experiment["spec"]["trainable"]
    if trainable != TESTED:
        raise Conflict(
            f"predict is for the built-in search ({TESTED}), and {name} trains {trainable}",
            remedy=f"`supervisorctl best {name} --json` has the configuration for your own code",
        )
    if experiment["spec"].get("finalize") is None:
        raise Conflict(
            f"{name} was not finalised, so no weights of it were kept",
            remedy="add `finalize:` to the plan and run it again",
        )
    if experiment.get("finalized") is None:
        raise Conflict(
            f"{name} has no finalised configuration: {experiment['missing'] or 'it has not come so far'}",
            remedy=f"wait for its end, or end its search with `supervisorctl finish {name}`",
        )


def request_of(home: Home, run: str, experiment: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the request of training.predict. Raises Conflict when the weights of every seed are gone."""
    spec, trials, folder = experiment["spec"], experiment["trials"], home.run_folder(run) / experiment["name"]
    dataset = dataset_here(Path(spec["config"]["dataset"]), home.root)
    params = {number: params for number, (_, params) in finalists.after_search(spec, trials).items()}
    record_of = {trial["number"]: trial["record"] or {} for trial in trials}
    numbers = [number for number in experiment["finalized"]["trials"] if (folder / str(number) / WEIGHTS).is_file()]
    if not numbers:
        raise Conflict(
            f"the weights of {experiment['name']} are not in {folder}",
            remedy="`supervisorctl rm` or `gc` deleted them, or the run lies elsewhere; train again with"
            " `supervisord start PLAN --new`",
        )
    return {
        "trials": [
            {
                "number": number,
                "config": {**spec["config"], **params[number], "dataset": dataset},
                "weights": str(folder / str(number) / WEIGHTS),
                "zscore": record_of[number].get("zscore"),
            }
            for number in numbers
        ],
        "bars": str(Path(arguments.file).absolute()),
        "vix": None if arguments.vix is None else str(Path(arguments.vix).absolute()),
        "ticker": arguments.ticker,
        "days": arguments.days,
        "threads": THREADS,
    }


def _ask(request: dict[str, Any]) -> dict[str, Any]:
    """Return the forecast of a child process. Raises Conflict for a refused request, WorkerFailed."""
    environment = {**passed_environment(), **thread_environment(THREADS)}
    try:
        answer: dict[str, Any] = asyncio.run(
            JsonWorker(python_module("training.predict"), environment, DEADLINE_S).ask(request)
        )
    except WorkerFailed as error:
        raise WorkerFailed(f"the forecast's process {error.message}") from error
    if REFUSED in answer:
        raise Conflict(str(answer[REFUSED]), remedy=answer.get("remedy"))
    return answer


def forecast_text(run: str, experiment: dict[str, Any], answer: dict[str, Any], columns: int | None) -> str:
    """Return a forecast for people: a line for each day, what it says, and what it does not.

    `columns` is the width of a terminal; None folds nothing.
    """
    trials, target = list(answer["by_trial"]), answer["target"]
    rows = [("day", "probability", *(f"trial {number}" for number in trials))]
    for place, day in enumerate(answer["days"]):
        own = (f"{answer['by_trial'][number][place]:.3f}" for number in trials)
        rows.append((day, f"{answer['mean'][place]:.3f}", *own))
    sessions = "session" if answer["horizon"] == 1 else f"{answer['horizon']} sessions"
    head = f"{experiment['name']} of {run}: the finalised configuration, trained on {answer['ticker']}"
    says = f"The probability that the {target['price']} of the next {sessions} reaches the day's close"
    above = [f"{head} (tier {answer['tier']}), on {len(trials)} fresh seeds"]
    above += [f"read as: {note}" for note in answer["read_as"]]
    below = [f"{says} + {100 * target['threshold']:g} %.", *_tested(experiment.get("evaluation")), NO_ADVICE]
    lines = [*_folded(above, columns), "", *table(rows), "", *_folded(below, columns)]
    return "\n".join(lines)


def _folded(texts: Iterable[str], columns: int | None) -> list[str]:
    return [line for text in texts for line in folded(text, columns)]


def _tested(evaluation: dict[str, Any] | None) -> list[str]:
    """Return how the model did on its test days beside the class prior, where it was tested."""
    models = (evaluation or {}).get("models", {})
    if not {TESTED, "prior"} <= set(models):
        return ["It was not tested: nothing shows that it is better than the class prior."]
    own, prior = (number(models[name]["test"]["bce"]["value"]) for name in (TESTED, "prior"))
    return [f"On its test days its loss was {own}, that of the class prior {prior}."]
