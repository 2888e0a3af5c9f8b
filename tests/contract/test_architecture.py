"""docs/architecture.md tells the truth about the files, and the files keep their limits of size.

python tests/contract/test_architecture.py     writes the generated parts of the page anew
"""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "architecture.md"
PACKAGES = ("tune_configs", "training", "supervisor", "actors", "benchmarks")
MAX_MODULES, MAX_LINES, MIN_SHARE_OF_SHORT_FILES = 24, 300, 0.95
MAX_MEDIAN_FUNCTION, MAX_FUNCTION = 8, 60
MAX_CLASS_LINES, MAX_METHODS = 250, 20


@cache
def python_files() -> list[Path]:
    """List the tracked modules of all packages and of the tests, relative to the checkout."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    paths = [Path(name) for name in names]
    wanted = [path for path in paths if path.parts[0] in (*PACKAGES, "tests") and path.suffix in (".py", ".yaml")]
    return [path for path in wanted if (ROOT / path).exists()]


def folders() -> dict[Path, list[Path]]:
    """Map each folder of the packages to its modules, both in order."""
    found: dict[Path, list[Path]] = defaultdict(list)
    for path in python_files():
        if path.parts[0] in PACKAGES:
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


@cache
def lines(path: Path) -> int:
    return len((ROOT / path).read_text().splitlines())


def functions() -> Iterator[tuple[int, str]]:
    """Yield the length in lines of each function of the packages, and its place."""
    for path in python_files():
        if path.suffix == ".py" and path.parts[0] in PACKAGES:
            for node in ast.walk(ast.parse((ROOT / path).read_text())):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield (node.end_lineno or node.lineno) - node.lineno + 1, f"{path}: {node.name}"


def modules(paths: list[Path]) -> list[Path]:
    return [path for path in paths if path.suffix == ".py" and path.name != "__init__.py"]


def tree() -> str:
    """Draw the files of every folder, each with its first sentence."""
    drawn = ["```", f"{'_sweep_launcher.py':<31}{first_sentence(Path('_sweep_launcher.py'))}"]
    for folder, paths in folders().items():
        init = folder / "__init__.py"
        drawn.append(f"{folder.as_posix() + '/':<31}{first_sentence(init) if init in paths else ''}".rstrip())
        drawn += [f"  {path.name:<29}{first_sentence(path)}" for path in paths if path.name != "__init__.py"]
    return "\n".join([*drawn, "```"])


def arrows() -> str:
    """Tabulate the rooms of the import test: the job of each, and the rooms that it may import."""
    from tests.contract.test_imports import LAZILY_TRAINING, MAY_IMPORT

    rows = ["| room | job | may import |", "|---|---|---|"]
    for room, targets in MAY_IMPORT.items():
        if room != "_sweep_launcher":
            job = first_sentence(Path(room.replace(".", "/"), "__init__.py"))
            names = sorted(target.removeprefix("supervisor.") for target in targets)
            names += ["training (inside functions)"] if room in LAZILY_TRAINING else []
            rows.append(f"| {room.replace('.', '/')}/ | {job} | {', '.join(names) or '–'} |")
    return "\n".join(rows)


def sizes() -> str:
    """Tabulate the folders: modules, lines, the largest module; then the figures of all files and functions."""
    rows = ["| folder | modules | lines | largest |", "|---|---:|---:|---|"]
    for folder, paths in folders().items():
        if found := modules(paths):
            largest = max(found, key=lines)
            total = sum(map(lines, found))
            rows.append(f"| {folder.as_posix()}/ | {len(found)} | {total:,} | {largest.name} ({lines(largest)}) |")
    tests = modules([path for path in python_files() if path.parts[0] == "tests"])
    largest = max(tests, key=lines)
    rows.append(f"| tests/ | {len(tests)} | {sum(map(lines, tests)):,} | {largest.name} ({lines(largest)}) |")
    lengths = [length for length, _ in functions()]
    summary = (
        f"{share_of_short_files():.0%} of these files have at most {MAX_LINES} lines. The median function of the rooms "
        f"has {statistics.median(lengths):.0f} lines, the longest {max(lengths)}."
    )
    return "\n".join([*rows, "", summary])


def share_of_short_files() -> float:
    found = modules(python_files())
    return sum(lines(path) <= MAX_LINES for path in found) / len(found)


GENERATED = {"rooms": arrows, "sizes": sizes, "tree": tree}


def marks(name: str) -> tuple[str, str]:
    return f"<!-- {name}: written by tests/contract/test_architecture.py -->", f"<!-- end of {name} -->"


def written(page: str, name: str) -> str:
    begin, end = marks(name)
    return page.split(begin, 1)[1].split(end, 1)[0].strip()


def test_the_page_shows_the_rooms_and_files_that_exist() -> None:
    """If not: `python tests/contract/test_architecture.py`."""
    page = PAGE.read_text()
    assert written(page, "rooms") == arrows()
    assert written(page, "tree") == tree()


def test_the_pages_counts_are_right_within_a_tenth() -> None:
    """So the page need not be written again with every commit."""

    def counts(table: str) -> dict[str, int]:
        return {
            folder: int(total.replace(",", ""))
            for folder, total in re.findall(r"^\| (\S+/) \|.*?\| ([\d,]+) \| \w", table, re.MULTILINE)
        }

    shown, true = counts(written(PAGE.read_text(), "sizes")), counts(sizes())
    assert shown.keys() == true.keys()
    assert [folder for folder in true if abs(shown[folder] - true[folder]) > max(100, true[folder] / 10)] == []


def test_the_drawing_of_the_rooms_has_the_arrows_of_the_import_test() -> None:
    """If not: `python docs/draw_architecture.py`."""
    from docs.draw_architecture import PICTURES, processes, rooms
    from tests.contract.test_imports import MAY_IMPORT

    assert (PICTURES / "rooms.svg").read_text() == rooms(MAY_IMPORT)
    assert (PICTURES / "processes.svg").read_text() == processes()


def test_no_folder_is_crowded_and_none_lies_deep() -> None:
    full = {str(folder): len(modules(paths)) for folder, paths in folders().items()}
    assert {folder: count for folder, count in full.items() if count > MAX_MODULES} == {}
    assert [folder for folder in folders() if len(folder.parts) > 3] == []


def test_nearly_all_files_are_short() -> None:
    long = sorted((lines(path), str(path)) for path in modules(python_files()) if lines(path) > MAX_LINES)
    assert share_of_short_files() >= MIN_SHARE_OF_SHORT_FILES, long


def test_functions_are_short() -> None:
    found = list(functions())
    assert [place for length, place in found if length > MAX_FUNCTION] == []
    assert statistics.median(length for length, _ in found) <= MAX_MEDIAN_FUNCTION


def methods(node: ast.ClassDef) -> int:
    """Count the methods of a class, without its properties."""
    return sum(
        isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)
        and not any(isinstance(mark, ast.Name) and mark.id == "property" for mark in part.decorator_list)
        for part in node.body
    )


def test_classes_are_small() -> None:
    large = [
        f"{path}: {node.name}"
        for path in modules(python_files())
        if path.parts[0] in PACKAGES
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.ClassDef)
        if (node.end_lineno or node.lineno) - node.lineno >= MAX_CLASS_LINES or methods(node) > MAX_METHODS
    ]
    assert large == []


def write() -> None:
    page = PAGE.read_text()
    for name, content in GENERATED.items():
        begin, end = marks(name)
        before, rest = page.split(begin, 1)
        page = f"{before}{begin}\n{content()}\n{end}{rest.split(end, 1)[1]}"
    PAGE.write_text(page)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    write()
