"""Sends one message: `python -P -m supervisor.processes.notification`, a JSON object on its input, one on its output.

A process of its own: Apprise takes 0.2 s to load and services take their time, and the daemon's loop has none to give.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from dataclasses import dataclass
from typing import Any

from supervisor.processes.environment import passed_on
from supervisor.processes.guardian import end_group
from supervisor.processes.notice_addresses import scheme

SEND_WITHIN_S = 30.0
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")

NO_APPRISE = "the package apprise is not installed here: `pip install apprise`"


@dataclass(frozen=True)
class Outcome:
    """Says whether at least one address was reached, and why the others failed."""

    reached: bool
    problem: str | None = None


async def send_message(addresses: list[str], title: str, body: str, within_s: float) -> Outcome:
    """Send one message by a child process that is killed after `within_s` seconds."""
    request = json.dumps({"addresses": addresses, "title": title, "body": body}).encode()
    try:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "supervisor.processes.notification", stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, start_new_session=True,
            env=passed_on(PROXIES),
        )  # fmt: skip
    except OSError as error:
        return Outcome(False, f"the sender cannot start: {error}")
    try:
        async with asyncio.timeout(within_s):
            answer, _ = await child.communicate(request)
    except TimeoutError:
        return Outcome(False, f"no service answered within {within_s:g} s")
    finally:
        # Also on cancellation: a child must not outlive its caller.
        if child.returncode is None:
            end_group(child.pid, 0.0)
            await child.wait()
    if child.returncode != 0:
        return Outcome(False, f"the sender ended with {child.returncode}")
    try:
        failures: dict[str, str] = dict(json.loads(answer))
    except (ValueError, TypeError):
        # A plug-in may have printed something that quotes the address, so the answer is not shown.
        return Outcome(False, "the sender did not answer in JSON")
    problem = "; ".join(f"{address}: {why}" for address, why in failures.items())
    return Outcome(len(failures) < len(addresses), problem or None)


def send(addresses: list[str], title: str, body: str) -> dict[str, str]:
    """Why each failed address failed, by its scheme and place in the file; empty: all were reached."""
    try:
        import apprise
    except ImportError:
        return {f"{scheme(address)} (address {number})": NO_APPRISE for number, address in enumerate(addresses, 1)}
    logging.getLogger("apprise").setLevel(logging.CRITICAL)
    failures: dict[str, str] = {}
    for number, address in enumerate(addresses, start=1):
        service = apprise.Apprise()
        if not service.add(address):
            failures[f"{scheme(address)} (address {number})"] = "Apprise does not know this kind of address"
        elif not service.notify(title=title, body=body):
            failures[f"{scheme(address)} (address {number})"] = "the service did not take it"
    return failures


def main() -> int:
    """Reads the request, sends, writes the failures."""
    request: dict[str, Any] = json.load(sys.stdin)
    failures = send(request["addresses"], request["title"], request["body"])
    json.dump(failures, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
