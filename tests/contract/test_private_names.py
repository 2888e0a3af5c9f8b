"""Acceptance and integration tests look at behaviour: they use no private name of other modules."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
NOT_PRIVATE = frozenset({"os._exit", "_sweep_launcher"})


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def private_uses(source: str) -> Iterator[str]:
    """Yield every private name that `source` reads from another object, or imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if not own and ast.unparse(node) not in NOT_PRIVATE:
                yield f"line {node.lineno}: {ast.unparse(node)}"
        if isinstance(node, ast.ImportFrom | ast.Import):
            for alias in node.names:
                if any(is_private(part) for part in alias.name.split(".")) and alias.name not in NOT_PRIVATE:
                    yield f"line {node.lineno}: import {alias.name}"


@pytest.mark.parametrize("folder", ["acceptance", "integration"])
def test_no_private_name_of_another_module_is_used(folder: str) -> None:
    found = [f"{path.name} {use}" for path in (TESTS / folder).rglob("*.py") for use in private_uses(path.read_text())]
    assert found == []


def test_a_private_name_is_found() -> None:
    source = "import os\nfrom a import _b\ndef f(self, x):\n    os._exit(self._own + x._other)\n    x.__class__\n"
    assert list(private_uses(source)) == ["line 2: import _b", "line 4: x._other"]
