"""Send malformed requests to the real control socket: each is refused and changes nothing."""

from __future__ import annotations

import random

import pytest

from benchmarks.fuzz import attack_socket, daemon
from benchmarks.stages.fuzz_requests import KINDS, Attack, attack, fault_of
from supervisor.audit import evidence as audit_evidence
from supervisor.audit import invariants
from supervisor.control.client import ask
from supervisor.home import Home
from supervisor.store.database import read_only

REQUESTS, SEED = 1000, 7


def test_no_malformed_request_does_harm(home: Home) -> None:
    """Another client's `status` is answered all along; the daemon lives, and the run is as it was."""
    with daemon(home) as pid:
        before = ask(home, "status")
        attacker, waits = attack_socket(home, pid, REQUESTS, SEED)
        assert attacker.faults == []
        assert attacker.kinds.total() == REQUESTS
        assert waits
        after = ask(home, "status")
        assert ask(home, "hello")["pid"] == pid
        assert [after[key] for key in ("run", "commands", "experiments")] == [
            before[key] for key in ("run", "commands", "experiments")
        ]
    with read_only(home.store) as connection:
        evidence = audit_evidence.gather(home, connection, "fuzz")
    assert [verdict for verdict in invariants.check(evidence) if not verdict.holds] == []
    assert {event.name for event in evidence.logged} & {
        "run.paused",
        "run.stopped",
        "drill.started",
        "store.copied",
    } == set()


def test_every_kind_of_attack_is_made() -> None:
    """By a thousand of them, and the same ones by the same seed."""
    one, same = random.Random(SEED), random.Random(SEED)
    made = [attack(one) for _ in range(REQUESTS)]
    assert made == [attack(same) for _ in range(REQUESTS)]
    assert len({each.kind for each in made}) >= len(KINDS)


ERROR = b'{"error": "no", "exit_code": 2}'


def answer(status: str, body: bytes = ERROR) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("says", "said", "fine"),
    [
        ("json", answer("400 Bad Request"), True),
        ("json", b"", False),
        ("json", answer("200 OK"), False),
        ("json", answer("500 Internal Server Error"), False),
        ("json", answer("404 Not Found", b"404: Not Found"), False),
        ("json", answer("404 Not Found", b'{"exit_code": 2}'), False),
        ("4xx", b"", True),
        ("4xx", answer("400 Bad Request", b"what?"), True),
        ("4xx", answer("200 OK"), False),
        ("4xx", b"nonsense", False),
        ("after", answer("200 OK") + answer("400 Bad Request"), True),
        ("after", answer("200 OK") + answer("500 Internal Server Error"), False),
    ],
)
def test_an_answer_is_judged_by_what_was_asked(says: str, said: bytes, *, fine: bool) -> None:
    assert (fault_of(Attack("x", (b"",), says), said) is None) == fine
