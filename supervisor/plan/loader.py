"""Loads a plan by its name or file, checked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from supervisor.errors import PlanError, UnknownPlan
from supervisor.plan import set_values, yaml_reader
from supervisor.plan.messages import Source, plan_error, problem_of
from supervisor.plan.problem import Problem, nearest
from supervisor.plan.schema import PLAN_NAME_PATTERN, Plan
from supervisor.plan.validation import is_file_name, problems

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class LoadedPlan:
    """A valid plan. `text` parses to exactly this plan, `--set` arguments included, so a copy of it freezes a run.

    `source_path` is None for a built-in plan.
    """

    plan: Plan
    source_path: Path | None
    text: str

    @property
    def folder(self) -> Path | None:
        """The folder of a user's plan, from which its trainable is imported; None for a built-in plan."""
        return self.source_path.parent if self.source_path else None

    @property
    def sensor_script(self) -> str | None:
        """The plan's sensor script; a trace file's path is relative to the plan's folder and made absolute here.

        A built-in plan has none but by --set, from the folder where that is typed.
        """
        script = self.plan.sensor_script
        if script is None or not is_file_name(script):
            return script
        return str((self.folder or Path.cwd()) / script)


def load_plan(name_or_path: str | Path, sets: Sequence[str] = ()) -> LoadedPlan:
    """Load a built-in plan (`smoke`) or a user's file (`mine.yaml`), changed by the `--set` arguments `sets`.

    Raises UnknownPlan for a name or file that does not exist, PlanError for everything else that is wrong.
    """
    asked = str(name_or_path)
    if asked.endswith(SUFFIXES) or "/" in asked:
        path = Path(asked).expanduser().absolute()
        return parse_plan(_read(path), asked, source_path=path, sets=sets)
    return parse_plan(_built_in(asked), f"{asked}.yaml", sets=sets)


def parse_plan(text: str, file: str, *, source_path: Path | None = None, sets: Sequence[str] = ()) -> LoadedPlan:
    """Make a valid plan of `text`. Raises PlanError."""
    document = yaml_reader.parse(text, file)
    data = document.value
    if not isinstance(data, dict):
        what = "the file is empty" if data is None else "the file is not a mapping of keys to values"
        raise PlanError(what, file=file, line=document.line_of(()), remedy="start from a copy of a built-in plan")
    changed, origins = set_values.apply(data, sets)
    source = Source(file, document, origins)
    try:
        plan = Plan.model_validate(changed)
    except ValidationError as error:
        raise plan_error((problem_of(detail, changed) for detail in error.errors()), source) from None
    found = [*problems(plan), *_name_of_a_built_in(plan, source_path)]
    if found:
        raise plan_error(found, source)
    frozen = set_values.as_text(changed, f"{file} with {' '.join(origins.values())}") if sets else text
    return LoadedPlan(plan, source_path, frozen)


def plan_names() -> list[str]:
    """List the built-in plans."""
    return sorted(item.name.removesuffix(".yaml") for item in _folder().iterdir() if item.name.endswith(".yaml"))


def _name_of_a_built_in(plan: Plan, source_path: Path | None) -> list[Problem]:
    """Refuse a second plan of a built-in plan's name: they would share a log, and one would resume the other's run."""
    if source_path is None or plan.name not in plan_names():
        return []
    try:
        if source_path.samefile(str(_folder() / f"{plan.name}.yaml")):
            return []
    except OSError:
        pass  # a text without a file: not the built-in plan
    return [
        Problem(("name",), f"{plan.name} is the name of a built-in plan", f"choose another, such as my-{plan.name}")
    ]


def _folder() -> Traversable:
    return resources.files("tune_configs")


def _built_in(name: str) -> str:
    if not re.match(PLAN_NAME_PATTERN, name):
        raise UnknownPlan(f"{name!r} is neither a plan's name nor a .yaml file", remedy=_plans_like(name))
    entry = _folder() / f"{name}.yaml"
    if not entry.is_file():
        raise UnknownPlan(f"there is no plan {name}", remedy=_plans_like(name))
    return entry.read_text(encoding="utf-8")


def _plans_like(name: str) -> str:
    names = plan_names()
    listed = f"plans: {', '.join(names)}; or give the path of your own .yaml file"
    close = nearest(name, names)
    return f"{close} {listed}" if close.startswith("did you") else listed


def _read(path: Path) -> str:
    file = str(path)
    try:
        if not path.is_file():
            what = "is not a file" if path.exists() else "does not exist"
            raise UnknownPlan(f"the plan file {what}", file=file, remedy=_plans_like(path.stem))
        return yaml_reader.read(path).decode("utf-8")
    except OSError as error:
        raise PlanError(f"cannot be read: {error.strerror}", file=file, remedy="check its permissions") from error
    except UnicodeDecodeError as error:
        what = f"not a text file: byte {error.start} is not UTF-8"
        raise PlanError(what, file=file, remedy="give a plan written in YAML") from error
