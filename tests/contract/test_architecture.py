"""docs/architecture.md tells the truth: its tree is the files that there are, its counts are theirs.

python tests/contract/test_architecture.py     writes the tree and the table of rooms anew
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "architecture.md"
MARKED = ("tree", "rooms")
PACKAGES = ("tune_configs", "training", "supervisor", "actors", "benchmarks")


def python_files() -> list[Path]:
    """List the tracked modules of all packages, relative to the checkout."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    paths = [Path(name) for name in names]
    return [p for p in paths if p.parts[0] in PACKAGES and p.suffix in (".py", ".yaml") and (ROOT / p).exists()]


def folders() -> dict[Path, list[Path]]:
    """Map each folder of the packages to its modules, both in order."""
    found: dict[Path, list[Path]] = defaultdict(list)
    for path in python_files():
        found[path.parent].append(path)
    return {folder: sorted(found[folder]) for folder in sorted(found, key=lambda f: (PACKAGES.index(f.parts[0]), f))}


def first_sentence(path: Path) -> str:
    """Return the first sentence of a module's docstring, or a plan's description."""
    text = (ROOT / path).read_text()
    if path.suffix == ".yaml":
        found = re.search(r"^description: (.+)$", text, re.MULTILINE)
        assert found, f"{path} has no description"
        return found[1].strip('"')
    line = (ast.get_docstring(ast.parse(text)) or "").split("\n\n", 1)[0].replace("\n", " ")
    assert line, f"{path} has no docstring"
    return re.split(r"\.\s|: `", line)[0].rstrip(".")


def tree() -> str:
    """Draw the files of every folder, each with its first sentence."""
    lines = ["```", f"{'_sweep_launcher.py':<31}{first_sentence(Path('_sweep_launcher.py'))}"]
    for folder, paths in folders().items():
        init = folder / "__init__.py"
        lines.append(f"{folder.as_posix() + '/':<31}{first_sentence(init) if init in paths else ''}".rstrip())
        lines += [f"  {path.name:<29}{first_sentence(path)}" for path in paths if path.name != "__init__.py"]
    return "\n".join([*lines, "```"])


def functions(path: Path) -> Iterator[int]:
    """Yield the length in lines of each function of a module."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield (node.end_lineno or node.lineno) - node.lineno + 1


def rooms() -> str:
    """Tabulate the folders: modules, lines, the largest module."""
    rows = ["| folder | modules | lines | largest |", "|---|---:|---:|---|"]
    for folder, paths in folders().items():
        modules = [path for path in paths if path.suffix == ".py" and path.name != "__init__.py"]
        sizes = {path: len((ROOT / path).read_text().splitlines()) for path in modules}
        if sizes:
            largest = max(modules, key=lambda path: sizes[path])
            rows.append(
                f"| {folder.as_posix()}/ | {len(sizes)} | {sum(sizes.values()):,} | {largest.name} ({sizes[largest]}) |"
            )
    return "\n".join(rows)


def marks(name: str) -> tuple[str, str]:
    return f"<!-- {name}: written by tests/contract/test_architecture.py -->", f"<!-- end of {name} -->"


def written(page: str, name: str) -> str:
    begin, end = marks(name)
    return page.split(begin, 1)[1].split(end, 1)[0].strip()


def test_the_page_shows_the_files_that_there_are() -> None:
    assert written(PAGE.read_text(), "tree") == tree(), "run: python tests/contract/test_architecture.py"


def write() -> None:
    page = PAGE.read_text()
    for name, content in (("tree", tree()), ("rooms", rooms())):
        begin, end = marks(name)
        before, rest = page.split(begin, 1)
        page = f"{before}{begin}\n{content}\n{end}{rest.split(end, 1)[1]}"
    PAGE.write_text(page)


if __name__ == "__main__":
    write()
