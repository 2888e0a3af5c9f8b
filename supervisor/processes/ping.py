"""Asks for one web address, as a sign of life, by a child process: the daemon's loop must not wait for a network.

`python -P -m supervisor.processes.ping`; no text that leaves here quotes the address. Standard library only.
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from enum import StrEnum
from http.client import HTTPException
from urllib.parse import urlsplit, urlunsplit

from supervisor.errors import WorkerFailed
from supervisor.processes.environment import passed_environment
from supervisor.processes.json_worker import JsonWorker, python_module
from supervisor.processes.notification import NETWORK

WITHIN_S = 10.0
START_WITHIN_S = 5.0
"""The child's own start may take so long beside the service's time."""


class Sign(StrEnum):
    """The signs of healthchecks.io's protocol (https://healthchecks.io/docs/http_api/), as endings of the path."""

    ALIVE = ""
    START = "/start"
    FAIL = "/fail"


@dataclass(frozen=True)
class Answer:
    """Holds the HTTP status of an answer, or why there is none."""

    status: int | None = None
    problem: str | None = None

    @property
    def reached(self) -> bool:
        """Return whether the service took the ping."""
        return self.status is not None and self.status < 400

    @property
    def words(self) -> str:
        """Return the answer for people."""
        return self.problem or f"it answered with status {self.status}"


def address_of(address: str, sign: Sign) -> str:
    """Return the address of a sign: its ending goes before the query. Raises ValueError for what is no address."""
    parts = urlsplit(address)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + sign.value)) if sign.value else address


async def send_ping(address: str, sign: Sign, within_s: float = WITHIN_S) -> Answer:
    """Ask for the address of `sign`; return the answer, or the problem after `within_s` seconds at most."""
    worker = JsonWorker(python_module(__name__), passed_environment(NETWORK), within_s + START_WITHIN_S)
    try:
        return Answer(**await worker.ask({"address": address_of(address, sign), "within_s": within_s}))
    except WorkerFailed as error:
        return Answer(problem=f"the ping {error.problem}")
    except (TypeError, ValueError):
        return Answer(problem="this is no web address")


# --- in the child process ---


def ask(address: str, within_s: float) -> Answer:
    """Ask for `address` once."""
    try:
        request = urllib.request.Request(address, headers={"User-Agent": "sweep-supervisor"})  # noqa: S310 - notify_file allows http only
        with urllib.request.urlopen(request, timeout=within_s) as response:  # noqa: S310 - as above
            return Answer(status=response.status)
    except urllib.error.HTTPError as error:
        return Answer(status=error.code)
    except urllib.error.URLError as error:
        reason = error.reason.strerror if isinstance(error.reason, OSError) else None
        return Answer(problem=f"no connection ({reason or type(error.reason).__name__})")
    except (OSError, HTTPException, ValueError) as error:
        # Its text may quote the address.
        return Answer(problem=f"no answer ({type(error).__name__})")


def main() -> None:
    """Read the address from standard input, ask for it, and write the answer to standard output."""
    answer = ask(**json.load(sys.stdin))
    json.dump({"status": answer.status, "problem": answer.problem}, sys.stdout)


if __name__ == "__main__":
    main()
