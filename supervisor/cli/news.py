"""Runs the verb `notify`: a test message to each address in state/notify, a test of the dead-man ping.

Standard library at import; the verb imports what it needs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from supervisor.cli.guide.progress import working
from supervisor.errors import NotFound, NotSent
from supervisor.home import Home

if TYPE_CHECKING:
    from supervisor.processes.ping import Answer


def notify(home: Home, _: argparse.Namespace) -> int:
    """Send the test message and the ping, print a line about each, and return 0. Raises NotSent if one failed."""
    import asyncio

    from supervisor.processes.notify_file import read_settings

    settings = read_settings(home.notify)
    if not settings.addresses and settings.ping is None:
        raise NotFound(
            f"no address in {home.notify}",
            remedy="write one a line, such as ntfy://my-topic, into it, mode 0600; then `supervisorctl notify test`",
        )
    with working("sending", quick=True):
        problems = asyncio.run(_send(settings.addresses))
        answer = None if settings.ping is None else asyncio.run(_ping(settings.ping))
    for line in _lines(settings.addresses, problems):
        print(line)
    if answer is not None:
        print(f"ping: {answer.words}" + ("; its check now expects one every 5 minutes" if answer.reached else ""))
    if settings.addresses:
        print(f"daily digest: {'off' if settings.digest_at is None else f'{settings.digest_at:%H:%M}'}")
    failed = sum(problem is not None for problem in problems) + (answer is not None and not answer.reached)
    if failed:
        raise NotSent(f"{failed} of {len(problems) + (answer is not None)} did not get the test")
    return 0


async def _send(addresses: tuple[str, ...]) -> list[str | None]:
    import platform

    from supervisor.processes.notification import SEND_WITHIN_S, send_message

    if not addresses:
        return []
    title = f"sweep supervisor: a test message from {platform.node() or 'this machine'}"
    return await send_message(addresses, title, "A test message.\n\nnext: `supervisorctl status`", SEND_WITHIN_S)


async def _ping(address: str) -> Answer:
    from supervisor.processes.ping import Sign, send_ping

    return await send_ping(address, Sign.ALIVE)


def _lines(addresses: tuple[str, ...], problems: list[str | None]) -> Iterator[str]:
    from supervisor.processes.notify_file import label

    for number, (address, problem) in enumerate(zip(addresses, problems, strict=True), start=1):
        yield f"{label(number, address)}: {problem or 'sent'}"
