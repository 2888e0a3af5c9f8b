"""Streams: each has a bounded queue, a slow one is let go, and all end with the daemon."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from supervisor.page.audience import MAX_STREAMS, MAX_WAITING, Audience, Stream, message


def run(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scene)


def added(audience: Audience) -> Stream:
    stream = audience.add()
    assert stream is not None
    return stream


def test_each_stream_gets_every_message_in_order() -> None:
    async def scene() -> None:
        audience = Audience()
        one, other = added(audience), added(audience)
        for number in range(3):
            audience.publish("status", number)
        for stream in (one, other):
            assert [await stream.get(60.0) for _ in range(3)] == [message("status", number) for number in range(3)]

    run(scene())


def test_a_stream_that_takes_nothing_is_let_go_and_told_why_and_the_others_go_on() -> None:
    async def scene() -> None:
        audience = Audience()
        slow, quick = added(audience), added(audience)
        for number in range(MAX_WAITING + 1):
            audience.publish("status", number)
            assert await quick.get(60.0) == message("status", number)
        assert len(audience) == 1
        assert await slow.get(60.0) is None
        assert "too slow" in slow.farewell

    run(scene())


@given(st.lists(st.sampled_from(["publish", "take"]), max_size=150))
def test_no_more_than_the_bound_ever_waits(steps: list[str]) -> None:
    """A stream that has been let go gets nothing more; one that has not has missed nothing."""

    async def scene() -> None:
        audience = Audience()
        stream, sent, taken = added(audience), 0, 0
        for step in steps:
            if step == "publish":
                audience.publish("n", sent)
                sent += 1
            elif len(audience) and taken < sent:
                assert await stream.get(60.0) == message("n", taken)
                taken += 1
            assert (len(audience) == 1) == (sent - taken <= MAX_WAITING)
            if not len(audience):
                return

    run(scene())


def test_there_is_a_bound_to_the_streams_and_a_place_that_is_left_is_free() -> None:
    audience = Audience()
    streams = [added(audience) for _ in range(MAX_STREAMS)]
    assert audience.add() is None
    audience.remove(streams[0])
    assert audience.add() is not None


def test_a_closed_audience_ends_its_streams_and_takes_no_other() -> None:
    async def scene() -> None:
        audience = Audience()
        stream = added(audience)
        waiting = asyncio.create_task(stream.get(3600.0))
        await asyncio.sleep(0)
        audience.close()
        assert await waiting is None
        assert "daemon" in stream.farewell
        assert audience.add() is None

    run(scene())


def test_a_silent_stream_beats() -> None:
    async def scene() -> None:
        assert await added(Audience()).get(0.0) == b""

    run(scene())


def test_a_number_that_json_does_not_have_is_null() -> None:
    assert message("status", [math.inf, math.nan, 1.5]) == b"event: status\ndata: [null,null,1.5]\n\n"


def test_a_message_is_one_event_whatever_its_text_is() -> None:
    raw = message("events", ["a\nb\r\n\ndata: x", "\u2028</script>"])
    assert raw.count(b"\n") == 3
    assert raw.startswith(b"event: events\ndata: ")
    assert raw.endswith(b"\n\n")
