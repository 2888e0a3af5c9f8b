"""Make the table of faults in docs/reliability.md from the marks of the tests.

    python -m tests.acceptance.faults.table

A mark is `@pytest.mark.fault("12", "the fault in a few words", "the outcome that the test asserts")`. Add
`faked="the stand-in"` if a Linux machine cannot have the fault. The marks are read from the source: neither Ray nor a
daemon is needed. A fault test takes its verdict from store, log or checker, by one of EVIDENCE.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
PAGE = CHECKOUT / "docs" / "reliability.md"
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
NUMBERS = range(1, 53)
REAL_AT_LEAST = 45
"""At least so many numbers must have a test whose fault is real."""

EVIDENCE = frozenset({"check_everything", "recorded", "stored", "audited", "nothing_begun"})
"""Functions of tests.acceptance.lives and tests.acceptance.faults.evidence."""


@dataclass(frozen=True, order=True)
class Fault:
    """One mark of one test."""

    number: int
    fault: str
    outcome: str
    module: str
    test: str
    faked: str | None
    has_evidence: bool

    def row(self) -> str:
        fault = self.fault if self.faked is None else f"{self.fault} (faked: {self.faked})"
        return f"| {self.number} | {fault} | {self.outcome} | `{self.module}`: `{self.test}` |"


def collect(folder: Path = CHECKOUT / "tests") -> list[Fault]:
    """Return every mark below `folder`, by number. Raises ValueError for one that is not three literal texts."""
    found = [fault for path in sorted(folder.rglob("test_*.py")) for fault in _of_module(path)]
    return sorted(found, key=lambda fault: (fault.number, fault.module, fault.test, fault.fault))


def _of_module(path: Path) -> Iterator[Fault]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.fault":
                    yield _fault(path, node, decorator)


def _fault(path: Path, node: ast.FunctionDef | ast.AsyncFunctionDef, mark: ast.Call) -> Fault:
    try:
        number, fault, outcome = (str(ast.literal_eval(argument)) for argument in mark.args)
        named = {str(keyword.arg): str(ast.literal_eval(keyword.value)) for keyword in mark.keywords}
        faked = named.pop("faked", None)
        if named:
            raise ValueError(f"it knows no {', '.join(named)}")
        return Fault(int(number), fault, outcome, path.stem, node.name, faked, _has_evidence(node))
    except ValueError as error:
        raise ValueError(f"{path}:{mark.lineno}: a fault's mark is number, fault and outcome: {error}") from error


def _has_evidence(node: ast.AST) -> bool:
    calls = (each.func for each in ast.walk(node) if isinstance(each, ast.Call))
    return any(ast.unparse(function).rpartition(".")[2] in EVIDENCE for function in calls)


def render(faults: list[Fault]) -> str:
    lines = ["| no. | fault | outcome | test |", "|---|---|---|---|", *(fault.row() for fault in faults)]
    return "\n".join(lines)


def with_table(page: str, faults: list[Fault]) -> str:
    """Return `page` with the table between its two markers. Raises ValueError if they are missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks {BEGIN} or {END}")
    return f"{before}{BEGIN}\n{render(faults)}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(), collect()))
