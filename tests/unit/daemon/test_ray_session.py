"""Test the folder of a Ray session: its needed paths, and its full disk."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from supervisor.daemon.experiments.ray_session import ENOUGH_BYTES, LOW_BYTES, session_of, still_full
from supervisor.daemon.upkeep.disk_reserve import MIB


def test_a_session_needs_its_folder_and_the_sockets_by_which_workers_find_ray(tmp_path: Path) -> None:
    session = tmp_path / "session_1"
    (session / "sockets").mkdir(parents=True)
    for name in ("raylet", "plasma_store", "dash_DataHead"):
        (session / "sockets" / name).touch()
    (tmp_path / "session_latest").symlink_to(session)
    assert session_of(tmp_path) == (session, session / "sockets" / "raylet", session / "sockets" / "plasma_store")


def test_without_a_session_no_path_is_needed(tmp_path: Path) -> None:
    assert session_of(tmp_path) == ()
    (tmp_path / "session_latest").symlink_to(tmp_path / "gone")
    assert session_of(tmp_path) == ()


@given(st.lists(st.integers(0, 256 * MIB), min_size=1))
def test_a_disk_is_full_below_the_lower_mark_and_until_the_upper_one(looks: list[int]) -> None:
    full = False
    for free in looks:
        before, full = full, still_full(full, free)
        if free < LOW_BYTES:
            assert full
        elif free >= ENOUGH_BYTES:
            assert not full
        else:
            assert full == before, "between the marks nothing changes"
