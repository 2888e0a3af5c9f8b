"""One projection: no other module writes its tables, and SQL stands in the store only."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PROJECTED = "run|experiment|trial|attempt|result|command|evaluation|event"
WRITES = re.compile(rf"\b(?:INSERT(?: OR \w+)? INTO|REPLACE INTO|UPDATE(?: OR \w+)?|DELETE FROM) (?:{PROJECTED})\b")
ANY_SQL = re.compile(r"\b(?:SELECT\b.+\bFROM|INSERT\b.*\bINTO|DELETE FROM|UPDATE \w+ SET)\b", re.DOTALL)
SOURCES = [path for room in ("supervisor", "actors", "training") for path in (ROOT / room).rglob("*.py")]


@functools.cache
def texts(path: Path) -> tuple[str, ...]:
    """Return the strings of a module; of an f-string the parts between its values, joined."""
    return tuple(_texts(ast.parse(path.read_text())))


def _texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "?".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_only_the_projection_writes_its_tables() -> None:
    sources = [path for path in SOURCES if path.name not in ("projection.py", "projection_rows.py")]
    assert {str(path): found for path in sources if (found := [t for t in texts(path) if WRITES.search(t)])} == {}


def test_only_the_store_knows_sql() -> None:
    sources = [path for path in SOURCES if path.parent != ROOT / "supervisor/store"]
    assert {str(path): found for path in sources if (found := [t for t in texts(path) if ANY_SQL.search(t)])} == {}


def test_the_search_finds_the_statements_of_the_projection() -> None:
    """The tests above can fail: where statements are, it sees them, each table among them."""
    found = " ".join(texts(ROOT / "supervisor/store/projection.py"))
    tables = {match.group().split()[-1] for match in WRITES.finditer(found)}
    assert tables == set(PROJECTED.split("|"))
    assert ANY_SQL.search(found)
