"""The page answers no request without its token or cookie, and no other site's requests even with them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.page.access import HEADERS, Access, Request

ACCESS = Access("t" * 64, "sweep_ab12")
HOST = {"Host": "127.0.0.1:8123"}
ORIGIN = {"Origin": "http://127.0.0.1:8123"}
COOKIE = {"Cookie": f"other=1; sweep_ab12={ACCESS.cookie}"}


def refused(method: str = "GET", path: str = "/events", given: str | None = None, **headers: str) -> str | None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ACCESS.refusal(Request(method, path, {**HOST, **named}, given))


def test_the_token_in_the_address_the_cookie_and_a_bearer_token_are_enough() -> None:
    assert refused(path="/", given=ACCESS.token) is None
    assert refused(**COOKIE) is None
    assert refused(path="/metrics", Authorization=f"Bearer {ACCESS.token}") is None
    assert refused("POST", "/pause", **COOKIE, **ORIGIN) is None


@given(
    st.sampled_from(["GET", "POST"]), st.sampled_from(["/", "/events", "/metrics", "/pause"]),
    st.one_of(st.none(), st.text()), st.text(), st.text(),
)  # fmt: skip
def test_no_other_text_is_taken_for_the_token_or_the_cookie(
    method: str, path: str, given_text: str | None, cookie: str, bearer: str
) -> None:
    headers = {"Cookie": f"sweep_ab12={cookie}", "Authorization": f"Bearer {bearer}"}
    assert refused(method, path, given_text, **ORIGIN, **headers) is not None


@pytest.mark.parametrize("other", ['a={"x": 1}', "a=b c", "a@=1", "flag", "a=\N{LATIN SMALL LETTER E WITH ACUTE}", '"'])
def test_an_odd_cookie_of_another_program_does_not_shut_the_page(other: str) -> None:
    """All ports of this machine share a browser's cookies."""
    assert refused(Cookie=f"{other}; sweep_ab12={ACCESS.cookie}") is None
    assert refused(Cookie=f"sweep_ab12={ACCESS.cookie};{other}") is None
    assert refused(Cookie=other) is not None


def test_the_cookie_of_another_home_does_not_open_this_page() -> None:
    other = Access("u" * 64, "sweep_ab12")
    assert refused(Cookie=f"sweep_ab12={other.cookie}") is not None
    assert refused(Cookie=f"sweep_ffff={ACCESS.cookie}") is not None


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8123", "127.0.0.1.evil.example", "", "[::1]:8123"])
def test_another_host_name_is_refused_so_that_no_name_can_be_pointed_here(host: str) -> None:
    assert "host" in str(ACCESS.refusal(Request("GET", "/", {"Host": host, **COOKIE}, ACCESS.token)))


def test_a_tunnel_that_ends_at_another_port_works() -> None:
    headers = {"Host": "localhost:9000", "Origin": "http://localhost:9000", **COOKIE}
    assert ACCESS.refusal(Request("POST", "/pause", headers)) is None


@pytest.mark.parametrize(
    "origin", ["http://127.0.0.1:3000", "http://evil.example", "null", "https://127.0.0.1:8123", "http://127.0.0.1"]
)
def test_another_origin_is_refused_even_with_the_cookie(origin: str) -> None:
    """Ports do not separate sites: another program's page on this machine sends our cookie, too."""
    assert "origin" in str(refused("POST", "/pause", **COOKIE, Origin=origin))
    assert "origin" in str(refused("GET", "/events", **COOKIE, Origin=origin))


def test_a_request_that_changes_something_must_name_its_origin() -> None:
    assert refused("POST", "/pause", **COOKIE) is not None


def test_a_link_from_elsewhere_leads_to_the_page_and_to_nothing_else() -> None:
    assert refused(path="/", given=ACCESS.token, Sec_Fetch_Site="cross-site") is None
    assert refused(path="/events", **COOKIE, Sec_Fetch_Site="same-site") is not None
    assert refused(path="/metrics", given=ACCESS.token, Sec_Fetch_Site="cross-site") is not None


def test_the_headers_allow_no_inline_script_style_or_frame() -> None:
    policy = HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert {"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"} <= set(
        policy.split("; ")
    )


def test_the_secret_is_not_shown_by_its_holder() -> None:
    assert ACCESS.token not in repr(ACCESS)
    assert ACCESS.token not in ACCESS.cookie
