"""Fetches that wait for the network, and retries that wait for somebody to look: `fetch_status` "paused"."""

from __future__ import annotations

import asyncio

import pytest

from querykit import QueryCancelled, QueryClient, QueryObserver, QueryTimeout
from tests.fetches import Gate, Upstream, settled
from tests.observing import Results, now

pytestmark = pytest.mark.virtual_time

KEY = ("pods", "prod")


def status(client):
    return client.get_query_state(KEY).fetch_status


async def test_trap_21_offline_a_first_load_is_paused_from_its_beginning_and_goes_on_when_online():
    async with QueryClient() as client:
        client.online.set(False)
        upstream, results = Upstream(), Results()
        with QueryObserver(client, KEY, upstream).subscribe(results):
            assert status(client) == "paused"
            await settled()
            assert (upstream.calls, results.of("fetch_status")) == (0, ["paused"])
            client.online.set(True)
            await settled()
        assert results.of("status", "fetch_status") == [
            ("pending", "paused"),
            ("pending", "fetching"),
            ("success", "idle"),
        ]


async def test_a_background_fetch_that_is_paused_keeps_the_data_and_the_status():
    async with QueryClient() as client:
        client.set_query_data(KEY, "old")
        client.online.set(False)
        with QueryObserver(client, KEY, Upstream()) as observer:
            await settled()
            result = observer.result
            assert (result.data, result.status, result.fetch_status) == ("old", "success", "paused")
            assert (result.is_paused, result.is_fetching, result.is_refetching) == (True, False, False)


async def test_with_network_mode_always_it_is_not_asked_whether_the_network_is_there():
    async with QueryClient() as client:
        client.online.set(False)
        assert await client.query(KEY, Upstream(), network_mode="always") == "new 1"


async def test_while_nobody_looks_first_tries_are_made():
    async with QueryClient() as client:
        client.focus.set(False)
        assert await client.query(KEY, Upstream()) == "new 1"


@pytest.mark.parametrize("name", ["focus", "online"])
async def test_trap_21_a_retry_waits_after_its_delay(name):
    async with QueryClient() as client:
        upstream = Upstream(failures=1)
        caller = asyncio.create_task(client.query(KEY, upstream, retry_delay=5))
        await asyncio.sleep(1)
        getattr(client, name).set(False)
        assert status(client) == "fetching"
        await asyncio.sleep(100)
        assert (status(client), upstream.calls) == ("paused", 1)
        getattr(client, name).set(True)
        assert await caller == "new 2"
        assert now() == 101


async def test_trap_21_with_network_mode_always_retries_still_wait_for_focus():
    async with QueryClient() as client:
        upstream = Upstream(failures=1)
        client.focus.set(False)
        client.online.set(False)
        caller = asyncio.create_task(client.query(KEY, upstream, retry_delay=5, network_mode="always"))
        await asyncio.sleep(10)
        assert (status(client), upstream.calls) == ("paused", 1)
        client.online.set(True)
        await settled()
        assert status(client) == "paused"
        client.focus.set(True)
        assert await caller == "new 2"


async def test_one_that_needs_both_waits_for_both():
    async with QueryClient() as client:
        upstream = Upstream(failures=1)
        caller = asyncio.create_task(client.query(KEY, upstream, retry_delay=5))
        await asyncio.sleep(1)
        client.focus.set(False)
        client.online.set(False)
        await asyncio.sleep(10)
        client.focus.set(True)
        await settled()
        assert status(client) == "paused"
        client.focus.set(False)
        client.online.set(True)
        await settled()
        assert status(client) == "paused"
        client.focus.set(True)
        assert await caller == "new 2"


async def test_the_cache_tells_of_the_pause_and_of_the_going_on():
    async with QueryClient() as client:
        causes = []
        client.cache.subscribe(lambda event: causes.append(str(event.cause)))
        client.online.set(False)
        prefetched = client.prefetch(KEY, lambda: 1)
        await settled()
        client.online.set(True)
        await settled()
        await prefetched
        assert causes == ["create", "fetch", "pause", "continue", "success"]


async def test_online_again_before_the_fetch_has_run_it_is_not_left_as_paused():
    async with QueryClient() as client:
        client.online.set(False)
        gate = Gate()
        caller = asyncio.create_task(client.query(KEY, gate))
        await asyncio.sleep(0)
        client.online.set(True)
        await settled()
        assert (status(client), gate.calls) == ("fetching", 1)
        await gate.answer("data")
        assert await caller == "data"


async def test_offline_again_before_a_paused_fetch_has_woken_it_stays_paused():
    async with QueryClient() as client:
        client.online.set(False)
        upstream = Upstream()
        client.prefetch(KEY, upstream)
        await settled()
        client.online.set(True)
        client.online.set(False)
        await settled()
        assert (status(client), upstream.calls) == ("paused", 0)


async def test_a_timeout_counts_while_paused():
    async with QueryClient() as client:
        client.online.set(False)
        with pytest.raises(QueryTimeout):
            await client.query(KEY, Upstream(), timeout=10)
        assert (now(), status(client)) == (10, "idle")


class TestWhatMethodsReturn:
    @pytest.mark.parametrize("method", ["refetch_queries", "invalidate_queries", "reset_queries"])
    async def test_awaiting_it_does_not_hang_while_the_fetch_is_paused(self, method):
        async with QueryClient() as client:
            upstream = Upstream()
            with QueryObserver(client, KEY, upstream):
                await settled()
                client.online.set(False)
                await getattr(client, method)(KEY)
                assert (status(client), upstream.calls) == ("paused", 1)
                client.online.set(True)
                await settled()
                assert client.get_query_data(KEY) == "new 2"

    async def test_awaiting_a_refetch_of_an_observer_gives_the_paused_result(self):
        async with QueryClient() as client:
            client.online.set(False)
            with QueryObserver(client, KEY, Upstream(), enabled=False) as observer:
                result = await observer.refetch(throw_on_error=True)
                assert (result.fetch_status, result.status) == ("paused", "pending")

    async def test_awaiting_it_ends_when_a_retry_is_paused(self):
        async with QueryClient() as client:
            upstream = Upstream()
            await client.query(KEY, upstream)
            upstream.error = ConnectionError("no")
            pending = asyncio.create_task(client.refetch_queries(KEY))
            await asyncio.sleep(0.001)
            client.online.set(False)
            await pending
            assert status(client) == "paused"

    async def test_a_prefetch_is_not_waited_for_while_it_is_paused_and_goes_on_behind(self):
        async with QueryClient() as client:
            client.online.set(False)
            await client.prefetch(KEY, Upstream())
            assert status(client) == "paused"
            client.online.set(True)
            await settled()
            assert client.get_query_data(KEY) == "new 1"

    async def test_a_query_waits_until_it_goes_on(self):
        async with QueryClient() as client:
            client.online.set(False)
            caller = asyncio.create_task(client.query(KEY, Upstream()))
            await asyncio.sleep(1000)
            assert not caller.done()
            client.online.set(True)
            assert await caller == "new 1"

    async def test_a_paused_fetch_does_not_count_as_fetching(self):
        async with QueryClient() as client:
            client.online.set(False)
            client.prefetch(KEY, Upstream())
            await settled()
            assert (client.is_fetching(), client.is_fetching(fetch_status="paused")) == (0, 0)
            client.online.set(True)
            await asyncio.sleep(0)
            assert client.is_fetching() == 1
            await settled()


class TestWhatHappensToAPausedFetch:
    async def test_set_query_data_answers_its_callers(self):
        async with QueryClient() as client:
            client.online.set(False)
            upstream = Upstream()
            caller = asyncio.create_task(client.query(KEY, upstream))
            await settled()
            client.set_query_data(KEY, "set")
            assert await caller == "set"
            assert status(client) == "idle"
            client.online.set(True)
            await settled()
            assert upstream.calls == 0

    @pytest.mark.parametrize("method", ["remove_queries", "reset_queries", "cancel_queries"])
    async def test_its_callers_get_a_cancellation(self, method):
        async with QueryClient() as client:
            client.online.set(False)
            upstream = Upstream()
            caller = asyncio.create_task(client.query(KEY, upstream))
            await settled()
            getattr(client, method)(KEY)
            with pytest.raises(QueryCancelled):
                await caller
            client.online.set(True)
            await settled()
            assert upstream.calls == 0

    async def test_an_invalidation_begins_it_anew_and_it_stays_paused(self):
        async with QueryClient() as client:
            client.online.set(False)
            upstream = Upstream()
            with QueryObserver(client, KEY, upstream) as observer:
                await settled()
                await client.invalidate_queries(KEY)
                assert observer.result.fetch_status == "paused"
                client.online.set(True)
                await settled()
                assert (observer.result.data, observer.result.is_invalidated, upstream.calls) == ("new 1", False, 1)

    async def test_it_ends_with_the_last_observer(self):
        async with QueryClient() as client:
            client.online.set(False)
            upstream = Upstream()
            with QueryObserver(client, KEY, upstream):
                await settled()
            await settled()
            assert status(client) == "idle"
            client.online.set(True)
            await settled()
            assert upstream.calls == 0

    async def test_S3_forgetting_its_identity_ends_it(self):
        async with QueryClient() as client:
            client.online.set(False)
            upstream = Upstream()
            caller = asyncio.create_task(client.query(KEY, upstream, identity="me"))
            await settled()
            client.forget("me")
            with pytest.raises(QueryCancelled):
                await caller
            client.online.set(True)
            await settled()
            assert upstream.calls == 0

    async def test_aclose_ends_it(self):
        client = QueryClient()
        client.online.set(False)
        caller = asyncio.create_task(client.query(KEY, Upstream()))
        await settled()
        await client.aclose()
        with pytest.raises(QueryCancelled):
            await caller
        assert client.core.presence._waiting == {}

    async def test_who_is_told_that_it_goes_on_may_cancel_it_and_the_function_is_not_called(self):
        async with QueryClient() as client:
            client.online.set(False)
            upstream = Upstream()
            client.cache.subscribe(lambda event: str(event.cause) == "continue" and client.cancel_queries(KEY))
            caller = asyncio.create_task(client.query(KEY, upstream))
            await settled()
            client.online.set(True)
            with pytest.raises(QueryCancelled):
                await caller
            assert upstream.calls == 0

    async def test_one_that_waits_leaves_nothing_behind_when_it_is_cancelled(self):
        async with QueryClient() as client:
            client.online.set(False)
            for n in range(10):
                client.prefetch((n,), Upstream())
            await settled()
            assert len(client.core.presence._waiting) == 10
            client.cancel_queries()
            await settled()
            assert client.core.presence._waiting == {}
