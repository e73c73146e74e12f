"""HttpTransport over real sockets: what it sends, what it returns, and what it never does."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from aioresponses import aioresponses

from querykit import QueryClient
from querykit.http import ApiError, HttpTransport, InvalidBody, join_path


class Pod(msgspec.Struct):
    name: str
    restarts: int = 0


async def mirror(request: web.Request) -> web.Response:
    seen = {
        "method": request.method,
        "raw": request.raw_path,
        "query": list(request.query.items()),
        "headers": {name.lower(): value for name, value in request.headers.items()},
        "body": await request.text(),
    }
    return web.json_response(seen)


async def test_a_path_and_a_query_arrive_as_they_were_given(reach):
    transport = await reach(mirror)
    seen = await transport.get(join_path("clusters", "eu/west 1?", "é%"), params={"q": "a+b &", "l": [1, 2]})
    assert seen["raw"] == "/clusters/eu%2Fwest%201%3F/%C3%A9%25?q=a%2Bb%20%26&l=1&l=2"
    assert seen["query"] == [["q", "a+b &"], ["l", "1"], ["l", "2"]]


@pytest.mark.parametrize("verb", ["get", "post", "put", "patch", "delete"])
async def test_each_verb_sends_its_method(reach, verb):
    transport = await reach(mirror)
    assert (await getattr(transport, verb)("/"))["method"] == verb.upper()
    assert (await transport.request(verb, "/"))["method"] == verb.upper()


async def test_a_value_goes_as_json_and_null_is_one(reach):
    transport = await reach(mirror)
    seen = await transport.post("/", json=Pod("web"))
    assert seen["body"] == '{"name":"web","restarts":0}'
    assert (seen["headers"]["content-type"], seen["headers"]["accept"]) == ("application/json",) * 2
    assert (await transport.post("/", json=None))["body"] == "null"
    merge = {"content-type": "application/merge-patch+json"}
    assert (await transport.patch("/", json={}, headers=merge))["headers"]["content-type"] == merge["content-type"]


async def test_data_goes_as_it_is(reach):
    transport = await reach(mirror)
    assert (await transport.put("/", data=b"a: 1"))["body"] == "a: 1"
    assert (await transport.put("/", data="b: é"))["body"] == "b: é"


async def test_what_cannot_be_sent_is_refused(reach):
    transport = await reach(mirror)
    with pytest.raises(TypeError, match="one body"):
        await transport.post("/", json=1, data=b"1")
    with pytest.raises(TypeError, match="json="):
        await transport.post("/", data={"a": 1})
    with pytest.raises(TypeError):
        await transport.post("/", json=object())
    with pytest.raises(ValueError, match="timeout"):
        await transport.get("/", timeout=-1)


async def test_headers_are_merged_whatever_their_case_and_never_changed(reach):
    constant = {"X-Cluster": "a", "Accept": "text/plain"}
    transport = await reach(mirror, headers=constant)
    mine = {"x-cluster": "b"}
    seen = await transport.get("/", headers=mine)
    assert (seen["headers"]["x-cluster"], seen["headers"]["accept"]) == ("b", "text/plain")
    assert (await transport.get("/"))["headers"]["x-cluster"] == "a"
    assert (constant, mine) == ({"X-Cluster": "a", "Accept": "text/plain"}, {"x-cluster": "b"})


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({"X-Limit": 5}, TypeError),
        ({"X-None": None}, TypeError),
        ({5: "x"}, TypeError),
        ({"X Y": "s3cret"}, ValueError),
        ({"X-Token": "s3cret\r\nX-Evil: 1"}, ValueError),
        ({"X-Token": "s3cret\0"}, ValueError),
    ],
)
def test_a_header_that_cannot_be_sent_is_refused_without_its_value(headers, error):
    with pytest.raises(error, match="header") as caught:
        HttpTransport("http://localhost", headers=headers)
    assert "s3cret" not in str(caught.value)


async def test_an_answer_is_decoded_as_its_type(told):
    transport = await told(text='[{"name":"web","restarts":2}]', content_type="application/json")
    assert await transport.get("/pods", type=list[Pod]) == [Pod("web", 2)]
    assert await transport.get("/pods") == [{"name": "web", "restarts": 2}]


async def test_an_answer_of_another_type_names_the_field_and_not_its_value(told):
    transport = await told(text='[{"name":"web","restarts":"s3cret"}]', status=201)
    with pytest.raises(InvalidBody, match=r"\$\[0\]\.restarts") as caught:
        await transport.get("/pods", type=list[Pod], params={"token": "s3cret"})
    assert caught.value.status == 201
    assert "s3cret" not in f"{caught.value!r} {vars(caught.value)}"
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


@pytest.mark.parametrize(
    "body", ["<html>s3cret</html>", "{", '"\ud800'.encode("utf-8", "surrogatepass"), "[" * 100_000]
)
async def test_a_body_that_is_not_json_is_an_error(told, body):
    transport = await told(body=body)
    with pytest.raises(InvalidBody, match="OK - the body is not what was asked for") as caught:
        await transport.get("/pods")
    assert caught.value.status == 200
    assert "s3cret" not in repr(caught.value)


@pytest.mark.parametrize("status", [200, 201, 204])
async def test_an_empty_answer_is_none(told, status):
    assert await (await told(status=status)).delete("/pods/web") is None


async def test_send_judges_no_status_and_has_read_the_body(told):
    transport = await told(status=500, text="broken")
    response = await transport.send("GET", "/pods", timeout=timedelta(seconds=5))
    assert (response.status, await response.text(), await response.read()) == (500, "broken", b"broken")
    assert response.connection is None


async def test_another_codec_encodes_and_decodes(reach):
    class Yaml:
        def encode(self, obj: Any, /) -> bytes:
            return f"wrote {obj}".encode()

        def decode(self, buf: bytes, /, *, type: Any) -> Any:
            return type(len(buf) > 5)

    transport = await reach(mirror, json=Yaml())
    assert await transport.post("/", json=[1], type=str) == "True"
    assert "wrote [1]" in await (await transport.send("POST", "/", json=[1])).text()


async def test_a_redirect_is_not_followed(reach):
    async def handler(request):
        assert request.path == "/old"
        raise web.HTTPFound("//ada:s3cret@elsewhere.example/new?token=s3cret")

    with pytest.raises(ApiError) as caught:
        await (await reach(handler, headers={"Authorization": "x"})).get("/old")
    leads = "redirects are not followed; this one leads to http://elsewhere.example/new"
    assert (caught.value.status, caught.value.message) == (302, f"Found - {leads}")


async def test_all_requests_share_a_session_that_closes_with_the_transport(serve):
    ports = set()

    async def handler(request):
        ports.add(request.transport.get_extra_info("peername"))
        return web.json_response(1)

    async with HttpTransport(await serve(handler), timeout=float("inf")) as transport:
        assert [await transport.get("/") for _ in range(3)] == [1, 1, 1]
    assert len(ports) == 1


async def test_a_given_session_stays_open_and_a_closed_one_is_refused(serve):
    url = await serve(mirror)
    async with aiohttp.ClientSession(headers={"X-Mine": "1"}) as session:
        async with HttpTransport(url, session=session, timeout=None) as transport:
            assert (await transport.get("/"))["headers"]["x-mine"] == "1"
        assert not session.closed
        transport = HttpTransport(url, session=session)
    with pytest.raises(RuntimeError, match="closed"):
        await transport.get("/")


async def test_a_sessions_own_ways_do_not_change_what_is_returned(serve, connect):
    async def handler(request):
        return web.json_response({"message": "gone"}, status=404)

    async with aiohttp.ClientSession(raise_for_status=True, auto_decompress=False) as session:
        with pytest.raises(ApiError, match="Not Found - gone"):
            await connect(await serve(handler), session=session).get("/")


def test_a_transport_of_another_loop_is_refused():
    transport = HttpTransport("http://127.0.0.1:9")
    with asyncio.Runner() as runner:
        runner.run(asyncio.wait_for(use(transport), 5))
    with asyncio.Runner() as runner, pytest.raises(RuntimeError, match="another event loop"):
        runner.run(transport.get("/"))


async def use(transport: HttpTransport) -> None:
    with pytest.raises(ApiError):
        await transport.get("/", timeout=0)
    await transport._own.close()


def test_it_shows_the_names_of_its_headers_alone():
    headers = {"Authorization": "Bearer s3cret", "X-Backend": "s3cret"}
    shown = "<HttpTransport of http://h/a with the headers Authorization, X-Backend>"
    assert repr(HttpTransport("http://h/a/", headers=headers)) == shown
    assert repr(HttpTransport("http://h")) == "<HttpTransport of http://h>"


async def test_a_response_is_no_data_for_a_query(reach):
    transport = await reach(mirror)
    async with QueryClient() as client:
        with pytest.raises(TypeError, match="ClientResponse"):
            await client.query(("pods",), lambda: transport.send("GET", "/pods"))
        assert client.get_query_data(("pods",)) is None


# --- the cookie jar ---


async def cookies(request: web.Request) -> web.Response:
    response = web.json_response(request.headers.getall("Cookie", []))
    response.headers.add("Set-Cookie", "login=s3cret; HttpOnly")
    response.headers.add("Set-Cookie", "other=1")
    return response


async def test_the_jar_of_a_given_session_is_neither_read_nor_written(serve, connect):
    seen = []

    async def notice(request, handler):
        seen.append(request.url.path)
        return await handler(request)

    url = await serve(cookies)
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar, middlewares=(notice,)) as session:
        jar.update_cookies({"mine": "1"}, aiohttp.client.URL(url))
        transport = connect(url, session=session)
        assert await transport.get("/") == []
        assert await transport.get("/", headers={"Cookie": "a=b; c=d/="}) == ["a=b; c=d/="]
        response = await transport.send("GET", "/last")
        assert {name: morsel.value for name, morsel in response.cookies.items()} == {"login": "s3cret", "other": "1"}
        assert [morsel.key for morsel in jar] == ["mine"]
    assert seen == ["/", "/", "/last"]


async def test_a_cookie_header_of_a_given_session_is_kept(serve, connect):
    async with aiohttp.ClientSession(headers={"Cookie": "own=1"}) as session:
        assert await connect(await serve(cookies), session=session).get("/") == ["own=1"]


async def test_its_own_session_keeps_no_cookie(reach):
    transport = await reach(cookies)
    assert [await transport.get("/"), await transport.get("/")] == [[], []]
    response = await transport.send("GET", "/", headers={"Cookie": "a=b"})
    assert response.cookies["login"].value == "s3cret"
    assert msgspec.json.decode(await response.read()) == ["a=b"]


async def test_a_session_that_calls_no_middleware_serves_too(connect):
    """As the doubles of aiohttp that tests use: they answer in place of the whole request."""
    with aioresponses() as wire:
        wire.get("http://example.com/pods", payload=["web"])
        async with aiohttp.ClientSession() as session:
            assert await connect("http://example.com", session=session).get("/pods") == ["web"]
