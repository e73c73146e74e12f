"""`wait_for`, of an observer and of the client: the first result as wanted; nothing is left behind, however it ends."""

from __future__ import annotations

import asyncio
import gc
from datetime import timedelta

import pytest

from querykit import ClientClosed, ObserverClosed, QueryClient, QueryObserver, QueryTimeout, query_options
from tests.fetches import Gate, Upstream, settled
from tests.observing import Results, now

pytestmark = pytest.mark.virtual_time

KEY = ("pods", "prod")


async def test_the_present_result_is_returned_at_once():
    async with QueryClient() as client:
        client.set_query_data(KEY, 1)
        result = await client.wait_for(KEY, lambda result: result.data == 1, timeout=0)
        assert result.data == 1
        assert not client.cache.find(KEY).observers


async def test_a_later_one_is_returned_when_it_comes():
    async with QueryClient() as client:
        waiting = asyncio.create_task(client.wait_for(KEY, lambda result: result.data == 2))
        await settled()
        for n in range(4):
            client.set_query_data(KEY, n)
        assert (await waiting).data == 2


async def test_an_options_value_is_fetched():
    async with QueryClient() as client:
        options = query_options(KEY, Upstream()).select(str.upper)
        assert (await client.wait_for(options, lambda result: result.is_success)).data == "NEW 1"


@pytest.mark.parametrize("timeout", [5, 5.0, timedelta(seconds=5)], ids=str)
async def test_after_the_timeout_it_says_so(timeout):
    async with QueryClient() as client:
        with pytest.raises(QueryTimeout) as caught:
            await client.wait_for(KEY, lambda result: False, timeout=timeout)
        assert isinstance(caught.value, TimeoutError)
        assert now() == 5
        assert not client.cache.find(KEY).observers


async def test_a_predicate_that_raises_ends_it():
    async with QueryClient() as client:
        with pytest.raises(ZeroDivisionError):
            await client.wait_for(KEY, lambda result: 1 / 0)
        assert not client.cache.find(KEY).observers


async def test_a_predicate_that_raises_a_timeout_error_is_not_taken_for_the_timeout():
    async with QueryClient() as client:

        def predicate(result):
            raise TimeoutError("mine")

        with pytest.raises(TimeoutError, match=r"^mine$") as caught:
            await client.wait_for(KEY, predicate, timeout=5)
        assert not isinstance(caught.value, QueryTimeout)


async def test_cancelling_it_leaves_nothing():
    async with QueryClient() as client:
        waiting = asyncio.create_task(client.wait_for(KEY, lambda result: False, timeout=100))
        await settled()
        assert client.cache.find(KEY).is_active
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not client.cache.find(KEY).observers


async def test_a_fetch_that_only_it_wanted_ends_with_it():
    async with QueryClient() as client:
        gate = Gate()
        with pytest.raises(QueryTimeout):
            await client.wait_for(query_options(KEY, gate), lambda result: result.is_success, timeout=5)
        await settled()
        assert gate.cancelled == 1


async def test_closing_the_observer_meanwhile_ends_it():
    async with QueryClient() as client:
        observer = QueryObserver(client, KEY)
        waiting = asyncio.create_task(observer.wait_for(lambda result: False, timeout=100))
        await settled()
        observer.close()
        with pytest.raises(ObserverClosed, match="was closed while it was waited for"):
            await waiting


@pytest.mark.parametrize("of", ["client", "observer"])
async def test_closing_the_client_meanwhile_ends_it(of):
    client = QueryClient()
    wait_for = QueryObserver(client, KEY).wait_for if of == "observer" else None
    waiting = asyncio.create_task(
        wait_for(lambda result: False) if wait_for else client.wait_for(KEY, lambda result: False)
    )
    await settled()
    await client.aclose()
    with pytest.raises(ClientClosed):
        await waiting


async def test_on_a_closed_client_or_observer_it_says_so():
    client = QueryClient()
    observer = QueryObserver(client, KEY)
    observer.close()
    with pytest.raises(ObserverClosed):
        await observer.wait_for(lambda result: True)
    await client.aclose()
    with pytest.raises(ClientClosed):
        await client.wait_for(KEY, lambda result: True)


async def test_an_observer_that_is_subscribed_to_stays_so():
    async with QueryClient() as client:
        results = Results()
        observer = QueryObserver(client, KEY)
        with observer.subscribe(results):
            with pytest.raises(QueryTimeout):
                await observer.wait_for(lambda result: False, timeout=1)
            client.set_query_data(KEY, 1)
        assert results.of("data") == [1]


async def test_one_that_nobody_else_subscribed_to_leaves_its_query_again():
    async with QueryClient() as client:
        observer = QueryObserver(client, KEY, Upstream())
        assert (await observer.wait_for(lambda result: result.is_success)).data == "new 1"
        assert not observer.query.is_active


async def test_an_observation_has_it_too():
    async with QueryClient() as client, client.observe(KEY, Upstream()) as results:
        assert (await results.wait_for(lambda result: result.has_data, timeout=1)).data == "new 1"


async def test_the_first_result_as_wanted_is_returned_though_a_later_one_is_not():
    async with QueryClient() as client:
        waiting = asyncio.create_task(client.wait_for(KEY, lambda result: result.data == 1))
        await settled()
        client.set_query_data(KEY, 1)
        client.set_query_data(KEY, 2)
        assert (await waiting).data == 1


async def test_what_the_predicate_raises_is_not_lost_as_unretrieved_when_it_is_cancelled_at_that_moment():
    async with QueryClient() as client:

        def predicate(result):
            if result.data == 1:
                raise LookupError("no")

        waiting = asyncio.create_task(client.wait_for(KEY, predicate))
        await settled()
        client.set_query_data(KEY, 1)
        waiting.cancel()
        with pytest.raises((asyncio.CancelledError, LookupError)):
            await waiting
        del waiting
        gc.collect()  # a future whose error nobody took would say so to the loop


async def test_what_cannot_be_called_ends_it():
    async with QueryClient() as client:
        with pytest.raises(TypeError):
            await client.wait_for(KEY, None)
        assert not client.cache.find(KEY).observers


async def test_many_waits_leave_no_timer_and_no_task():
    async with QueryClient() as client:
        for n in range(100):
            waiting = asyncio.create_task(client.wait_for((n,), lambda result: result.has_data, timeout=60))
            await asyncio.sleep(0)
            client.set_query_data((n,), n)
            assert (await waiting).data == n
        assert len(asyncio.all_tasks()) == 1
        assert len(client.core.timetable) == 0


async def test_a_result_that_has_come_is_returned_though_the_observer_is_closed_before_it_is_taken():
    async with QueryClient() as client:
        observer = QueryObserver(client, KEY)
        waiting = asyncio.create_task(observer.wait_for(lambda result: result.has_data))
        await settled()
        client.set_query_data(KEY, 1)
        observer.close()
        assert (await waiting).data == 1


async def test_a_result_that_notify_on_keeps_from_the_subscribers_is_waited_for_all_the_same():
    async with QueryClient() as client:
        results = Results()
        client.set_query_data(KEY, 1)
        observer = QueryObserver(client, KEY, stale_time=10, notify_on=["data"])
        with observer.subscribe(results):
            assert (await observer.wait_for(lambda result: result.is_stale, timeout=60)).data == 1
            assert (now(), results) == (10, [])
