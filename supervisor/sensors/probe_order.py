"""Which providers there are, in the order in which they are asked. One line each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from supervisor.reading import Availability
from supervisor.sensors.disk import DiskProvider
from supervisor.sensors.host import HostProvider
from supervisor.sensors.hwmon import HwmonProvider
from supervisor.sensors.instant import TimeSource
from supervisor.sensors.provider import Provider
from supervisor.sensors.scripted import ScriptedProvider


def open_providers(
    script: str | Path | None, folders: Sequence[Path], clock: TimeSource
) -> tuple[list[Provider], list[tuple[str, Availability]]]:
    """The providers that work here, and what every one said of itself.

    `script` is a trace file, or a drill's name, to play in place of the real temperatures. The scripted provider is
    always there, since drills go through it.
    Raises ValueError or OSError for a bad script; a provider that cannot work here is no error.
    """
    scripted = ScriptedProvider.playing(script, clock)
    candidates: list[Provider] = [scripted, HostProvider(clock), DiskProvider(folders, clock)]
    if script is None:
        candidates.append(HwmonProvider(clock))
    said = [(provider, provider.probe()) for provider in candidates]
    for provider, availability in said:
        if not availability.ok:
            provider.close()
    working = [provider for provider, availability in said if availability.ok]
    return working, [(provider.name, availability) for provider, availability in said]
