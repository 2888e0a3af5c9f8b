"""README tells the truth: its tree is the files that there are, its links lead somewhere.

python tests/contract/test_readme.py     writes the tree anew
"""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- tree: made from", "<!-- end of tree -->"
DOCS = "runbook, plans, events, sensors, training, evaluation, report, reliability, security, decisions, examples"
ROOMS = {
    "supervisor": "commands, daemon, store, plans, governor, report; knows no Ray, torch or Optuna",
    "supervisor/sensors": "where readings come from",
    "actors": "the only room that knows Ray and Optuna",
    "training": "data, model and training loop of the built-in search; knows no Ray",
    "tune_configs": "plans, and nothing else",
    "benchmarks": "what the figures come from",
}


def _first_line(path: Path) -> str:
    """The first sentence of a module's docstring, or of a YAML file's description."""
    text = path.read_text()
    if path.suffix == ".yaml":
        found = re.search(r"^description: (.+)$", text, re.MULTILINE)
        assert found, f"{path} has no description"
        return found[1].strip('"')
    line = (ast.get_docstring(ast.parse(text)) or "").split("\n\n", 1)[0].replace("\n", " ")
    assert line, f"{path} has no docstring"
    return line.split(". ")[0].rstrip(".")


def tree() -> str:
    """The part of README between the two marks."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    lines = ["```", f"{'_sweep_launcher.py':<29}{_first_line(ROOT / '_sweep_launcher.py')}"]
    for room, what in ROOMS.items():
        lines.append(f"{room + '/':<29}{what}")
        for name in sorted(tracked):
            path = Path(name)
            if str(path.parent) == room and path.suffix in (".py", ".yaml"):
                lines.append(f"  {path.name:<27}{_first_line(ROOT / name)}")
    lines += [
        f"{'tests/':<29}unit (no Ray), contract, integration (Ray), acceptance (the real commands)",
        f"{'docs/':<29}{DOCS}",
        f"{'logs/':<29}JSON lines at run time",
        "```",
    ]
    return "\n".join(lines)


def _written(readme: str) -> str:
    return readme[readme.index("\n", readme.index(BEGIN)) + 1 : readme.index(END)].strip()


def test_the_tree_is_the_files_that_there_are() -> None:
    assert _written((ROOT / "README.md").read_text()) == tree(), "run: python tests/contract/test_readme.py"


def test_links_and_pictures_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target


if __name__ == "__main__":
    page = (ROOT / "README.md").read_text()
    start = page.index("\n", page.index(BEGIN)) + 1
    (ROOT / "README.md").write_text(page[:start] + "\n" + tree() + "\n\n" + page[page.index(END) :])
