"""Lists all providers in order, and opens those that work on this machine."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from supervisor.clock import TimeSource
from supervisor.sensors.apple.macmon import MacmonProvider
from supervisor.sensors.battery import BatteryProvider
from supervisor.sensors.cpu_throttle import CpuThrottleProvider
from supervisor.sensors.disk import DiskProvider
from supervisor.sensors.host import HostProvider
from supervisor.sensors.isolation import IsolatedProvider, child_command
from supervisor.sensors.memory_pressure import MemoryKillsProvider, PressureStallProvider
from supervisor.sensors.provider import Provider
from supervisor.sensors.reading import Availability
from supervisor.sensors.scripted import ScriptedProvider
from supervisor.sensors.trial_memory import TrialMemoryProvider, Workers

LINUX, MACOS = ("linux",), ("darwin",)
ANYWHERE = LINUX + MACOS

Make = Callable[[TimeSource, Sequence[Path]], Provider]


@dataclass(frozen=True)
class Listed:
    """A provider and its platforms; `thermal` ones are left out while a script plays the temperatures."""

    platforms: tuple[str, ...]
    make: Make
    thermal: bool = False


def _isolated(name: str, target: str) -> Make:
    """Return a maker of the provider `target` (module:class) in a child process. For drivers that may hang."""
    return lambda clock, _folders: IsolatedProvider(name, child_command(target), clock)


PROVIDERS = (
    Listed(ANYWHERE, lambda clock, _: HostProvider(clock)),
    Listed(ANYWHERE, lambda clock, folders: DiskProvider(folders, clock)),
    Listed(LINUX, lambda clock, _: PressureStallProvider(clock)),
    Listed(LINUX, lambda clock, _: MemoryKillsProvider(clock)),
    Listed(LINUX, lambda clock, _: BatteryProvider(clock)),
    Listed(LINUX, lambda clock, _: CpuThrottleProvider(clock), thermal=True),
    Listed(LINUX, _isolated("hwmon", "supervisor.sensors.hwmon:HwmonProvider"), thermal=True),
    Listed(LINUX, _isolated("nvidia", "supervisor.sensors.nvidia:NvidiaProvider"), thermal=True),
    Listed(MACOS, _isolated("apple", "supervisor.sensors.apple.provider:AppleProvider"), thermal=True),
    Listed(MACOS, _isolated("mac-battery", "supervisor.sensors.battery:MacBatteryProvider")),
    Listed(MACOS, lambda clock, _: MacmonProvider(clock)),
)


def open_providers(
    script: str | Path | None,
    folders: Sequence[Path],
    clock: TimeSource,
    platform: str = sys.platform,
    workers: Workers | None = None,
) -> tuple[list[Provider], list[tuple[str, Availability]]]:
    """Return the providers that work or may recover, and the availability of all.

    `script` is a trace file, or a drill's name, to play instead of the real temperatures. The scripted provider is
    always open, since it plays the drills. `workers` names the workers of this node whose memory is measured.
    Raises ValueError or OSError for a bad script; a provider that cannot work on this machine is no error.
    """
    candidates: list[Provider] = [ScriptedProvider.playing(script, clock)]
    candidates += [
        listed.make(clock, folders)
        for listed in PROVIDERS
        if platform in listed.platforms and not (listed.thermal and script is not None)
    ]
    if workers is not None:
        candidates.append(TrialMemoryProvider(workers, clock))
    probed = [(provider, provider.probe()) for provider in candidates]
    # A provider whose driver hung at the start is kept: it may recover during a run of days.
    working = [p for p, found in probed if found.ok or (isinstance(p, IsolatedProvider) and p.at_fault)]
    for provider, _ in probed:
        if provider not in working:
            provider.close()
    return working, [(provider.name, availability) for provider, availability in probed]
