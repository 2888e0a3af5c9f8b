"""Runs the verb that shows the answers of a run, best: each finalised configuration, apart from the search's best."""

from __future__ import annotations

import argparse
import io
import pprint
import sys
from typing import Any

from supervisor.cli.show.views import SCHEMA, experiments_of, print_json, run_view
from supervisor.cli.watch import columns_of
from supervisor.domain.answer import TESTED
from supervisor.formatting import folded, number
from supervisor.home import Home

INDENT = "  "


def best(home: Home, arguments: argparse.Namespace) -> int:
    view = run_view(home, arguments.run_or_plan, trials=False)
    answers = [answer_of(experiment) for experiment in experiments_of(view, arguments.experiments)]
    values = {"run": view["run"]["id"], "plan": view["run"]["plan"], "experiments": answers}
    if arguments.json:
        print_json(values)
    elif arguments.yaml:
        sys.stdout.write(yaml_text({"schema": SCHEMA, **values}))
    else:
        print("\n\n".join(answer_text(answer, columns_of(sys.stdout)) for answer in answers))
    return 0


def answer_of(experiment: dict[str, Any]) -> dict[str, Any]:
    """Return an experiment's `final` configuration and its `test`, and apart from both the `search_best`.

    Each is None until it is there. `config` is all that a trial of the configuration needs, its seed left out.
    """
    spec, best_of_search = experiment["spec"], experiment["best"]
    return {
        "experiment": experiment["name"],
        "state": experiment["state"],
        "metric": spec["metric"],
        "mode": spec["mode"],
        "final": _final(experiment),
        "test": _test(experiment.get("evaluation")),
        "finalizes": spec.get("finalize") is not None,
        "missing": experiment["missing"],
        "search_best": None if best_of_search is None else {
            "value": best_of_search["value"],
            "trial": best_of_search["trial"],
            "params": best_of_search["params"],
            "prior": best_of_search.get("prior"),
        },
    }  # fmt: skip


def _final(experiment: dict[str, Any]) -> dict[str, Any] | None:
    found = experiment.get("finalized")
    if found is None:
        return None
    return {
        "value": found["val_loss"],
        "values": found["val_losses"],
        "trials": found["trials"],
        "seeds": found["seeds"],
        "params": found["params"],
        "config": {**experiment["spec"].get("config", {}), **found["params"]},
        "architecture": found["architecture"],
        "param_count": found["param_count"],
    }


def _test(evaluation: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the test's scores of the models and of the class prior, and their difference; None without a test."""
    if evaluation is None:
        return None
    models, against = evaluation["models"], evaluation.get("against", {})
    return {
        "days": evaluation["dates"]["test"],
        "windows": evaluation["windows"]["test"],
        "scores": models[TESTED]["test"],
        "prior": models["prior"]["test"] if "prior" in models else None,
        "bce_minus_prior": against["prior"]["test"] if "prior" in against else None,
    }


def answer_text(answer: dict[str, Any], columns: int | None) -> str:
    """Return an answer for people; `params = {...}` is Python to paste."""
    lines = [f"{answer['experiment']}  {answer['state']:<9} {answer['metric']}, {answer['mode']}"]
    final, luck = answer["final"], answer["search_best"]
    if final is None:
        lines += folded(f"no final configuration: {_why_none(answer)}", columns, INDENT)
    else:
        values = ", ".join(number(value) for value in final["values"])
        lines += folded(f"final {number(final['value'])}, the mean of {values} on fresh seeds", columns, INDENT)
        lines += folded(_tested(answer), columns, INDENT)
        lines += _pasteable("params", final["params"])
        lines += _pasteable("architecture", final["architecture"]) if final["architecture"] else []
    if luck is not None:
        text = f"best of the search {number(luck['value'])} (trial {luck['trial']}): the best of many, so partly luck"
        lines += folded(text, columns, INDENT)
        lines += [] if final is not None else _pasteable("params", luck["params"])
    return "\n".join(lines)


def _why_none(answer: dict[str, Any]) -> str:
    return answer["missing"] or ("none was finalised yet" if answer["finalizes"] else "the plan has no `finalize:`")


def _tested(answer: dict[str, Any]) -> str:
    test = answer["test"]
    if test is None:
        return f"not tested: {answer['missing']}" if answer["missing"] else "not tested"
    first, last = test["days"]
    prior = "" if test["prior"] is None else f"; the class prior {_interval(test['prior']['bce'])}"
    return f"test {_interval(test['scores']['bce'])} on {test['windows']} days, {first} to {last}{prior}"


def _interval(score: dict[str, float | None]) -> str:
    return f"{number(score['value'])} ({number(score['low'])} to {number(score['high'])})"


def _pasteable(name: str, values: dict[str, Any]) -> list[str]:
    """Return the lines of an assignment in Python."""
    head = f"{name} = "
    first, *rest = pprint.pformat(values, width=76 - len(head), sort_dicts=False).splitlines()
    return [f"{INDENT}{head}{first}", *(f"{INDENT}{' ' * len(head)}{line}" for line in rest)]


def yaml_text(values: dict[str, Any]) -> str:
    """Return `values` as YAML, which readers of YAML 1.1 (PyYAML) and of 1.2 read alike."""
    from ruamel.yaml import YAML
    from ruamel.yaml.representer import SafeRepresenter

    class Representer(SafeRepresenter):  # of its own: a representer is added to the class, for all of the process
        pass

    Representer.add_representer(float, _float)
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = Representer
    yaml.default_flow_style = False
    # The keys stay in the order of the plan.
    yaml.representer.sort_base_mapping_type_on_output = False
    out = io.StringIO()
    yaml.dump(values, out)
    return out.getvalue()


def _float(representer: Any, value: float) -> Any:
    """Write 1e-05 as 1.0e-05: without a point YAML 1.1 takes it for text."""
    text = repr(value)
    if "e" in text and "." not in text:
        text = text.replace("e", ".0e")
    return representer.represent_scalar("tag:yaml.org,2002:float", text)
