"""logs/debug.jsonl holds JSON lines; neither it nor standard error quotes a secret."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

LOGS = """
import logging, sys
from pathlib import Path
from supervisor.daemon.upkeep.debug_log import set_up_logging
from supervisor.home import Home
home = Home(Path(sys.argv[1]))
home.prepare()
set_up_logging(home)
log = logging.getLogger("supervisor")
log.warning("cannot reach %s", "https://ann:hush-hush@host")
try:
    raise ValueError("password=hush-hush")
except ValueError:
    log.exception("it failed")
"""


def test_neither_log_quotes_a_secret_not_even_in_a_trace(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", LOGS, tmp_path], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in (tmp_path / "logs" / "debug.jsonl").read_text().splitlines()]
    assert [(line["event"], line["level"]) for line in lines] == [
        ("cannot reach https://***@host", "warning"), ("it failed", "error"),
    ]  # fmt: skip
    for text in ((tmp_path / "logs" / "debug.jsonl").read_text(), ended.stderr):
        assert "hush-hush" not in text
        assert "password=***" in text
        assert "ValueError" in text


def test_a_log_that_another_program_takes_goes_on_under_its_name(tmp_path: Path) -> None:
    takes = """
for take in (lambda: file.rename(file.with_name("moved")), file.unlink):
    log.warning("before")
    take()
    log.warning("after")
    assert [json.loads(line)["event"] for line in file.read_text().splitlines()] == ["after"]
assert '"before"' in file.with_name("moved").read_text()
"""
    code = LOGS.replace("import logging", "import json, logging") + "file = home.logs / 'debug.jsonl'" + takes
    ended = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
