"""Check the imports between rooms, the size of rooms, and module names."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]

BASE = "supervisor"
"""The base: the modules that stand flat in supervisor/. Every room of supervisor/ and actors/ may import them."""

MAY_IMPORT: dict[str, set[str]] = {
    "tune_configs": set(),
    "training": set(),
    "_sweep_launcher": {"supervisor", "supervisor.cli"},
    "supervisor": set(),
    "supervisor.domain": set(),
    "supervisor.sensors": set(),
    "supervisor.governor": {"supervisor.domain", "supervisor.sensors"},
    "supervisor.store": {"supervisor.domain"},
    "supervisor.processes": {"supervisor.domain", "supervisor.sensors"},
    "supervisor.audit": {"supervisor.domain", "supervisor.store"},
    "supervisor.plan": {"supervisor.domain", "supervisor.governor", "supervisor.sensors", "tune_configs"},
    "supervisor.preflight": {
        "supervisor.domain", "supervisor.plan", "supervisor.governor", "supervisor.sensors", "supervisor.processes",
    },
    "supervisor.report": {"supervisor.domain", "supervisor.store", "supervisor.processes"},
    "supervisor.control": set(),
    "supervisor.page": {
        "supervisor.domain", "supervisor.sensors", "supervisor.governor", "supervisor.store", "supervisor.control",
    },
    "supervisor.daemon": {
        "supervisor.domain", "supervisor.sensors", "supervisor.store", "supervisor.processes", "supervisor.audit",
        "supervisor.plan", "supervisor.preflight", "supervisor.report", "supervisor.control", "supervisor.page",
    },
    "supervisor.cli": {
        "supervisor.domain", "supervisor.sensors", "supervisor.governor", "supervisor.store", "supervisor.processes",
        "supervisor.audit", "supervisor.plan", "supervisor.preflight", "supervisor.report", "supervisor.control",
    },
    "actors": set(),
    "actors.trial": {"supervisor.domain", "supervisor.processes", "supervisor.sensors", "training"},
    "actors.watchdog": {
        "actors.trial", "supervisor.domain", "supervisor.governor", "supervisor.sensors", "supervisor.processes",
    },
    "actors.driver": {"actors.trial", "actors.watchdog", "supervisor.domain", "supervisor.governor"},
}  # fmt: skip
"""The arrows of the architecture: each room, and the rooms that it may import beside itself and the base.

Nobody imports actors: the daemon knows it as a command line.
"""

WITH_BASE = {room for room in MAY_IMPORT if room.startswith(("supervisor.", "actors"))}

LAZILY_TRAINING = ("supervisor.plan", "supervisor.preflight", "supervisor.report", "supervisor.cli")
"""Rooms that may import training too, but inside a function only: it may load torch."""

MAX_MODULES = 24
"""The largest number of files in a folder: a fuller one is split by a sentence."""

NEVER: dict[str, set[str]] = {
    "tune_configs": {"ray", "optuna", "torch"},
    "training": {"ray", "optuna"},
    "supervisor": {"ray", "optuna", "torch"},
    "actors": set(),
    "_sweep_launcher": {"ray", "optuna", "torch"},
}
"""Packages that a room imports nowhere, not even inside a function: only actors knows Ray and Optuna."""

RAY_PRIVATE_MODULE = "actors.driver.ray_private"
RAY_INTERNALS = ("ray.tune.execution", "ray.tune.impl", "ray.train._internal", "ray.air._internal", "ray.core")
"""Parts of Ray that its API reference does not list, beside every name with a leading underscore."""

FAMOUS = {
    "childutils", "compat", "confecho", "datatypes", "dispatchers", "events", "http", "http_client",
    "loggers", "options", "pidproxy", "poller", "process", "rpcinterface", "socket_manager", "states",
    "supervisorctl", "supervisord", "templating", "web", "xmlrpc",
}  # fmt: skip
"""The modules of PyPI's `supervisor` 4.3: of two packages in one folder neither may hide a file of the other's."""


@dataclass(frozen=True)
class Import:
    target: str
    """The dotted name: of a module, or of a module's attribute."""
    lazy: bool
    line: int


@dataclass(frozen=True)
class Source:
    module: str
    text: str

    @property
    def room(self) -> str:
        return room_of(self.module)

    @property
    def package(self) -> str:
        return self.module.partition(".")[0]


def room_of(dotted: str) -> str:
    """Name the room of a module: its package's folder, or "supervisor" for a module of the base."""
    package, _, rest = dotted.partition(".")
    room = f"{package}.{rest.partition('.')[0]}"
    return room if room in MAY_IMPORT else package


def imports_of(source: Source) -> list[Import]:
    """Every import statement and every import by a constant name, wherever it stands."""
    return list(_walk(ast.parse(source.text), source.module, lazy=False))


def _walk(node: ast.AST, module: str, *, lazy: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        yield from (Import(alias.name, lazy, node.lineno) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parents = module.split(".")[: -node.level]
            base = ".".join([*parents, *([base] if base else [])])
        yield from (Import(f"{base}.{alias.name}", lazy, node.lineno) for alias in node.names)
    elif isinstance(node, ast.Call) and _called(node) in {"import_module", "__import__"} and node.args:
        name = node.args[0]
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            yield Import(name.value, lazy, node.lineno)
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, module, lazy=lazy or _runs_later(node, child))


def _called(node: ast.Call) -> str:
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _runs_later(node: ast.AST, child: ast.AST) -> bool:
    """Return True if `child`, a part of `node`, does not run when the module is imported."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return child in node.body
    if isinstance(node, ast.If):
        named = {getattr(part, "id", getattr(part, "attr", "")) for part in ast.walk(node.test)}
        return "TYPE_CHECKING" in named and child in node.body
    return isinstance(node, ast.Lambda)


def crossed_arrows(sources: list[Source]) -> list[str]:
    """List every import of one of our rooms that the architecture has no arrow for."""
    faults = []
    for source in sources:
        for item in imports_of(source):
            target = room_of(item.target)
            if target not in MAY_IMPORT or _along_an_arrow(source.room, target, item):
                continue
            faults.append(f"{source.module}:{item.line}: {source.room} may not import {item.target} here")
    return faults


def _along_an_arrow(room: str, target: str, item: Import) -> bool:
    if target == room or target in MAY_IMPORT[room] or (target == BASE and room in WITH_BASE):
        return True
    return target == "training" and item.lazy and room in LAZILY_TRAINING


def forbidden_packages(sources: list[Source]) -> list[str]:
    """Find each import, lazy ones too, of a package that the room must not know."""
    return [
        f"{source.module}:{item.line}: {source.room} may not import {item.target}"
        for source in sources
        for item in imports_of(source)
        if item.target.partition(".")[0] in NEVER[source.package]
    ]


def ray_private_imports(sources: list[Source]) -> list[str]:
    """Find each import of Ray's internals outside the module that is reviewed at each upgrade."""
    return [
        f"{source.module}:{item.line}: {item.target} is Ray's own; only {RAY_PRIVATE_MODULE} may name it"
        for source in sources
        if source.module != RAY_PRIVATE_MODULE
        for item in imports_of(source)
        if item.target.partition(".")[0] == "ray" and _internal(item.target)
    ]


def _internal(dotted: str) -> bool:
    return any(part.startswith("_") for part in dotted.split(".")) or any(
        dotted == name or dotted.startswith(f"{name}.") for name in RAY_INTERNALS
    )


def ray_private_attributes(sources: list[Source]) -> list[str]:
    """Find each `x._name` in actors that no module of actors defines.

    It is an attribute of Ray's or Optuna's then.

    This sees `controller._queue` as well as a scheduler's `self._inherited`, which a linter takes for its own.
    """
    trees = {s.module: ast.parse(s.text) for s in sources if s.package == "actors" and s.module != RAY_PRIVATE_MODULE}
    own = {name for tree in trees.values() for name in _private_names(tree)}
    return [
        f"{module}:{node.lineno}: ._{node.attr.lstrip('_')} is not ours; only {RAY_PRIVATE_MODULE} may reach for it"
        for module, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and _private(node.attr)
        and node.attr not in own
        and not _standard(node.value)
    ]


def _standard(node: ast.expr) -> bool:
    # os._exit is documented and has no other name.
    return isinstance(node, ast.Name) and node.id in sys.stdlib_module_names


def _private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def _private_names(tree: ast.AST) -> Iterator[str]:
    """Return the private names that a module defines: functions, variables, attributes of `self` or `cls`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}:
                yield node.attr
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).partition(".")[0]


@pytest.fixture(scope="module")
def sources() -> list[Source]:
    paths = [CHECKOUT / "_sweep_launcher.py"]
    for package in ("tune_configs", "training", "supervisor", "actors"):
        paths += sorted((CHECKOUT / package).rglob("*.py"))
    return [Source(_module_name(path), path.read_text(encoding="utf-8")) for path in paths]


def _module_name(path: Path) -> str:
    # A package's __init__ keeps its own name, so that its relative imports are counted from the right place.
    return ".".join(path.relative_to(CHECKOUT).with_suffix("").parts)


def test_every_room_is_looked_at(sources: list[Source]) -> None:
    assert {source.room for source in sources} == set(MAY_IMPORT)


def test_no_folder_holds_more_modules_than_one_sentence_covers(sources: list[Source]) -> None:
    folders = Counter(source.module.rpartition(".")[0] for source in sources if not source.module.endswith("__init__"))
    assert {folder: count for folder, count in folders.items() if count > MAX_MODULES} == {}


def test_no_folder_lies_deeper_than_two(sources: list[Source]) -> None:
    assert [source.module for source in sources if source.module.count(".") > 3] == []


def test_no_import_goes_against_the_arrows(sources: list[Source]) -> None:
    assert crossed_arrows(sources) == []


def test_only_actors_knows_ray_and_optuna(sources: list[Source]) -> None:
    assert forbidden_packages(sources) == []


def test_rays_internals_are_imported_in_one_module_only(sources: list[Source]) -> None:
    assert ray_private_imports(sources) == []


def test_rays_internals_are_reached_for_in_one_module_only(sources: list[Source]) -> None:
    assert ray_private_attributes(sources) == []


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("supervisor.processes.guardian", "import training.grid"),
        ("supervisor.processes.guardian", "def f():\n    from training import grid"),
        ("supervisor.processes.guardian", "def f(x=__import__('training')):\n    pass"),
        ("supervisor.plan.expansion", "from training.grid import build_grid"),
        ("supervisor.plan.expansion", "class A:\n    import training"),
        ("supervisor.processes.guardian", "def f():\n    import actors.driver"),
        ("supervisor.processes.guardian", "import importlib\nimportlib.import_module('actors.driver')"),
        ("supervisor.sensors.host", "from ...training import grid"),
        ("training.loop", "from supervisor import errors"),
        ("training.loop", "if TYPE_CHECKING:\n    from supervisor import errors"),
        ("tune_configs.__init__", "import supervisor"),
        ("_sweep_launcher", "import training"),
    ],
)
def test_an_import_against_an_arrow_is_found(module: str, text: str) -> None:
    assert len(crossed_arrows([Source(module, text)])) == 1


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("supervisor.plan.expansion", "def f():\n    from training.grid import build_grid"),
        ("supervisor.report.page", "def f():\n    import training.data.manifest"),
        ("supervisor.plan.expansion", "if TYPE_CHECKING:\n    from training.grid import Grid"),
        ("supervisor.sensors.host", "from ..reading import Reading\nfrom . import hwmon"),
        ("supervisor.plan.loader", "import tune_configs, json, trainings"),
        ("actors.driver.tuner", "import ray, supervisor.domain.messages, actors.trial.gate"),
    ],
)
def test_an_import_along_an_arrow_passes(module: str, text: str) -> None:
    assert crossed_arrows([Source(module, text)]) == []


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("supervisor.processes.guardian", "import ray"),
        ("supervisor.report", "def f():\n    import optuna.importance"),
        ("supervisor.preflight.estimate", "def f():\n    from torch import cuda"),
        ("training.loop", "from ray import tune"),
        ("training.loop", "def f():\n    import optuna"),
    ],
)
def test_a_forbidden_package_is_found(module: str, text: str) -> None:
    assert len(forbidden_packages([Source(module, text)])) == 1


@pytest.mark.parametrize(
    "text",
    [
        "from ray._private import worker",
        "import ray._private.services",
        "from ray.air._internal.checkpoint_manager import x",
        "from ray.tune.execution.tune_controller import TuneController",
        "from ray.tune.execution import tune_controller",
        "def f():\n    from ray.tune.trainable import _secret",
        "importlib.import_module('ray._raylet')",
    ],
)
def test_an_import_of_an_internal_of_rays_is_found(text: str) -> None:
    assert len(ray_private_imports([Source("actors.driver", text)])) == 1
    assert ray_private_imports([Source(RAY_PRIVATE_MODULE, text)]) == []


@pytest.mark.parametrize(
    "text",
    [
        "controller._queued_trials",
        "tune_controller._actor_manager.num_live_actors",
        "class S(ASHA):\n    def f(self):\n        return self._brackets",
        "controller._queue = 1",
        "scheduler.inner._rungs",
    ],
)
def test_an_attribute_of_rays_own_is_found(text: str) -> None:
    assert len(ray_private_attributes([Source("actors.driver.scheduler", text)])) == 1
    assert ray_private_attributes([Source(RAY_PRIVATE_MODULE, text)]) == []


def test_private_names_of_our_own_pass() -> None:
    base = Source("actors.trial.gate", "class Gate:\n    def __init__(self):\n        self._flag = 1\n")
    heir = Source("actors.searcher", "class S(Gate):\n    def f(self):\n        return self._flag, self.__class__\n")
    leaver = Source("actors.leaver", "import os\nos._exit(1)\n")
    assert ray_private_attributes([base, heir, leaver]) == []


def test_no_module_bears_a_name_of_the_famous_package() -> None:
    ours = {path.stem if path.is_file() else path.name for path in (CHECKOUT / "supervisor").iterdir()}
    assert ours & FAMOUS == set()
