"""Sentences of the contract that a reading of it found broken once; each with its rule."""

from __future__ import annotations

import asyncio

import pytest
from multidict import CIMultiDict

from querykit import QueryClient, QueryContext, QueryTimeout, WrongThread
from querykit.errors import kept
from querykit.signals import token_set

KEY = ("k",)


async def test_S3_a_caller_without_a_function_borrows_the_options_that_belong_to_it():
    """What he adds wins; the identity that was said by hand stays with what is fetched."""
    async with QueryClient() as client:
        await client.query(KEY, lambda: "old", identity="alice", retry=0, meta={"by": "alice"})
        await client.query(KEY)
        client.forget("alice")
        assert client.get_query_data(KEY) is None
        await client.query(KEY, lambda: "old", identity="alice", retry=0)
        await client.query(KEY, meta={"by": "bob"}, retry_delay=0)
        source = client.cache.find(KEY).source
        assert (source.options.identity, source.options.meta) == ("alice", {"by": "bob"})
        assert (source.options.retry.retry, source.options.retry.delay) == (0, 0)
        client.forget("alice")
        assert client.get_query_data(KEY) is None


@pytest.mark.parametrize("returned", ["the body", "a part of it"])
async def test_S4_validators_belong_to_exactly_the_data_they_came_with(returned):
    body = {"items": [1]}
    seen = []

    async def fn(ctx: QueryContext[object]) -> object:
        seen.append(ctx.validators)
        ctx.new_validators, ctx.validated = "etag", body
        return body if returned == "the body" else body["items"]

    async with QueryClient() as client:
        await client.query(KEY, fn)
        await client.query(KEY, fn)
    assert seen == [None, "etag" if returned == "the body" else None]


class Held(Exception):
    """An error that holds a response, or its headers, by a name of its own."""


class Response:
    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": "Bearer s3cret"}


@pytest.mark.parametrize(
    "held",
    [Response(), [Response()], (1, Response()), {"answer": Response()}, CIMultiDict(Authorization="Bearer s3cret")],
    ids=["response", "list", "tuple", "dict", "headers"],
)
def test_S10_a_kept_error_holds_no_response_by_whatever_name(held):
    error = Held(held)
    error.mine = held
    copied = kept(error)

    def reachable(value):
        if isinstance(value, (list, tuple)):
            return any(map(reachable, value))
        if isinstance(value, dict):
            return any(map(reachable, value.values()))
        return isinstance(value, (Response, CIMultiDict))

    assert not reachable([copied.args, copied.mine])
    assert reachable([error.args, error.mine])


@pytest.mark.virtual_time
async def test_S2_a_removal_is_not_forgotten_when_a_later_blank_entry_is_collected():
    async with QueryClient() as client:
        go_on = asyncio.Event()

        async def writer() -> None:
            await go_on.wait()
            client.set_query_data(KEY, "late")

        writing = asyncio.create_task(client.query(("writer",), writer))
        await asyncio.sleep(1)
        client.set_query_data(KEY, "early")
        client.remove_queries(KEY)
        with pytest.raises(ValueError, match="refused"):
            await client.query(KEY, refused, gc_time=0.1, retry=0)
        await asyncio.sleep(1)
        assert client.cache.find(KEY) is None
        go_on.set()
        await writing
        assert client.get_query_data(KEY) is None


async def refused() -> None:
    raise ValueError("refused")


@pytest.mark.virtual_time
async def test_S2_an_invalidation_by_tag_holds_for_a_write_that_comes_after_the_entry_has_gone():
    async with QueryClient(default_options={"queries": {"gc_time": 1, "tags": ["t"]}}) as client:
        go_on = asyncio.Event()

        async def writer() -> None:
            await go_on.wait()
            client.set_query_data(KEY, "late")

        client.set_query_data(KEY, "early")
        writing = asyncio.create_task(client.query(("writer",), writer))
        await asyncio.sleep(0.5)
        client.invalidate_queries(tags=["t"])
        await asyncio.sleep(10)
        assert client.get_query_state(KEY) is None
        go_on.set()
        await writing
        assert client.get_query_state(KEY).is_invalidated


@pytest.mark.virtual_time
@pytest.mark.parametrize("catches", ["returns", "raises"])
async def test_S10_a_function_that_catches_the_timeout_has_timed_out_all_the_same(catches):
    async def fn() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if catches == "raises":
                raise ConnectionError("instead") from None
        return "late"

    async with QueryClient() as client:
        with pytest.raises(QueryTimeout):
            await client.query(KEY, fn, timeout=5, retry=0)
        assert client.get_query_data(KEY) is None


@pytest.mark.parametrize("how", ["set", "update", "initial"])
async def test_S4_a_generator_is_no_data_however_it_comes(how):
    async with QueryClient() as client:
        client.set_query_data(("other",), 1)
        with pytest.raises(TypeError, match="read only once"):
            if how == "set":
                client.set_query_data(KEY, (n for n in range(3)))
            elif how == "update":
                client.set_query_data(("other",), lambda _: (n for n in range(3)))
            else:
                await client.query(KEY, lambda: 1, initial_data=lambda: (n for n in range(3)))
        assert client.get_queries_data() == [(("other",), 1)]


async def test_S12_what_changes_a_client_is_checked_in_every_thread():
    async with QueryClient() as client:
        for act in (
            lambda: client.set_query_defaults(KEY, stale_time=1),
            lambda: client.on(token_set, remove=KEY),
            lambda: client.cache.subscribe(print),
        ):
            with pytest.raises(WrongThread):
                await asyncio.to_thread(act)
        assert client.get_query_defaults(KEY) == {}


def test_S12_an_invalidation_that_would_need_a_loop_changes_nothing_without_one():
    client = QueryClient()

    async def main() -> None:
        await client.query(KEY, lambda: 1)

    asyncio.run(main())
    with pytest.raises(RuntimeError, match="event loop"):
        client.invalidate_queries(refetch_type="all")
    assert not client.get_query_state(KEY).is_invalidated


@pytest.mark.virtual_time
async def test_S7_nothing_is_collected_before_its_time_by_the_clients_own_clock():
    now = 0.0
    async with QueryClient(clock=lambda: now) as client:
        await client.query(KEY, lambda: 1, gc_time=1)
        await asyncio.sleep(100)
        assert client.get_query_data(KEY) == 1
        await client.query(KEY, lambda: 1, gc_time=1)
        now = 10.0
        await asyncio.sleep(10)
        assert client.get_query_data(KEY) is None
