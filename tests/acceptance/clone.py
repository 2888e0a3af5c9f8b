"""Clone the project as its last commit has it, with commands of its own that use the installed libraries.

What is not committed does not travel, so a test that types in a clone finds a file that was forgotten. The environment
is new: an editable installation of the checkout, which the tests' own Python has, would run the checkout's code.
"""

from __future__ import annotations

import os
import subprocess
import sysconfig
import tomllib
import venv
from dataclasses import dataclass
from pathlib import Path

from tests.waits import NET_S

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("supervisor", "actors", "training", "tune_configs", "_sweep_launcher")
SCRIPT = """\
#!{python}
import sys

from {module} import {function}

sys.exit({function}())
"""


@dataclass(frozen=True)
class Clone:
    """A clone of the checkout, and the folder of its Python and its commands."""

    root: Path
    bin: Path

    def page(self, name: str) -> str:
        return (self.root / name).read_text()

    def origins(self) -> list[Path]:
        """Return the files from which the Python of the commands imports the project's packages."""
        program = (
            f"import {', '.join(PACKAGES)}; print(*(each.__file__ for each in ({', '.join(PACKAGES)})), sep='\\n')"
        )
        shown = _run([str(self.bin / "python"), "-P", "-c", program], self.root.parent)
        return [Path(line) for line in shown.splitlines()]

    def is_what_runs(self) -> bool:
        """Return whether the commands and each package come from the clone."""
        version = _run([str(self.bin / "supervisorctl"), "version"], self.root.parent)
        return str(self.root / "supervisor") in version and all(
            origin.is_relative_to(self.root) for origin in self.origins()
        )


def clone_checkout(folder: Path) -> Clone:
    """Clone the checkout's last commit into `folder`, and make an environment for the clone."""
    root = folder.resolve() / "clone"
    _run(["git", "clone", "--quiet", str(ROOT), str(root)], folder)
    same = [_run(["git", "rev-parse", "HEAD"], place) for place in (ROOT, root)]
    assert same[0] == same[1], "the clone has another commit than the checkout"
    return Clone(root, _environment(root))


def _environment(root: Path) -> Path:
    """Make `.venv` in the clone, as `make install` does, without a download; return the folder of its commands."""
    venv.create(root / ".venv", symlinks=True)
    packages = [path for path in (root / ".venv").glob("lib/python3.*/site-packages") if path.is_dir()]
    libraries = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    # A folder on a line of a .pth file is searched, but its own .pth files are not read (site(3)).
    (packages[0] / "clone.pth").write_text("".join(f"{path}\n" for path in (root, *libraries)))
    bin_folder = root / ".venv" / "bin"
    scripts = tomllib.loads((root / "pyproject.toml").read_text())["project"]["scripts"]
    for name, place in scripts.items():
        module, _, function = place.partition(":")
        script = bin_folder / name
        script.write_text(SCRIPT.format(python=bin_folder / "python", module=module, function=function))
        script.chmod(0o755)
    return bin_folder


def _run(command: list[str], folder: Path) -> str:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH" and not name.startswith("GIT_")}
    done = subprocess.run(
        command, cwd=folder, env=kept, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=NET_S,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout
