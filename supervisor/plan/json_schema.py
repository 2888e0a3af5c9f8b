"""Writes tune_configs/plan.schema.json, the plan's JSON Schema for editors: `python -m supervisor.plan.json_schema`."""

from __future__ import annotations

import json
import sys
from importlib import resources
from pathlib import Path
from typing import Any

from supervisor.plan.schema import Plan

FILE = "plan.schema.json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """The schema of a plan file. Keys of `config` and `hardware`, and what spans several keys, it cannot know."""
    body = Plan.model_json_schema(mode="validation")
    _accept_single_values(body)
    _close(body)
    return {"$schema": DIALECT, **body, "title": "A plan of sweep-supervisor"}


def _accept_single_values(body: dict[str, Any]) -> None:
    """`when: {budget: 2B}` is short for a list of one."""
    names = body["$defs"]["Override"]["properties"]["when"]["patternProperties"]
    for pattern, many in names.items():
        names[pattern] = {"anyOf": [many, many["items"]]}


def _close(node: Any) -> None:
    """Names that do not match their pattern are errors, not free extras."""
    if isinstance(node, dict):
        if "patternProperties" in node:
            node["additionalProperties"] = False
        for part in node.values():
            _close(part)
    elif isinstance(node, list):
        for part in node:
            _close(part)


def text() -> str:
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    """Write the schema beside the built-in plans of this checkout."""
    path = Path(str(resources.files("tune_configs"))) / FILE
    path.write_text(text(), encoding="utf-8")
    sys.stdout.write(f"wrote {path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
