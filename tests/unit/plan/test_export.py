"""The generated schema and reference are up to date, and the built-in plans satisfy them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from supervisor.plan import export, schema, yaml_reader
from supervisor.plan.loader import load_plan, plan_names

ROOT = Path(__file__).parents[3]
CONFIGS = ROOT / "tune_configs"
PLAN_FILES = [*sorted(CONFIGS.glob("*.yaml")), *sorted((ROOT / "docs" / "examples").glob("*.yaml"))]


def test_the_schema_for_editors_is_up_to_date() -> None:
    written = (CONFIGS / export.SCHEMA_FILE).read_text()
    assert written == export.schema_text(), "run `python -m supervisor.plan.export`"


def test_the_reference_is_up_to_date() -> None:
    written = (ROOT / "docs" / "plans.md").read_text()
    assert written == export.rewritten(written), "run `python -m supervisor.plan.export`"


def test_every_key_of_every_model_is_in_the_reference() -> None:
    written = (ROOT / "docs" / "plans.md").read_text()
    for _, model in export.SECTIONS:
        for key in model.model_fields:
            assert f"| `{key}` |" in written


def test_a_document_without_the_marks_is_an_error() -> None:
    with pytest.raises(ValueError, match="the document needs"):
        export.rewritten("# Plans\n")


def test_every_key_has_a_meaning() -> None:
    for _, model in export.SECTIONS:
        for key, field in model.model_fields.items():
            assert field.description or key in ("type", "kind") or model is schema.OverrideSet, (
                f"{model.__name__}.{key}"
            )


@pytest.mark.parametrize("path", PLAN_FILES, ids=lambda path: path.stem)
def test_a_shipped_plan_satisfies_the_schema_and_the_models(path: Path) -> None:
    data: Any = yaml_reader.parse(path.read_text(), path.name).value
    jsonschema.Draft202012Validator(json.loads((CONFIGS / export.SCHEMA_FILE).read_text())).validate(data)
    assert load_plan(path).plan.name == path.stem, "a plan's name is its file's"


@pytest.mark.parametrize(
    "change",
    [
        {"max_trails": 3},
        {"max_trials": "three"},
        {"space": {"x": {"type": "flaot", "low": 1, "high": 2}}},
        {"space": {"not a name": {"type": "int", "low": 1, "high": 2}}},
        {"pruner": {"kind": "asha", "grace": 1}},
        {"overrides": [{"when": {"budget": "20k"}}]},
    ],
)
def test_the_schema_refuses_the_errors_that_the_models_refuse(change: dict[str, Any]) -> None:
    data: Any = yaml_reader.parse((CONFIGS / "smoke.yaml").read_text(), "smoke.yaml").value
    assert not jsonschema.Draft202012Validator(export.json_schema()).is_valid({**data, **change})


def unexplained(text: str) -> list[int]:
    """Find lines with a number but no comment on the line, above it, or at the head of its block."""
    silent = []
    explained = above = False
    for number, line in enumerate(text.splitlines(), start=1):
        explained = "#" in line or above or (explained and line.startswith("  "))
        above = line.lstrip().startswith("#")
        if re.search(r"[ \[]\d", line) and not explained and not line.startswith("description:"):
            silent.append(number)
    return silent


@pytest.mark.parametrize("name", plan_names())
def test_every_number_of_a_built_in_plan_says_why(name: str) -> None:
    assert unexplained((CONFIGS / f"{name}.yaml").read_text()) == []


def test_a_number_without_a_reason_is_found() -> None:
    assert unexplained("# why\na: 1\nb: 2\nc:  # why\n  d: 3\ne: [4]\n") == [3, 6]
