"""From a plan's name or file to a valid `Plan`, or to an error that names file, line, key and cure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from supervisor.errors import PlanError, UnknownPlan
from supervisor.plan import messages, set_values, yaml_reader
from supervisor.plan.schema import PLAN_NAME_PATTERN, Plan
from supervisor.plan.validation import Problem, is_file_name, nearest, problems
from supervisor.plan.yaml_reader import Document, dotted

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from pydantic_core import ErrorDetails

SUFFIXES = (".yaml", ".yml")
MAX_SHOWN = 5


@dataclass(frozen=True)
class LoadedPlan:
    """A valid plan. `text` parses to just this plan, so a copy of it freezes a run; `sets` are already in it.

    `source_path` is None for a built-in plan.
    """

    plan: Plan
    source_path: Path | None
    text: str
    sets: tuple[str, ...] = ()

    @property
    def folder(self) -> Path | None:
        """Where a user's plan lies: its trainable is imported from there too."""
        return self.source_path.parent if self.source_path else None

    @property
    def sensor_script(self) -> str | None:
        """As the plan's own, with a trace file's path made absolute: it is relative to the plan's folder."""
        script = self.plan.sensor_script
        if script is None or not is_file_name(script) or self.folder is None:
            return script
        return str(self.folder / script)


@dataclass(frozen=True)
class PlanSummary:
    """A line of `supervisord plans`."""

    name: str
    description: str
    experiments: int
    trials: int


@dataclass(frozen=True)
class _Source:
    """Where a plan's values came from."""

    file: str
    document: Document
    sets: dict[yaml_reader.Path, str] = field(default_factory=dict)

    def place(self, path: yaml_reader.Path) -> tuple[str, int | None]:
        for changed, argument in self.sets.items():
            shorter = min(len(changed), len(path))
            if shorter and changed[:shorter] == path[:shorter]:
                return argument, None
        return self.file, self.document.line_of(path)


def load_plan(name_or_path: str | Path, sets: Sequence[str] = ()) -> LoadedPlan:
    """The plan of a built-in name (`smoke`) or of the user's own file (`mine.yaml`), changed by `--set` arguments.

    Raises UnknownPlan for a name that does not exist and PlanError for everything else that is wrong.
    """
    asked = str(name_or_path)
    if asked.endswith(SUFFIXES) or "/" in asked:
        path = Path(asked).expanduser().absolute()
        return parse_plan(_read(path), asked, source_path=path, sets=sets)
    return parse_plan(_built_in(asked), f"{asked}.yaml", sets=sets)


def parse_plan(text: str, file: str, *, source_path: Path | None = None, sets: Sequence[str] = ()) -> LoadedPlan:
    """A valid plan from its text. Raises PlanError."""
    document = yaml_reader.parse(text, file)
    data = document.value
    if not isinstance(data, dict):
        what = "the file is empty" if data is None else "the file is not a mapping of keys to values"
        raise PlanError(what, file=file, line=document.line_of(()), remedy="start from a copy of a built-in plan")
    changed, origins = set_values.apply(data, sets)
    source = _Source(file, document, origins)
    try:
        plan = Plan.model_validate(changed)
    except ValidationError as error:
        raise _error((_problem(detail, changed) for detail in error.errors()), source) from None
    found = [*problems(plan), *_like_a_built_in(plan, source_path)]
    if found:
        raise _error(found, source)
    frozen = set_values.as_text(changed, f"{file} with {' '.join(origins.values())}") if sets else text
    return LoadedPlan(plan, source_path, frozen, tuple(sets))


def apply_sets(loaded: LoadedPlan, sets: Sequence[str]) -> LoadedPlan:
    """`loaded` with `--set KEY=VALUE` arguments applied. Raises PlanError."""
    changed = parse_plan(loaded.text, loaded.plan.name, source_path=loaded.source_path, sets=sets)
    return LoadedPlan(changed.plan, changed.source_path, changed.text, (*loaded.sets, *sets))


def plan_names() -> list[str]:
    """The built-in plans."""
    return sorted(item.name.removesuffix(".yaml") for item in _folder().iterdir() if item.name.endswith(".yaml"))


def list_plans() -> list[PlanSummary]:
    """The built-in plans with their size. Raises PlanError if one is broken."""
    from supervisor.plan.matrix import cells

    summaries = []
    for name in plan_names():
        plan = load_plan(name).plan
        sizes = [cell.max_trials for cell in cells(plan)]
        summaries.append(PlanSummary(name, plan.description, len(sizes), sum(sizes)))
    return summaries


def _like_a_built_in(plan: Plan, source_path: Path | None) -> list[Problem]:
    """Two plans of one name would share a log, and one would go on with the other's run."""
    if source_path is None or plan.name not in plan_names():
        return []
    try:
        if source_path.samefile(str(_folder() / f"{plan.name}.yaml")):
            return []
    except OSError:
        pass  # a text without a file: then it is no built-in one
    return [
        Problem(("name",), f"{plan.name} is the name of a built-in plan", f"choose another, such as my-{plan.name}")
    ]


def _folder() -> Traversable:
    return resources.files("tune_configs")


def _built_in(name: str) -> str:
    if not re.match(PLAN_NAME_PATTERN, name):
        raise UnknownPlan(f"{name!r} is neither a plan's name nor a .yaml file", remedy=_known(name))
    entry = _folder() / f"{name}.yaml"
    if not entry.is_file():
        raise UnknownPlan(f"there is no plan {name}", remedy=_known(name))
    return entry.read_text(encoding="utf-8")


def _known(name: str) -> str:
    names = plan_names()
    listed = f"plans: {', '.join(names)}; or give the path of your own .yaml file"
    close = nearest(name, names)
    return f"{close} {listed}" if close.startswith("did you") else listed


def _read(path: Path) -> str:
    try:
        if not path.is_file():
            what = "is not a file" if path.exists() else "does not exist"
            raise UnknownPlan(f"the plan file {what}", file=str(path), remedy=_known(path.stem))
        with path.open("rb") as stream:
            content = stream.read(yaml_reader.MAX_BYTES + 1)
    except OSError as error:
        raise PlanError(f"cannot be read: {error.strerror}", file=str(path), remedy="check its permissions") from error
    if len(content) > yaml_reader.MAX_BYTES:
        raise PlanError(f"the file is larger than {yaml_reader.MAX_BYTES:,} bytes", file=str(path))
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        what = f"not a text file: byte {error.start} is not UTF-8"
        raise PlanError(what, file=str(path), remedy="give a plan written in YAML") from error


def _problem(detail: ErrorDetails, data: Any) -> Problem:
    path, given = _path(detail["loc"], data, keep_last=detail["type"] == "missing")
    context = detail.get("ctx", {})
    kind = detail["type"]
    if kind == "unknown_key":
        key = context["key"]
        return Problem((*path, key), "unknown key", nearest(key, context["valid"], "keys"))
    if kind == "union_tag_invalid":
        key = str(context["discriminator"]).strip("'")
        valid = [tag.strip(" '") for tag in str(context["expected_tags"]).split(",")]
        return Problem(
            (*path, key), f"no such {key} {context['tag']}", nearest(context["tag"], valid, f"values of {key}")
        )
    what, remedy = messages.say(kind, context, path[-1] if path else "", given, detail["msg"])
    if detail["loc"][-1:] == ("[key]",):
        what, remedy = "is not a usable name", "use letters, digits and _, at most 64"
    if kind == "union_tag_not_found":
        remedy = "add the key " + str(context["discriminator"]).strip("'")
    silent = kind in ("missing", "too_short") or isinstance(given, dict | list) or given == ""
    return Problem(path, what if silent else f"{what}, not {_short(given)}", remedy)


def _path(location: tuple[int | str, ...], data: Any, *, keep_last: bool) -> tuple[yaml_reader.Path, Any]:
    """A pydantic location without the names of union members, and what lies there."""
    path: yaml_reader.Path = ()
    at = data
    for part in location:
        try:
            at = at[part]
        except (KeyError, IndexError, TypeError):
            continue
        path = (*path, part)
    if keep_last:
        path = (*path, location[-1])
    return path, at


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _error(found: Iterable[Problem], source: _Source) -> PlanError:
    """One error of several problems: the first in full, the next few as lines below it."""
    first, *rest = sorted(dict.fromkeys(found), key=lambda problem: source.place(problem.path)[1] or 0)
    more = [f"  also {_where(problem, source)}{_said(problem)}" for problem in rest[: MAX_SHOWN - 1]]
    if len(rest) >= MAX_SHOWN:
        more.append(f"  and {len(rest) - MAX_SHOWN + 1} more")
    file, line = source.place(first.path)
    message = "\n".join([_said(first), *more])
    return PlanError(message, file=file, line=line, key=dotted(first.path) or None, remedy=first.remedy)


def _where(problem: Problem, source: _Source) -> str:
    file, line = source.place(problem.path)
    return f"{file}:{line}: " if line else f"{file}: "


def _said(problem: Problem) -> str:
    return f"{dotted(problem.path)}: {problem.what}" if problem.path else problem.what
