"""Secrets are removed from texts before these are written or shown; ordinary words stay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.redaction import HIDDEN, redact


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("GET https://ann:hush-hush@host/x failed", "GET https://***@host/x failed"),
        ("clone https://ghp_0123456789abcdefgh@github.com/x", "clone https://***@github.com/x"),
        ("WANDB_API_KEY=0123abcd is wrong", "WANDB_API_KEY=*** is wrong"),
        ("AWS_SECRET_ACCESS_KEY='abc/def'", "AWS_SECRET_ACCESS_KEY='***'"),
        ('{"password": "hunter2", "user": "ann"}', '{"password": "***", "user": "ann"}'),
        ("connect(host='h', password='hunter2')", "connect(host='h', password='***')"),
        ("Authorization: Bearer abcdef0123456789", "Authorization: Bearer ***"),
        ("?access_token=abc123&page=2", "?access_token=***&page=2"),
    ],
)
def test_secrets_of_known_patterns_are_removed_and_the_rest_stays(said: str, left: str) -> None:
    assert redact(said, {}) == left


@pytest.mark.parametrize(
    "said",
    [
        "unknown key 'lr'; did you mean: learning_rate",
        "KeyError: 'monkey=7'",
        "dashboard http://127.0.0.1:8265 (its token: /home/ann/state/ray_token)",
        "trial 3: CUDA out of memory. Tried to allocate 2.00 GiB",
        "ray.exceptions.RayTaskError(ValueError): token 5 of patch 3 is not finite",
        "ssh://git@host/repo",
    ],
)
def test_ordinary_words_stay_as_they_are(said: str) -> None:
    assert redact(said, {"HOME": "/home/ann", "EDITOR": "token-edit"}) == said


def test_a_secret_of_the_environment_is_found_anywhere_in_a_text() -> None:
    environment = {"HF_TOKEN": "plainlookingword", "SHORT_KEY": "abc", "KEYBOARD": "unsecretword"}
    said = "it said plainlookingword, abc and unsecretword"
    assert redact(said, environment) == f"it said {HIDDEN}, abc and unsecretword"


@given(st.text(max_size=200))
def test_redacting_twice_is_redacting_once(text: str) -> None:
    """A text may pass through it twice."""
    assert redact(redact(text, {}), {}) == redact(text, {})


@pytest.mark.parametrize("piece", ["a-", "token-", "token", "'token' ", "://a:", "Bearer "])
def test_a_long_text_costs_no_more_than_its_length(piece: str) -> None:
    """With nested repetitions the search could take hours, while the daemon's loop waits."""
    said = piece * (200_000 // len(piece))
    assert redact(said, {}) == said
    assert redact(f"{said}; token=abc123", {}) == f"{said}; token={HIDDEN}"
