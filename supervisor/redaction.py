"""Removes secrets from text before it is written or shown: a driver's, Ray's or a library's message may quote them.

Standard library only. It goes by names and patterns: a secret without a known pattern is not found.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

HIDDEN = "***"
MIN_VALUE_CHARACTERS = 8
"""A shorter value of a secret variable is kept: it could be an ordinary word."""

SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|(?:^|_)KEY(?:$|_)", re.IGNORECASE)
"""Names of variables whose values are secrets."""
_URL_USER = re.compile(r"(?<=://)[^/\s:@'\"]*:[^/\s@'\"]+(?=@)|(?<=://)[A-Za-z0-9_.-]{16,}(?=@)")
"""https://user:password@host, and https://token@host (RFC 3986, section 3.2.1)."""
_ASSIGNED = re.compile(
    r"""((?:token|secret|passw(?:or)?d|credential|api_?key|[A-Z0-9]_KEY)[A-Za-z0-9_-]{0,64}["']?\s{0,64}=\s{0,64}["']?"""
    r"""|(?:token|secret|passw(?:or)?d|credential|api_?key)[A-Za-z0-9_-]{0,64}["']\s{0,64}:\s{0,64}["'])"""
    r"""([^\s"',;&)}\]]+)""",
    re.IGNORECASE,
)
"""token=abc, "token": "abc". Each repetition is bounded: a driver may send 16 MiB in one line, and the daemon's loop
waits for the search."""
_BEARER = re.compile(r"(\b(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{8,}")
"""RFC 6750, section 2.1, and RFC 7617."""


def redact(text: str, environment: Mapping[str, str] | None = None) -> str:
    """Return `text` with HIDDEN for each secret: known patterns, and values of secret variables of `environment`.

    `environment` is this process's when left out.
    """
    for name, value in (os.environ if environment is None else environment).items():
        if value in text and _is_secret(name, value):
            text = text.replace(value, HIDDEN)
    text = _URL_USER.sub(HIDDEN, text)
    text = _BEARER.sub(rf"\1{HIDDEN}", text)
    return _ASSIGNED.sub(rf"\1{HIDDEN}", text)


def _is_secret(name: str, value: str) -> bool:
    return len(value) >= MIN_VALUE_CHARACTERS and bool(SECRET_NAME.search(name)) and not value.startswith("/")


def longest_secret_bytes() -> int:
    """Return the size of the longest secret in this process's environment; 0 without one."""
    return max((len(os.fsencode(value)) for name, value in os.environ.items() if _is_secret(name, value)), default=0)
