"""Secrets taken out of text before it is written or shown: what a driver, Ray or a library says may quote them.

Standard library only. A rule of thumb, not a proof: a secret that looks like nothing cannot be found.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

HIDDEN = "***"
MIN_VALUE_SIGNS = 8
"""A shorter value of a secret variable would take ordinary words out of every sentence."""

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
"""token=abc, "token": "abc". Each of its repetitions is bounded: a driver may say 16 MiB in one line, and the daemon's
loop stands still while it is looked through."""
_BEARER = re.compile(r"(\b(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{8,}")
"""RFC 6750, section 2.1, and RFC 7617."""


def redact(text: str, environment: Mapping[str, str] | None = None) -> str:
    """`text` with what looks like a secret replaced by HIDDEN, and every value of a secret variable of `environment`.

    `environment` is this process's where not given.
    """
    for name, value in (os.environ if environment is None else environment).items():
        if len(value) >= MIN_VALUE_SIGNS and value in text and SECRET_NAME.search(name) and not value.startswith("/"):
            text = text.replace(value, HIDDEN)
    text = _URL_USER.sub(HIDDEN, text)
    text = _BEARER.sub(rf"\1{HIDDEN}", text)
    return _ASSIGNED.sub(rf"\1{HIDDEN}", text)
