"""Check a rule of docs/security.md in the sources: no file is loaded as code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.errors import PlanError
from supervisor.plan import schema, yaml_reader

ROOT = Path(__file__).resolve().parents[2]
CODE_FROM_DATA = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
STATE_OF_A_USERS_CLASS = "actors/trial/checkpoints.py"
"""The one place that pickles: what a user's own class saved, read by that class's own process, never the daemon."""


def sources(*rooms: str) -> list[tuple[str, ast.Module]]:
    paths = [path for room in rooms for path in sorted((ROOT / room).rglob("*.py"))]
    return [(str(path.relative_to(ROOT)), ast.parse(path.read_text())) for path in paths]


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Each call by its dotted name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.partition(".")[0]


def loads_code(tree: ast.AST) -> list[str]:
    """Find the calls in a module that could make code or objects from a file."""
    found = [name for name in imports(tree) if name in CODE_FROM_DATA]
    for name, call in calls(tree):
        if name in {"eval", "exec", "compile", "os.system", "os.popen"}:
            found.append(name)
        # compose makes nodes, never objects, and dump only writes.
        if name.startswith("yaml.") and name not in ("yaml.compose", "yaml.dump"):
            found.append(name)
        if name.startswith("subprocess.") and any(keyword.arg == "shell" for keyword in call.keywords):
            found.append(f"{name}(shell=)")
    return found


def test_the_daemons_room_reads_no_pickle_no_yaml_objects_and_runs_no_text() -> None:
    assert {name: found for name, tree in sources("supervisor", "tune_configs") if (found := loads_code(tree))} == {}


def test_the_rule_would_find_each_of_them() -> None:
    for text in (
        "import pickle", "from marshal import loads", "yaml.load(f)", "yaml.unsafe_load(f)", "eval(x)",
        "subprocess.run(x, shell=True)",
    ):  # fmt: skip
        assert loads_code(ast.parse(text)), text


def test_torch_loads_only_weights_everywhere() -> None:
    """`weights_only=True`, written out: it refuses whatever is not plain data."""
    loads = [
        (where, any(word.arg == "weights_only" and ast.unparse(word.value) == "True" for word in call.keywords))
        for where, tree in sources("training", "actors", "supervisor", "benchmarks")
        for name, call in calls(tree)
        if name == "torch.load"
    ]
    assert loads, "the rule has something to look at"
    assert [where for where, safe in loads if not safe] == []


def test_only_a_users_own_class_has_its_own_state_unpickled() -> None:
    loading = {
        where
        for where, tree in sources("training", "actors", "supervisor")
        for name, _ in calls(tree)
        if name in {"pickle.load", "pickle.loads", "cloudpickle.load", "cloudpickle.loads"}
    }
    assert loading == {STATE_OF_A_USERS_CLASS}


@pytest.mark.parametrize(
    "text",
    ["a: !!python/object/apply:os.system [x]", "a: !!python/name:os.system", "a: !x y", "a: &b c\nd: *b"],
)
def test_a_tag_or_an_alias_in_a_plan_is_refused(text: str) -> None:
    with pytest.raises(PlanError):
        yaml_reader.parse(text + "\n", "p.yaml")


@pytest.mark.parametrize("name", ["../x", "a/b", ".x", "", "a\n", "a\0", "x" * 65, "-x", "a b"])
def test_a_plans_name_cannot_leave_its_folder(name: str) -> None:
    """It becomes the name of a log and of a run's folder."""
    assert not re.fullmatch(schema.PLAN_NAME_PATTERN, name)
