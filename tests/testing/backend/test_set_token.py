"""set-token, its cookies and /me, against reference/headlamp.md 2."""

import base64
import json
from http.cookies import SimpleCookie

import pytest
from hypothesis import given, settings, strategies as st

from querykit.testing.backend import BackendSettings
from querykit.testing.backend.cookies import CHUNK_SIZE, TokenCookies, read_cookies, sanitize_cluster_name
from querykit.testing.backend.me import me

SET_TOKEN = "/clusters/a/set-token"
TOKEN_TEXT = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='",;\\'))


def cookies_of(reply):
    """The Set-Cookie headers in their order: name, value, attributes."""
    found = []
    for header in reply.headers.getall("Set-Cookie", []):
        ((name, morsel),) = SimpleCookie(header).items()
        found.append((name, morsel.value, {key: value for key, value in morsel.items() if value}))
    return found


def applied(reply, before=()):
    """The Cookie header after a client took the reply's cookies, in order."""
    jar = dict(before)
    for name, value, attributes in cookies_of(reply):
        jar.pop(name, None)
        if attributes["max-age"] != "0":
            jar[name] = value
    return jar


def sent(jar):
    return {"Cookie": "; ".join(f"{name}={value}" for name, value in jar.items())}


# --- setting and clearing ---


async def test_a_token_is_kept_in_a_cookie_of_the_cluster(wire):
    reply = await wire("POST", SET_TOKEN, {"token": "secret"})
    assert (reply.status, reply.text) == (200, "")
    assert reply.headers.getall("Set-Cookie") == [
        "headlamp-auth-a.0=secret; Path=/clusters/a; Max-Age=86400; HttpOnly; SameSite=Strict"
    ]


async def test_the_cookie_is_secure_behind_a_proxy_that_speaks_tls(wire):
    reply = await wire("POST", SET_TOKEN, {"token": "secret"}, headers={"X-Forwarded-Proto": "https"})
    assert reply.headers["Set-Cookie"].endswith("; HttpOnly; Secure; SameSite=Strict")


async def test_a_long_token_is_cut_into_chunks_of_3800(wire):
    token = "x" * 3800 + "y" * 3800 + "z"
    found = cookies_of(await wire("POST", SET_TOKEN, {"token": token}))
    assert [(name, len(value)) for name, value, _ in found] == [
        ("headlamp-auth-a.0", 3800),
        ("headlamp-auth-a.1", 3800),
        ("headlamp-auth-a.2", 1),
    ]
    assert "".join(value for _, value, _ in found) == token


async def test_old_chunks_are_ended_first_in_the_same_answer(wire):
    """So the same name is cleared and set in one reply, and has to be applied in order."""
    first = await wire("POST", SET_TOKEN, {"token": "x" * 5000})
    jar = applied(first)
    second = await wire("POST", SET_TOKEN, {"token": "short"}, headers=sent(jar))
    assert [(name, value, attributes["max-age"]) for name, value, attributes in cookies_of(second)] == [
        ("headlamp-auth-a.0", "", "0"),
        ("headlamp-auth-a.1", "", "0"),
        ("headlamp-auth-a.0", "short", "86400"),
    ]
    assert applied(second, jar) == {"headlamp-auth-a.0": "short"}


@pytest.mark.parametrize("body", [{"token": ""}, {"token": None}, {}, None])
async def test_no_token_clears_the_chunks_that_were_sent(wire, body):
    jar = {"headlamp-auth-a.0": "x", "headlamp-auth-a.1": "y", "headlamp-auth-a.3": "after a gap", "other": "z"}
    reply = await wire("POST", SET_TOKEN, b"null" if body is None else body, headers=sent(jar))
    assert reply.status == 200
    assert [(name, attributes["max-age"]) for name, _, attributes in cookies_of(reply)] == [
        ("headlamp-auth-a.0", "0"),
        ("headlamp-auth-a.1", "0"),
    ]


async def test_clearing_what_is_not_there_sets_nothing(wire):
    reply = await wire("POST", SET_TOKEN, {"token": None})
    assert (reply.status, cookies_of(reply)) == (200, [])


@pytest.mark.parametrize("body", [b"{", b"[]", b"", {"token": 5}])
async def test_a_body_that_is_no_set_token_is_a_400(wire, body):
    reply = await wire("POST", SET_TOKEN, body)
    assert (reply.status, reply.text, cookies_of(reply)) == (400, "Invalid JSON\n", [])
    assert reply.headers["Content-Type"].startswith("text/plain")


async def test_neither_the_token_nor_the_cluster_is_checked(wire):
    """headlamp.md 2: token not validated."""
    reply = await wire("POST", "/clusters/nowhere/set-token", {"token": "no token at all"})
    assert cookies_of(reply)[0][0] == "headlamp-auth-nowhere.0"


async def test_set_token_without_a_cluster_never_works(wire):
    reply = await wire("POST", "/auth/set-token", {"token": "secret"})
    assert (reply.status, reply.text) == (400, "Cluster name is required\n")


async def test_a_cookies_name_has_only_what_may_stand_in_one(wire):
    reply = await wire("POST", "/clusters/my.eks:cluster_1-" + "x" * 60 + "/set-token", {"token": "t"})
    assert cookies_of(reply)[0][0] == "headlamp-auth-" + ("myekscluster_1-" + "x" * 60)[:50] + ".0"


async def test_a_cluster_of_which_no_name_is_left_has_no_cookie(wire):
    jar = {"headlamp-auth-.0": "x"}
    reply = await wire("POST", "/clusters/.../set-token", {"token": "t"}, headers=sent(jar))
    assert (reply.status, cookies_of(reply)) == (200, [])


@pytest.mark.parametrize("settings", [BackendSettings(clusters=("a",), base_url="/headlamp/", session_ttl=60)])
async def test_path_and_age_follow_the_settings(wire):
    reply = await wire("POST", SET_TOKEN, {"token": "secret"})
    assert "; Path=/headlamp/clusters/a; Max-Age=60;" in reply.headers["Set-Cookie"]


# --- the cookie as credential ---


async def test_the_cookie_is_a_credential_of_the_cluster(wire, backend):
    token = await backend.issue_token("a", user="ada")
    jar = applied(await wire("POST", SET_TOKEN, {"token": token}))
    assert (await wire.api("GET", "/api/v1/pods", headers=sent(jar))).status == 200
    await backend.revoke_token(token)
    assert (await wire.api("GET", "/api/v1/pods", headers=sent(jar))).status == 401


async def test_a_token_in_several_cookies_is_read_back(wire, backend):
    token = await backend.issue_token("a", padding=9000)
    jar = applied(await wire("POST", SET_TOKEN, {"token": token}))
    assert len(jar) == 3
    assert (await wire.api("GET", "/api/v1/pods", headers=sent(jar))).status == 200
    del jar["headlamp-auth-a.1"]
    assert (await wire.api("GET", "/api/v1/pods", headers=sent(jar))).status == 401


async def test_the_cookie_overrides_the_clients_authorization(admin, viewer):
    """headlamp.md 2: cookie overrides client's header."""
    jar = {"headlamp-auth-a.0": viewer.token}
    reply = await admin.api("DELETE", "/api/v1/namespaces/demo/pods/importer", headers=sent(jar))
    assert reply.status == 403
    assert 'User "vera"' in reply.json["message"]


async def test_a_cookie_of_another_cluster_is_not_read(wire, backend):
    jar = {"headlamp-auth-b.0": await backend.issue_token("a")}
    assert (await wire.api("GET", "/api/v1/pods", headers=sent(jar))).status == 401


# --- /me ---


def jwt_of(claims):
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{payload}.sig"


async def test_me_tells_what_the_token_says(wire, backend):
    token = await backend.issue_token("a", user="ada", groups=["dev"], email="ada@x.test")
    reply = await wire("GET", "/clusters/a/me", headers=sent({"headlamp-auth-a.0": token}))
    assert reply.status == 200
    assert reply.json == {"username": "ada", "email": "ada@x.test", "groups": ["dev"], "userInfoURL": ""}
    assert reply.headers["Cache-Control"] == "no-store, no-cache, must-revalidate, private"
    assert reply.headers["Vary"] == "Cookie"


async def test_me_reads_the_header_before_the_cookie(admin, viewer):
    reply = await admin("GET", "/clusters/a/me", headers=sent({"headlamp-auth-a.0": viewer.token}))
    assert reply.json["username"] == "root"


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("", "unauthorized"),
        ("one,two", "unauthorized"),
        ("spaces in it", "unauthorized"),
        ("opaque", "invalid token"),
        ("a..c", "invalid token"),
        ("a.%%%.c", "invalid token claims"),
        ("a.W10.c", "invalid token claims"),
        (jwt_of({"username": "ada"}), "token expired"),
        (jwt_of({"exp": 1_799_999_999}), "token expired"),
        (jwt_of({"exp": "soon"}), "token expired"),
    ],
)
async def test_me_refuses_with_a_message(wire, token, message):
    """headlamp.md 2: opaque tokens and JWTs without exp are 401 though the cluster accepts them."""
    reply = await wire("GET", "/clusters/a/me", token=token)
    assert (reply.status, reply.json) == (401, {"message": message})
    assert reply.headers["Vary"] == "Cookie"


async def test_me_knows_nothing_of_signatures_and_revocation(wire, backend):
    assert (await wire("GET", "/clusters/a/me", token=jwt_of({"name": "eve", "exp": 2e9}))).json["username"] == "eve"
    token = await backend.issue_token("a", user="ada")
    await backend.revoke_token(token)
    assert (await wire("GET", "/clusters/a/me", token=token)).status == 200


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"preferred_username": "a", "name": "b"}, ("a", "", [])),
        ({"upn": "", "username": "c"}, ("c", "", [])),
        ({"name": 5, "email": "e@x", "groups": ["g", 1]}, ("", "e@x", ["g", "1"])),
    ],
)
def test_me_takes_the_first_claim_that_says_something(claims, expected):
    _, document = me(jwt_of({**claims, "exp": 2e9}), now=0.0)
    assert (document["username"], document["email"], document["groups"]) == expected


async def test_only_get_me_is_the_backends_own(admin):
    assert (await admin("POST", "/clusters/a/me", {})).status == 404


@pytest.mark.parametrize("settings", [BackendSettings(clusters=("a",), base_url="/headlamp")])
async def test_below_a_base_url_me_does_not_find_the_cookie(wire, backend):
    """The handler looks for `/clusters/` at the beginning of the path."""
    token = await backend.issue_token("a", user="ada")
    reply = await wire("GET", "/clusters/a/me", headers=sent({"headlamp-auth-a.0": token}))
    assert (reply.status, reply.json) == (401, {"message": "unauthorized"})
    assert (await wire("GET", "/clusters/a/me", token=token)).json["username"] == "ada"


# --- cookies as such ---


@settings(deadline=None)
@given(TOKEN_TEXT.filter(bool), st.integers(1, 4), st.text(min_size=1))
def test_chunks_joined_again_are_the_token(text, repeat, cluster):
    token = text * (repeat * 1300)
    cookies = TokenCookies(cluster, path="/", max_age=1)
    jar = {}
    for header in cookies.set(token, present={}, secure=False):
        pair = header.partition(";")[0]
        assert len(pair.partition("=")[2]) <= CHUNK_SIZE
        jar |= read_cookies([pair])
    assert cookies.read(jar) == (token if sanitize_cluster_name(cluster) else "")


def test_what_may_not_stand_in_a_cookie_is_left_out():
    """As Go's `http.SetCookie` does."""
    cookies = TokenCookies("a", path="/", max_age=1)
    (left_out,) = cookies.set('a";\\b\n\x7fé', present={}, secure=False)
    assert left_out.startswith("headlamp-auth-a.0=ab;")
    (quoted,) = cookies.set("a b,c", present={}, secure=False)
    assert quoted.startswith('headlamp-auth-a.0="a b,c";')


def test_of_two_cookies_with_one_name_the_first_counts():
    assert read_cookies(['a=1; b="2"', "a=3"]) == {"a": "1", "b": "2"}
