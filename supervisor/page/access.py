"""Decides which requests the live page answers: by host, origin, and a token or the cookie that it was exchanged for.

Pure. The page listens on loopback only, which every user and every web site in a browser of this machine can reach: a
site by a name that it points at 127.0.0.1 (then Host is not ours), or by a form or script of its own (then Origin is
not ours, or Sec-Fetch-Site says so).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

HOST_NAMES = ("127.0.0.1", "localhost")
"""With any port: a tunnel (`ssh -L`) may end at another one."""
SAFE_METHODS = ("GET", "HEAD")
COOKIE_FOR_S = 30 * 24 * 3600
"""The time for which a browser keeps the cookie; a run takes less."""
OWN_SITES = ("same-origin", "none")
"""Values of Sec-Fetch-Site for a request of the page itself, and for one that a person typed (Fetch Metadata)."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
    "Server": "sweep",
}
"""The headers of every answer. No inline script or style runs, and no text can become HTML (trusted types)."""


@dataclass(frozen=True)
class Request:
    """Holds what a request's admission depends on. `given` is the token of its address."""

    method: str
    path: str
    headers: Mapping[str, str]
    given: str | None = None


@dataclass(frozen=True)
class Access:
    """Holds the page's secret; `cookie_name` differs between homes, since all ports of a host share their cookies."""

    token: str = field(repr=False)
    cookie_name: str

    def refusal(self, request: Request) -> str | None:
        """Return why a request is refused; None for one that is answered."""
        host = request.headers.get("Host", "")
        if host.rpartition(":")[0] not in HOST_NAMES and host not in HOST_NAMES:
            return f"expected the host {' or '.join(HOST_NAMES)}, found {host!r:.100}"
        origin = request.headers.get("Origin")
        if origin != f"http://{host}" and (origin is not None or request.method not in SAFE_METHODS):
            return f"expected a request of the page itself, found the origin {origin!r:.100}"
        # A link in a message may lead to the page itself, and to nothing else here.
        if request.path != "/" and request.headers.get("Sec-Fetch-Site", "none") not in OWN_SITES:
            return "expected a request of the page itself, found one of another site"
        if not (self.knows_token(request) or self.knows_cookie(request)):
            return "expected the page's token or cookie, found neither; `supervisorctl status` prints the whole address"
        return None

    def knows_token(self, request: Request) -> bool:
        """Return whether the request has the token: in its address, or as `Authorization: Bearer` (RFC 6750)."""
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        texts = [request.given, bearer.strip() if scheme.lower() == "bearer" else None]
        return any(text is not None and _same(text, self.token) for text in texts)

    def knows_cookie(self, request: Request) -> bool:
        # Other programs' cookies may have any text; the standard library's reader drops ours, too, after an odd one.
        pairs = (pair.strip().partition("=") for pair in request.headers.get("Cookie", "").split(";"))
        return any(name == self.cookie_name and _same(value, self.cookie) for name, _, value in pairs)

    @property
    def cookie(self) -> str:
        """The cookie's value: it follows from the token, so that a page finds the next daemon open, too."""
        return hmac.new(self.token.encode(), b"cookie of the live page", hashlib.sha256).hexdigest()


def _same(one: str, other: str) -> bool:
    # In bytes: compare_digest refuses text beyond ASCII, which a request may have.
    return hmac.compare_digest(one.encode(errors="replace"), other.encode())
