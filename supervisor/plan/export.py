"""Writes the plan's JSON Schema for editors and the tables of docs/plans.md: `python -m supervisor.plan.export`."""

from __future__ import annotations

import json
import re
import sys
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

from supervisor.plan import dimensions
from supervisor.plan import schema as plan

SCHEMA_FILE = "plan.schema.json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
SECTIONS: tuple[tuple[str, type[dimensions.Part]], ...] = (
    ("The plan", plan.Plan),
    ("space: a float", dimensions.FloatDimension),
    ("space: an int", dimensions.IntDimension),
    ("space: a categorical", dimensions.CategoricalDimension),
    ("space: a grid axis", dimensions.GridDimension),
    ("enqueue: a place instead of a value", dimensions.Quantile),
    ("resources", plan.Resources),
    ("resources: an entry of `nested`", plan.Bundle),
    ("sampler", plan.Sampler),
    ("pruner: asha", plan.AshaPruner),
    ("pruner: median", plan.MedianPruner),
    ("pruner: none", plan.NoPruner),
    ("finalize", plan.Finalize),
    ("stop", plan.Stop),
    ("warm_start", plan.WarmStart),
    ("data", plan.Data),
    ("overrides: an entry", plan.Override),
    ("overrides: the keys of `set`", plan.OverrideSet),
)
_FIXED = {
    "config": "mapping",
    "space": "mapping of dimensions",
    "matrix": "mapping of lists",
    "hardware": "mapping",
    "when": "mapping",
    "enqueue": "list of mappings",
    "overrides": "list of entries",
    "choices": "list",
    "nested": "list of mappings",
}
_JSON_TYPES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}


def json_schema() -> dict[str, Any]:
    """Return the schema of a plan file. It leaves keys of `config` and `hardware` open, and all that spans keys."""
    body = plan.Plan.model_json_schema(mode="validation")
    # `when: {budget: 2B}` is short for a list of one.
    names = body["$defs"]["Override"]["properties"]["when"]["patternProperties"]
    for pattern, many in names.items():
        names[pattern] = {"anyOf": [many, many["items"]]}
    for properties in (body["properties"], body["$defs"]["OverrideSet"]["properties"]):
        # `resources: auto` is short for a mapping.
        properties["resources"] = {"anyOf": [{"const": plan.AUTO}, properties["resources"]]}
    _close(body)
    return {"$schema": DIALECT, **body, "title": "A plan of sweep-supervisor"}


def _close(node: Any) -> None:
    """Make names that do not match their pattern errors, not free extras."""
    if isinstance(node, dict) and "patternProperties" in node:
        node["additionalProperties"] = False
    for part in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _close(part)


def schema_text() -> str:
    """Return the schema as the text of its file."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def tables() -> str:
    """Return Markdown: a section for each model, a row for each key."""
    return "\n".join(_section(title, model) for title, model in SECTIONS)


def rewritten(document: str) -> str:
    """Return `document` with new tables between its marks. Raises ValueError without the marks."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document needs {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


def _section(title: str, model: type[dimensions.Part]) -> str:
    lines = [f"### {title}", "", (model.__doc__ or "").strip(), ""]
    lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
    properties = model.model_json_schema()["properties"]
    for key in model.model_fields:
        lines.append(f"| `{key}` | {_type(key, properties[key])} | {_default(model, key)} | {_meaning(model, key)} |")
    return "\n".join([*(re.sub(r"\n\s+", "\n", line) for line in lines), ""])


def _type(key: str, schema: dict[str, Any]) -> str:
    if key in _FIXED:
        return _FIXED[key]
    kinds = [one for kind in schema.get("anyOf", [schema]) for one in kind.get("oneOf", [kind])]
    names = [_one_type(kind) for kind in kinds]
    shown = " or ".join(dict.fromkeys(name for name in names if name != "null"))
    return f"{shown}{', or null' if 'null' in names else ''}{_bounds(kinds[0])}"


def _one_type(schema: dict[str, Any]) -> str:
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    name = str(schema.get("type", "object"))
    return _JSON_TYPES.get(name, "mapping" if name == "object" else name)


def _bounds(schema: dict[str, Any]) -> str:
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    return "".join(f", {word} {schema[key]:,}" for key, word in words.items() if key in schema)


def _default(model: type[dimensions.Part], key: str) -> str:
    field = model.model_fields[key]
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, dimensions.Part):
        value = value.model_dump(mode="json")
    if model is plan.OverrideSet:
        return "as the plan"
    return f"`{json.dumps(list(value) if isinstance(value, tuple) else value)}`"


def _meaning(model: type[dimensions.Part], key: str) -> str:
    source = plan.Plan if model is plan.OverrideSet else model
    return source.model_fields[key].description or "which kind this is"


def main() -> int:
    """Rewrite the schema beside the built-in plans, and docs/plans.md of this checkout."""
    folder = Path(str(resources.files("tune_configs")))
    reference = folder.parent / "docs" / "plans.md"
    texts = {folder / SCHEMA_FILE: schema_text(), reference: rewritten(reference.read_text(encoding="utf-8"))}
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"wrote {path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
