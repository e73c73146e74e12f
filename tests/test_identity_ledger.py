"""S3, the ledger: records, stamps and the index leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest

from querykit import QueryCancelled, QueryClient, query_options, use_identity
from tests.identities import A, B, Held, names_of, raises, returns


@pytest.fixture
async def client() -> AsyncIterator[QueryClient]:
    async with QueryClient() as client:
        yield client


async def ledger_of(client):
    """What the ledger holds, when ended tasks and what nobody holds any more are gone."""
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()
    ledger = client.cache.ledger
    holders, memos = dict(ledger._holders), len({memo for memos in ledger._memos.values() for memo in memos})
    return {"holders": holders, "memos": memos, "stamps": dict(ledger._stamps), "living": set(ledger.living)}


class TestNothingIsLeft:
    async def test_S3_a_stamp_goes_when_no_living_record_is_older(self, client):
        fn = Held()
        asking = asyncio.create_task(client.query(("k",), fn))
        await fn.used.wait()
        client.forget(A)
        client.forget(B)
        assert (await ledger_of(client))["stamps"].keys() == {A, B}  # the running one may name either
        fn.go_on.set()
        await asking
        await ledger_of(client)
        client.forget("c")
        assert (await ledger_of(client))["stamps"] == {}

    async def test_S3_a_stamp_stays_for_a_child_task(self, client):
        """A record lives as long as anything carries it."""
        go_on, children = asyncio.Event(), []

        async def child():
            await go_on.wait()
            client.set_query_data(("late",), 1)

        async def fn():
            use_identity(A)
            children.append(asyncio.create_task(child()))

        await client.query(("k",), fn)
        client.forget(A)
        for number in range(10):
            client.forget(number)
        go_on.set()
        await children.pop()
        assert client.get_query_data(("late",)) is None

    async def test_S3_a_timer_of_the_cache_keeps_no_record(self, client):
        """A timer takes the context of who sets it: the cache's own must not."""
        await client.query(("parent",), lambda: client.query(("child",), returns(1, A)), gc_time=1000)
        assert not (await ledger_of(client))["living"]

    async def test_S3_an_error_that_was_raised_keeps_no_record(self, client):
        """Neither with its caller gone nor on the query's state: what is kept has no traceback."""
        with pytest.raises(ValueError):
            await client.query(("k",), lambda: raises(A))
        assert not (await ledger_of(client))["living"]

    async def test_S3_an_ended_fetch_needs_no_collection(self, client):
        """No circle holds its record: without that, stamps and notes would stay until the collector ran."""
        gc.disable()
        try:
            await client.query(("k",), returns(1, A))
            with pytest.raises(ValueError):
                await client.query(("error",), lambda: raises(A))
            for _ in range(3):
                await asyncio.sleep(0)
            assert len(client.cache.ledger.living) == 0
        finally:
            gc.enable()

    @pytest.mark.no_cover  # several times as fast without, and other tests cover it
    async def test_S3_ten_thousand_cycles_leave_nothing_behind(self, client):
        asyncio.get_running_loop().set_debug(False)  # five times as fast without
        for number in range(10_000):
            key, identity = ("k", number), ("login", number)
            await client.query(key, lambda identity=identity: use_identity(identity), identity=B)
            client.forget(identity)
        assert len(client.cache) == 0
        await asyncio.sleep(0)
        client.forget(B)
        assert await ledger_of(client) == {"holders": {}, "memos": 0, "stamps": {}, "living": set()}
        assert client.cache._by_parking == {}
        assert client.cache._index._root == {}
        assert len(client.cache._removed) <= 128

    async def test_S3_cancelled_failed_and_doomed_fetches_leave_nothing_behind(self, client):
        async def doomed():
            use_identity(A)
            client.forget(A)

        for _ in range(100):
            for end in (client.cancel_queries, client.remove_queries, lambda: client.forget(A)):
                fn = Held(A, B)
                asking = asyncio.create_task(client.query(("k",), fn))
                await fn.used.wait()
                end()
                with pytest.raises(QueryCancelled):
                    await asking
            for fn in (doomed, lambda: raises(A, B)):
                with pytest.raises((QueryCancelled, ValueError)):
                    await client.query(("k",), fn)
        client.forget(A)
        client.forget(B)
        assert (await ledger_of(client))["holders"] == {}
        assert (await ledger_of(client))["living"] == set()

    async def test_S3_observers_leave_nothing_behind(self, client):
        selected = query_options(("k",), returns(1, A)).select(lambda data: use_identity(B))
        for _ in range(100):
            async with client.observe(selected) as results:
                await client.query(("k",), returns(1, A))
                assert results.result.is_success
                client.forget(A)
        del results
        assert ((await ledger_of(client))["holders"], (await ledger_of(client))["memos"]) == ({}, 0)
        async with client.observe(selected) as results:
            await results.refetch()
            assert results.result.is_success
            assert ((await ledger_of(client))["holders"].keys(), (await ledger_of(client))["memos"]) == ({A}, 1)
        client.remove_queries()
        assert (await ledger_of(client))["holders"] == {}
        assert client.cache._by_parking == {}

    @pytest.mark.virtual_time
    async def test_S3_an_expired_entry_leaves_the_index(self, client):
        await client.query(("k",), returns(1, A))
        await asyncio.sleep(1000)
        assert len(client.cache) == 0
        assert (await ledger_of(client))["holders"] == {}
        assert names_of(client, ("k",)) == {}
