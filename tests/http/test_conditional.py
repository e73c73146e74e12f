"""Conditional requests and freshness: a 304 keeps the very object, and only the one it was asked for."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from multidict import CIMultiDict

from querykit import QueryClient, QueryContext
from querykit.http import ApiError
from querykit.http.freshness import age, lifetime

KEY = ("pods",)


class Upstream:
    """A server that gives `data` under `headers`, and a 304 where the request has its tag or date."""

    def __init__(self) -> None:
        self.data: Any = {"items": ["web"]}
        self.headers = {"ETag": '"1"'}
        self.headers_of_304: dict[str, str] = {}
        self.asked: list[dict[str, str]] = []
        self.meanwhile: Any = lambda: None

    async def answer(self, request: web.Request) -> web.Response:
        names = ("If-None-Match", "If-Modified-Since")
        conditions = {name: request.headers[name] for name in names if name in request.headers}
        self.asked.append(conditions)
        self.meanwhile()
        known = (self.headers.get("ETag"), self.headers.get("Last-Modified"))
        if conditions and set(conditions.values()) <= {*known}:
            return web.Response(status=304, headers=self.headers_of_304)
        return web.json_response(self.data, headers=self.headers)


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
async def transport(reach, upstream):
    return await reach(upstream.answer)


@pytest.fixture
def clock():
    return SimpleNamespace(now=0.0)


@pytest.fixture
async def client(clock):
    async with QueryClient(clock=lambda: clock.now) as client:
        yield client


async def test_a_304_keeps_the_very_object_and_refreshes_it(client, clock, transport, upstream):
    fetch = transport.query_fn("/pods")
    first = await client.query(KEY, fetch)
    clock.now = 10.0
    assert await client.query(KEY, fetch) is first
    assert client.get_query_state(KEY).data_updated_at == 10.0
    assert await client.query(KEY, fetch) is first
    assert upstream.asked == [{}, {"If-None-Match": '"1"'}, {"If-None-Match": '"1"'}]


async def test_a_date_serves_too_and_both_are_sent(client, transport, upstream):
    upstream.headers = {"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
    first = await client.query(KEY, transport.query_fn("/pods"))
    upstream.headers_of_304 = {"ETag": '"1"'}
    assert await client.query(KEY, transport.query_fn("/pods")) is first
    upstream.headers["ETag"] = '"1"'
    assert await client.query(KEY, transport.query_fn("/pods")) is first
    dated = {"If-Modified-Since": upstream.headers["Last-Modified"]}
    assert upstream.asked == [{}, dated, {**dated, "If-None-Match": '"1"'}]


async def test_new_data_comes_with_new_validators(client, transport, upstream):
    await client.query(KEY, transport.query_fn("/pods"))
    upstream.data, upstream.headers = {"items": []}, {"ETag": '"2"'}
    assert await client.query(KEY, transport.query_fn("/pods")) == {"items": []}
    assert await client.query(KEY, transport.query_fn("/pods")) == {"items": []}
    assert [each.get("If-None-Match") for each in upstream.asked] == [None, '"1"', '"2"']


@pytest.mark.parametrize(
    "drop",
    [
        lambda client: client.set_query_data(KEY, {"items": ["mine"]}),
        lambda client: client.set_query_data(KEY, lambda old: old),
        lambda client: client.reset_queries(key=KEY),
        lambda client: client.remove_queries(key=KEY),
        lambda client: client.forget(("cluster", "a")),
    ],
    ids=["set", "updated", "reset", "removed", "forgotten"],
)
async def test_S3_any_other_write_drops_the_validators(client, transport, upstream, drop):
    await client.query(KEY, transport.query_fn("/pods"), identity=("cluster", "a"))
    drop(client)
    assert await client.query(KEY, transport.query_fn("/pods")) == {"items": ["web"]}
    assert upstream.asked == [{}, {}]


@pytest.mark.parametrize(
    "other",
    [
        ("/other", {}),
        ("/pods", {"params": {"limit": 5}}),
        ("/pods", {"headers": {"Accept": "application/yaml"}}),
        ("/pods", {"type": dict[str, Any]}),
    ],
    ids=["path", "query", "accept", "type"],
)
async def test_validators_are_of_no_use_for_another_question(client, transport, upstream, other):
    await client.query(KEY, transport.query_fn("/pods"))
    await client.query(KEY, transport.query_fn(other[0], **other[1]))
    assert upstream.asked == [{}, {}]


async def test_a_credential_is_no_part_of_the_question(client, transport, upstream):
    await client.query(KEY, transport.query_fn("/pods", headers={"Authorization": "a"}))
    await client.query(KEY, transport.query_fn("/pods", headers={"Authorization": "b"}))
    assert upstream.asked == [{}, {"If-None-Match": '"1"'}]


async def test_an_answer_without_validators_is_asked_for_anew(client, transport, upstream):
    for headers in ({}, {"ETag": "é"}, {"ETag": ""}):
        upstream.headers = headers
        await client.query(KEY, transport.query_fn("/pods"))
    assert upstream.asked == [{}, {}, {}]


class Entry:
    """What a context reads of its query, changed at will."""

    old: tuple[object, object] = (None, None)

    def read_old(self) -> tuple[object, object]:
        return self.old


def context_of(entry: Entry) -> QueryContext[Any]:
    return QueryContext(None, KEY, {}, entry)


async def test_a_304_for_data_that_was_replaced_meanwhile_is_asked_again(transport, upstream):
    entry, context = Entry(), context_of(Entry())
    data = await transport.get("/pods", context=context)
    entry.old = (data, context.new_validators)

    def replaced() -> None:
        entry.old = ({"items": ["mine"]}, None)

    upstream.meanwhile = replaced
    again = await transport.get("/pods", context=context_of(entry))
    assert again == data
    assert again is not data
    assert upstream.asked == [{}, {"If-None-Match": '"1"'}, {}]


async def test_a_304_that_nobody_asked_for_is_an_error(told):
    transport = await told(status=304)
    with pytest.raises(ApiError, match="Not Modified"):
        await transport.get("/pods", context=context_of(Entry()))


async def test_a_condition_of_the_callers_own_is_left_alone(transport, upstream):
    entry, context = Entry(), context_of(Entry())
    entry.old = (await transport.get("/pods", context=context), context.new_validators)
    with pytest.raises(ApiError, match="Not Modified"):
        await transport.get("/pods", context=context_of(entry), headers={"If-None-Match": '"1"'})


async def test_validators_show_no_query(transport):
    context = context_of(Entry())
    await transport.get("/pods", params={"token": "s3cret"}, context=context)
    assert "s3cret" not in repr(context.new_validators)


async def test_what_is_no_get_is_never_conditional(transport, upstream):
    context = context_of(Entry())
    await transport.post("/pods", json={}, context=context)
    assert (context.new_validators, context.stale_time) == (None, None)


async def test_a_failed_refresh_keeps_the_data_and_its_validators(client, transport, upstream):
    await client.query(KEY, transport.query_fn("/pods"))
    upstream.meanwhile = refuse
    with pytest.raises(ApiError):
        await client.query(KEY, transport.query_fn("/pods"), retry=0)
    upstream.meanwhile = lambda: None
    assert await client.query(KEY, transport.query_fn("/pods")) == {"items": ["web"]}
    assert upstream.asked[-1] == {"If-None-Match": '"1"'}


def refuse() -> None:
    raise web.HTTPBadRequest


def test_a_query_function_of_a_bad_path_is_refused_where_it_is_made(connect):
    with pytest.raises(ValueError, match=r"'\.\.'"):
        connect("http://localhost").query_fn("/a/../b")


# --- freshness ---


async def test_max_age_is_how_long_the_data_is_fresh(client, clock, transport, upstream):
    async def get() -> object:
        return await client.query(KEY, transport.query_fn("/pods"), stale_time="http")

    upstream.headers = {"ETag": '"1"', "Cache-Control": "max-age=60", "Age": "20"}
    await get()
    clock.now = 39.9
    await get()
    assert len(upstream.asked) == 1
    clock.now = 40.0
    await get()  # a 304 that says nothing of it: 60 s as before
    clock.now = 99.9
    await get()
    assert len(upstream.asked) == 2
    clock.now, upstream.headers_of_304 = 100.0, {"Cache-Control": "max-age=5"}
    await get()
    clock.now = 105.0
    await get()
    assert len(upstream.asked) == 4


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([], None),
        ([("Cache-Control", "public")], None),
        ([("Cache-Control", "s-maxage=60")], None),
        ([("Cache-Control", "public, max-age=60")], 60.0),
        ([("Cache-Control", 'MAX-AGE = "60" ; s-maxage=5')], 60.0),
        ([("Cache-Control", "max-age=60"), ("cache-control", "max-age=30")], 30.0),
        ([("Cache-Control", 'x="no-store, \\" max-age=1", max-age=60')], 60.0),
        ([("Cache-Control", "max-age=60, no-cache")], 0.0),
        ([("Cache-Control", "no-store")], 0.0),
        ([("Cache-Control", 'no-cache="Set-Cookie", max-age=60')], 0.0),
        ([("Cache-Control", "max-age=-1")], 0.0),
        ([("Cache-Control", "max-age=1.5")], 0.0),
        ([("Cache-Control", "max-age")], 0.0),
        ([("Cache-Control", "max-age=" + "9" * 5000)], 2.0**31),
        ([("Cache-Control", "max-age=60"), ("Expires", "0")], 60.0),
        ([("Expires", "Thu, 01 Jan 1970 00:01:00 GMT")], 50.0),
        ([("Expires", "Thu, 01 Jan 1970 00:01:00 GMT"), ("Date", "Thu, 01 Jan 1970 00:00:30 GMT")], 30.0),
        ([("Expires", "Thu, 01 Jan 1970 00:00:05 GMT")], 0.0),
        ([("Expires", "0")], 0.0),
    ],
)
def test_the_lifetime_is_what_the_headers_say(headers, seconds):
    response: Any = SimpleNamespace(headers=CIMultiDict(headers))
    assert lifetime(response, lambda: 10.0) == seconds


@pytest.mark.parametrize(("value", "seconds"), [("5", 5.0), ("x", 0.0), (None, 0.0)])
def test_an_age_that_is_none_is_0(value, seconds):
    response: Any = SimpleNamespace(headers=CIMultiDict({} if value is None else {"Age": value}))
    assert age(response) == seconds


async def test_what_is_older_than_its_lifetime_is_stale(told):
    context = context_of(Entry())
    transport = await told(text="1", headers={"Cache-Control": "max-age=5", "Age": "9"})
    assert await transport.get("/", context=context) == 1
    assert context.stale_time == 0.0
    assert not math.isinf(context.stale_time)
