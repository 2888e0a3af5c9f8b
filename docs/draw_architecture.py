"""Draw the pictures of docs/architecture.md: the processes, and the rooms with their arrows.

    python docs/draw_architecture.py

The rooms' arrows come from the import test's table; an arrow that a chain of others implies is left out.
"""

from __future__ import annotations

import html
import sys
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
PICTURES = CHECKOUT / "docs" / "pictures"
STYLE = """
text { font-family: system-ui, 'DejaVu Sans', sans-serif; font-size: 13px; fill: #1f2328; text-anchor: middle }
.name { font-weight: 600; font-size: 14px } .label { font-size: 12px; fill: #57606a } .title { fill: #57606a }
.page { fill: #ffffff } .panel { fill: #f6f8fa; stroke: #d0d7de } .box { fill: #ddf4ff; stroke: #54aeff }
.file { fill: #fff8c5; stroke: #d4a72c } .head { fill: #57606a }
.line { stroke: #57606a; stroke-width: 1.4; fill: none }
.halo { stroke: #ffffff; stroke-width: 4; paint-order: stroke; stroke-linejoin: round }
.onpanel { stroke: #f6f8fa }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .label, .title { fill: #9198a1 } .page { fill: #0d1117 }
.panel { fill: #161b22; stroke: #3d444d }
.box { fill: #0c2d4d; stroke: #388bfd } .file { fill: #3a2f0b; stroke: #bb8009 } .line { stroke: #9198a1 }
.head { fill: #9198a1 } .halo { stroke: #0d1117 } .onpanel { stroke: #161b22 }
}
"""
HEAD = (
    '<defs><marker id="end" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
    'orient="auto-start-reverse"><path class="head" d="M0 0 L10 5 L0 10 z"/></marker></defs>'
)


@dataclass(frozen=True)
class Box:
    x: float
    """The height of the centre, as y."""
    y: float
    width: float
    height: float
    lines: tuple[str, ...]
    kind: str = "box"

    def svg(self) -> str:
        shape = (
            f'<rect class="{self.kind}" x="{self.x - self.width / 2}" y="{self.y - self.height / 2}" '
            f'width="{self.width}" height="{self.height}" rx="8"/>'
        )
        first = self.y - (len(self.lines) - 1) * 9 + 5
        return shape + "".join(
            text(self.x, first + 18 * i, line, "name" if i == 0 else "label") for i, line in enumerate(self.lines)
        )

    def edge_towards(self, other: Box) -> tuple[float, float]:
        """Return the point of this box's edge that faces the other box."""
        dx, dy = other.x - self.x, other.y - self.y
        if abs(dy) < (self.height + other.height) / 2:
            return self.x + (self.width / 2 if dx > 0 else -self.width / 2), self.y
        shift = max(-0.35, min(0.35, dx / 900)) * self.width
        return self.x + shift, self.y + (self.height / 2 if dy > 0 else -self.height / 2)


def text(x: float, y: float, content: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.0f}" y="{y:.0f}">{html.escape(content)}</text>'


def panel(x: float, y: float, width: float, height: float, title: str) -> str:
    rect = f'<rect class="panel" x="{x}" y="{y}" width="{width}" height="{height}" rx="10"/>'
    return rect + text(x + width / 2, y + 20, title, "title")


def arrow(begin: tuple[float, float], end: tuple[float, float], *, both: bool = False, dashed: bool = False) -> str:
    extra = ('marker-start="url(#end)" ' if both else "") + ('stroke-dasharray="5 4" ' if dashed else "")
    path = f"M{begin[0]:.0f} {begin[1]:.0f} L{end[0]:.0f} {end[1]:.0f}"
    return f'<path class="line" {extra}marker-end="url(#end)" d="{path}"/>'


def page(width: int, height: int, parts: list[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}">\n'
        f"<style>{STYLE}</style>{HEAD}\n"
        f'<rect class="page" width="{width}" height="{height}" rx="10"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def processes() -> str:
    """Draw the processes of a run, and the messages between them."""
    client = Box(140, 80, 200, 70, ("supervisorctl", "standard library only"))
    daemon = Box(510, 80, 250, 76, ("supervisord", "the only writer of state and log", "no ray, torch or optuna"))
    files = Box(900, 80, 220, 76, ("files", "state/sweep.db: the store", "logs/PLAN.jsonl: the events"), "file")
    head = Box(140, 245, 214, 76, ("guardian and Ray head", "ends with the daemon", "GCS, raylet, workers"))
    driver = Box(510, 245, 250, 76, ("driver", "one process an experiment", "Tuner, scheduler, search"))
    jobs = Box(900, 245, 220, 76, ("children with one job", "report, evaluation, message", "each has a deadline"))
    watchdog = Box(215, 440, 250, 76, ("watchdog", "one Ray actor a node", "samples, governs, finds hangs"))
    trial = Box(805, 440, 250, 76, ("trials", "one Ray actor each, reused", "train epoch by epoch"))
    sensors = Box(215, 560, 250, 50, ("sensor children", "may hang: a process each"))
    checkpoints = Box(805, 560, 250, 50, ("checkpoints", "atomic files, named in the store"), "file")
    boxes = (client, daemon, files, head, driver, jobs, watchdog, trial, sensors, checkpoints)
    return page(
        1040,
        620,
        [
            panel(20, 350, 1000, 255, "each node"),
            arrow((240, 80), (385, 80), both=True),
            text(312, 60, "HTTP and JSON", "label"),
            text(312, 104, "unix socket, 0600", "label"),
            arrow((635, 80), (790, 80)),
            text(712, 60, "one transaction", "label"),
            text(712, 104, "then acknowledge", "label"),
            arrow((430, 118), (200, 207)),
            text(222, 160, "starts; sees its exit", "label halo"),
            arrow((510, 118), (510, 207), both=True),
            text(420, 166, "JSON lines on pipes", "label halo"),
            text(420, 183, "end of file: the other died", "label halo"),
            arrow((590, 118), (830, 207)),
            text(740, 155, "starts", "label halo"),
            arrow((450, 283), (270, 402), both=True),
            text(300, 325, "readings, commands", "label halo"),
            arrow((570, 283), (750, 402), both=True),
            text(745, 325, "Ray Tune: start, save, results", "label halo"),
            arrow((340, 425), (680, 425)),
            text(510, 417, "flag file, mmap: run, rest, pause, stop", "label halo onpanel"),
            arrow((680, 460), (340, 460)),
            text(510, 478, "heartbeat file, mmap: progress of each batch", "label halo onpanel"),
            arrow((215, 535), (215, 478)),
            text(285, 511, "readings", "label halo onpanel"),
            arrow((805, 478), (805, 535)),
            text(860, 511, "save", "label halo onpanel"),
            *(box.svg() for box in boxes),
        ],
    )


ROOMS: dict[str, tuple[float, int, str]] = {
    "supervisor.cli": (190, 0, "the two commands"),
    "supervisor.daemon": (420, 0, "the life of a run"),
    "supervisor.control": (85, 1, "API and client"),
    "supervisor.audit": (357, 1, "the event log"),
    "supervisor.report": (493, 1, "the report"),
    "supervisor.preflight": (629, 1, "checks the machine"),
    "supervisor.page": (221, 1, "the live page"),
    "supervisor.plan": (629, 2, "file to experiments"),
    "supervisor.store": (160, 3, "the truth, all SQL"),
    "supervisor.processes": (395, 3, "child processes"),
    "supervisor.governor": (615, 3, "reading to command"),
    "supervisor.domain": (270, 4, "pure values"),
    "supervisor.sensors": (520, 4, "readings"),
    "tune_configs": (795, 3, "built-in plans"),
    "training": (955, 3, "model, data, loop"),
    "actors.trial": (955, 2, "in a worker"),
    "actors.watchdog": (955, 1, "one a node"),
    "actors.driver": (955, 0, "one an experiment"),
}
"""Room: the x of its centre, its row from the top, its job in a few words."""


def rooms(may_import: dict[str, set[str]]) -> str:
    """Draw the rooms, and an arrow to each room that one imports directly."""
    boxes = {
        room: Box(x, 78 + 104 * row, 126, 48, (room.partition(".")[2] or room, job))
        for room, (x, row, job) in ROOMS.items()
    }
    arrows = [
        arrow(boxes[room].edge_towards(boxes[target]), boxes[target].edge_towards(boxes[room]))
        for room in boxes
        for target in sorted(direct(may_import, room))
    ]
    daemon, driver = boxes["supervisor.daemon"], boxes["actors.driver"]
    base = Box(350, 588, 640, 42, ("base: errors, home, clock, filesystem, redaction, failpoints",))
    return page(
        1050,
        630,
        [
            panel(15, 15, 685, 600, "supervisor/ never imports ray, torch, optuna"),
            panel(870, 15, 170, 325, "actors/: ray, optuna"),
            *arrows,
            arrow(daemon.edge_towards(driver), driver.edge_towards(daemon), dashed=True),
            text(780, 62, "starts by a command line", "label"),
            *(box.svg() for box in boxes.values()),
            base.svg(),
        ],
    )


def direct(may_import: dict[str, set[str]], room: str) -> set[str]:
    """Return the rooms that a room may import, except those that it reaches through another one."""
    below = {target: reachable(may_import, target) for target in may_import[room]}
    return {target for target in below if not any(target in others for others in below.values())}


def reachable(may_import: dict[str, set[str]], room: str) -> set[str]:
    found: set[str] = set()
    for target in may_import[room]:
        found |= {target} | reachable(may_import, target)
    return found


def main() -> None:
    sys.path.insert(0, str(CHECKOUT))
    from tests.contract.test_imports import MAY_IMPORT

    (PICTURES / "processes.svg").write_text(processes())
    (PICTURES / "rooms.svg").write_text(rooms(MAY_IMPORT))


if __name__ == "__main__":
    main()
