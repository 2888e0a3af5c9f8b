"""The pages of the manual can be read in a narrow window and compared line by line: their lines are short."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
MAX_COLUMNS = 120
FENCE = "```"
LINK_TARGET = re.compile(r"\]\([^)\s]*\)")


def prose(text: str) -> Iterator[tuple[int, str]]:
    """Yield number and text of each line that is no table and no code, without the targets of its links."""
    fenced = before_blank = indented = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith(FENCE):
            fenced = not fenced
            continue
        indented = line.startswith("    ") and (before_blank or indented)
        before_blank = not line.strip()
        if not (fenced or indented or line.lstrip().startswith("|")):
            yield number, LINK_TARGET.sub("]()", line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_line_of_a_page_is_too_long(page: Path) -> None:
    assert [(number, line) for number, line in prose(page.read_text()) if len(line) > MAX_COLUMNS] == []


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        (f"{'x' * 121}", True),
        (f"a list:\n\n- {'x' * 119}", True),
        (f"- a point\n    {'x' * 119}", True),
        (f"[{'x' * 20}]({'y' * 120})", False),
        (f"| {'x' * 120} |", False),
        (f"{FENCE}sh\n{'x' * 121}\n{FENCE}", False),
        (f"{FENCE}sh\na\n{FENCE}\n{'x' * 121}", True),
        (f"see:\n\n    {'x' * 121}", False),
    ],
)
def test_only_lines_of_prose_are_judged(text: str, counts: bool) -> None:
    assert any(len(line) > MAX_COLUMNS for _, line in prose(text)) is counts
