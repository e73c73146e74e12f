"""What a query function may know of its fetch."""

from __future__ import annotations

import asyncio
import gc
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from querykit import QueryCancelled, QueryClient
from querykit.context import ContextClient, PerFetch, QueryContext, current_context
from querykit.http import HttpTransport
from querykit.state import NO_DATA


class Entry:
    def __init__(self, data: object, validators: object = None) -> None:
        self.data = data
        self.validators = validators

    direction = None

    def paused(self, paused: bool) -> None: ...

    def show(self, data: object) -> None: ...

    def read_old(self) -> tuple[object, object]:
        return self.data, self.validators


def context(entry: Entry) -> QueryContext[Any]:
    return QueryContext(cast("ContextClient", None), ("pods", "prod"), {"why": "test"}, entry)


def test_it_tells_the_key_and_the_meta_option():
    ctx = context(Entry(NO_DATA))
    assert ctx.query_key == ("pods", "prod")
    assert ctx.meta == {"why": "test"}
    assert repr(ctx) == "<QueryContext of ('pods', 'prod')>"


def test_the_transport_s_fields_begin_empty():
    ctx = context(Entry(1))
    assert ctx.stale_time is None
    assert ctx.new_validators is None


def test_S2_previous_data_is_read_from_the_entry_when_it_is_needed():
    entry = Entry(NO_DATA, "none")
    ctx = context(entry)
    assert ctx.previous_data is None
    assert ctx.validators is None
    entry.data, entry.validators = ["web"], '"etag"'
    assert ctx.previous_data == ["web"]
    assert ctx.validators == '"etag"'


def test_S4_None_is_valid_previous_data_with_validators_of_its_own():
    ctx = context(Entry(None, '"etag"'))
    assert ctx.previous_data is None
    assert ctx.validators == '"etag"'


def test_it_has_no_room_for_what_nobody_reads():
    with pytest.raises(AttributeError):
        context(Entry(1)).staletime = 3


async def test_the_current_context_is_that_of_the_running_attempt():
    seen: list[object] = []

    async def fetch(ctx: QueryContext[str]) -> str:
        seen.append(current_context() is ctx)
        await asyncio.sleep(0)
        seen.append(await asyncio.to_thread(current_context) is ctx)
        if len(seen) == 2:
            raise ConnectionError("once")
        return "data"

    async with QueryClient(sleep=lambda _: asyncio.sleep(0)) as client:
        assert await client.query(("pods",), fetch) == "data"
        assert seen == [True] * 4


async def test_a_query_asked_for_inside_another_has_a_context_of_its_own():
    async with QueryClient() as client:

        async def inner() -> object:
            return current_context()

        async def outer() -> tuple[object, object]:
            return await client.query(("inner",), inner), current_context()

        assert list(map(repr, await client.query(("outer",), outer))) == [
            "<QueryContext of ('inner',)>",
            "<QueryContext of ('outer',)>",
        ]


async def test_there_is_no_current_context_outside_of_a_query_function_nor_after_its_end():
    later: list[asyncio.Task[object]] = []
    ended = asyncio.Event()

    async def ask_later() -> object:
        await ended.wait()
        return current_context()

    async with QueryClient() as client:
        await client.query(("pods",), lambda: later.append(asyncio.create_task(ask_later())))
        ended.set()
        assert await later[0] is None
        assert current_context() is None


async def test_a_cached_function_gets_conditional_requests_and_http_freshness_by_the_current_context():
    asked: list[str | None] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.headers.get("If-None-Match"))
        headers = {"ETag": '"1"', "Cache-Control": "max-age=60"}
        return web.Response(status=304, headers=headers) if asked[-1] else web.json_response(["web"], headers=headers)

    app = web.Application()
    app.router.add_get("/pods", answer)
    async with TestServer(app) as server, HttpTransport(server.make_url("/")) as http, QueryClient() as client:

        @client.cached("pods", stale_time="http")
        async def pods(cluster: str) -> list[str]:
            return await http.get("/pods", type=list[str], params={"cluster": cluster}, context=current_context())

        first = await pods("prod")
        assert await pods("prod") is first
        await pods.invalidate("prod")
        assert await pods("prod") is first
        assert await pods("prod") is first
        assert asked == [None, '"1"']


async def test_what_outlives_its_fetch_shows_nothing_more():
    kept: list[QueryContext[Any]] = []

    async def fetch(ctx: QueryContext[Any]) -> int:
        kept.append(ctx)
        return 1

    async with QueryClient() as client:
        await client.query(("pods",), fetch)
        await asyncio.sleep(0)
        gc.collect()
        (ctx,) = kept
        ctx.progress.show(2)
        ctx.progress.paused(paused=True)
        with pytest.raises(QueryCancelled):
            await ctx.progress.go_live(None, ctx)
        state = client.get_query_state(("pods",))
        assert state is not None
        assert (state.data, state.fetch_status) == (1, "idle")


async def test_a_function_that_is_made_for_each_fetch_can_be_called_by_itself():
    class Counted(PerFetch):
        def for_one_fetch(self) -> Any:
            attempts: list[int] = []
            return lambda ctx: attempts.append(1) or len(attempts)

    fn = Counted()
    assert (fn(context(Entry(1))), fn(context(Entry(1)))) == (1, 1)
