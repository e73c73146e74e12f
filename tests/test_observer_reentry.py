"""What a subscriber may do while it is told: close, switch, remove, forget, end the client. Nobody is disturbed by it.

And what observing leaves behind when it is over: nothing.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import tracemalloc
import weakref

import pytest

from querykit import ObserverClosed, QueryClient, QueryObserver, keep_previous_data, query_options, skip
from tests.fetches import Gate, Upstream, settled
from tests.observing import Results

pytestmark = pytest.mark.virtual_time

KEY = ("pods", "prod")
OTHER = ("pods", "test")


def at(data, act):
    """A subscriber that acts once, when it is told of `data`."""
    done = []

    def callback(result):
        if result.data == data and not done:
            done.append(True)
            act()

    return callback


async def test_it_may_close_its_own_observer():
    async with QueryClient() as client:
        results = Results()
        observer = QueryObserver(client, KEY, stale_time=10, refetch_interval=5)
        observer.subscribe(at(1, observer.close))
        observer.subscribe(results)
        client.set_query_data(KEY, 1)
        client.set_query_data(KEY, 2)
        assert results == []
        assert (len(client.core.timetable), client.cache.find(KEY).observers) == (0, {})


async def test_it_may_close_another_observer_that_would_be_told_next():
    async with QueryClient() as client:
        results = Results()
        one, other = QueryObserver(client, KEY), QueryObserver(client, KEY)
        with one.subscribe(at(1, other.close)):
            other.subscribe(results)
            client.set_query_data(KEY, 1)
        assert results == []


async def test_it_may_switch_its_own_key():
    async with QueryClient() as client:
        upstream, results = Upstream(), Results()
        observer = QueryObserver(client, KEY)
        with observer.subscribe(at(1, lambda: observer.set_options(OTHER, upstream))), observer.subscribe(results):
            client.set_query_data(KEY, 1)
            await settled()
            assert (observer.query.key, observer.result.data) == (OTHER, "new 1")
            assert results[-1].data == "new 1"


async def test_it_may_switch_another_observers_key():
    async with QueryClient() as client:
        client.set_query_data(OTHER, "other")
        results = Results()
        one, other = QueryObserver(client, KEY), QueryObserver(client, KEY)
        with one.subscribe(at(1, lambda: other.set_options(OTHER))), other.subscribe(results):
            client.set_query_data(KEY, 1)
            client.set_query_data(KEY, 2)
        assert set(results.of("data")) == {"other"}


async def test_it_may_remove_the_query_it_is_told_of():
    async with QueryClient() as client:
        results = Results()
        observer = QueryObserver(client, KEY)
        with observer.subscribe(at(1, lambda: client.remove_queries(KEY))), observer.subscribe(results):
            client.set_query_data(KEY, 1)
            assert (results[-1].data, results[-1].status, observer.result.data) == (None, "pending", None)
            client.set_query_data(KEY, 2)
            assert results[-1].data == 2


async def test_it_may_reset_the_query_it_is_told_of():
    async with QueryClient() as client:
        upstream = Upstream()
        observer = QueryObserver(client, KEY, upstream, stale_time=99)
        with observer.subscribe(at("new 1", lambda: client.reset_queries(KEY))):
            await settled()
            assert (observer.result.data, upstream.calls) == ("new 2", 2)


async def test_it_may_refetch():
    async with QueryClient() as client:
        upstream = Upstream()
        observer = QueryObserver(client, KEY, upstream, stale_time=99)
        with observer.subscribe(at("new 1", lambda: observer.refetch())):
            await settled()
            assert observer.result.data == "new 2"


async def test_it_may_begin_to_close_the_client():
    client = QueryClient()
    closing = []
    results = Results()
    observers = [QueryObserver(client, KEY, Gate(), stale_time=9, refetch_interval=5) for _ in range(3)]
    observers[0].subscribe(at(1, lambda: closing.append(asyncio.ensure_future(client.aclose()))))
    for observer in observers[1:]:
        observer.subscribe(results)
    await settled()
    results.clear()
    client.set_query_data(KEY, 1)
    await closing[0]
    assert set(results.of("data")) <= {1}
    assert len(client.core.timetable) == 0


async def test_what_leaves_while_its_first_result_waits_to_be_told_makes_no_query_again():
    async with QueryClient() as client:
        results = Results()
        with client.batch():
            observer = QueryObserver(client, KEY, Gate())
            observer.subscribe(results)
            observer.close()
            client.remove_queries(KEY)
        await settled()
        assert (results, len(client.cache)) == ([], 0)


async def test_a_select_that_closes_its_own_observer_leaves_nothing():
    async with QueryClient() as client:
        observer = QueryObserver(client, query_options(KEY, Gate(), stale_time=9).select(lambda data: observer.close()))
        observer.subscribe(results := Results())
        await settled()
        results.clear()
        client.set_query_data(KEY, 1)
        assert results == []
        assert (len(client.core.timetable), client.cache.find(KEY).observers) == (0, {})


@pytest.mark.parametrize("name", ["enabled", "stale_time", "placeholder_data"])
async def test_a_rule_that_closes_its_own_observer_at_the_first_subscription_refuses_it(name):
    async with QueryClient() as client:

        def closes(*arguments):
            observer.close()
            return True if name == "enabled" else 1

        upstream = Upstream()
        observer = QueryObserver(client, KEY, upstream, gc_time=0, **{name: closes})
        with pytest.raises(ObserverClosed):
            observer.subscribe(Results())
        await asyncio.sleep(2)
        assert (upstream.calls, len(client.cache), len(client.core.timetable)) == (0, 0, 0)


async def test_a_rule_that_closes_its_own_observer_while_it_mounts_leaves_no_fetch():
    async with QueryClient() as client:
        client.set_query_data(KEY, 1)
        upstream = Upstream()
        observer = QueryObserver(client, KEY, upstream, refetch_on_mount=lambda query: not observer.close())
        observer.subscribe(results := Results())
        await settled()
        assert (upstream.calls, results, client.cache.find(KEY).observers) == (0, [], {})


async def test_a_rule_that_closes_its_own_observer_while_options_are_set_leaves_no_fetch():
    async with QueryClient() as client:
        upstream = Upstream()
        observer = QueryObserver(client, KEY, enabled=False)
        observer.subscribe(Results())
        observer.set_options(OTHER, upstream, stale_time=lambda query: observer.close() or 0)
        await settled()
        assert (upstream.calls, client.cache.find(OTHER).observers) == (0, {})
        assert not client.cache.find(OTHER).is_busy


async def test_a_listener_of_the_cache_may_close_observers_as_they_come():
    async with QueryClient() as client:
        observer = QueryObserver(client, KEY, Gate())

        def listener(event):
            if event.cause == "observe":
                observer.close()

        with client.cache.subscribe(listener):
            observer.subscribe(Results())
        assert client.cache.find(KEY).observers == {}
        await settled()
        assert client.is_fetching() == 0


class TestNothingIsLeft:
    @pytest.mark.no_cover
    async def test_100_000_cycles_of_observing_leave_no_entry_no_task_no_timer_and_no_memory(self):
        async with QueryClient() as client:
            asyncio.get_running_loop().set_debug(False)
            options = {"gc_time": 0, "stale_time": 9, "refetch_interval": 60}

            async def cycles(count):
                for n in range(count):
                    fn = Upstream() if n % 10 == 0 else skip
                    async with client.observe((n % 500,), fn, **options) as results:
                        assert results.result.is_pending
                    if n % 500 == 0:
                        await asyncio.sleep(0)
                await asyncio.sleep(2)

            await cycles(94_500)
            tracemalloc.start()
            try:
                await cycles(500)
                gc.collect()
                before = tracemalloc.get_traced_memory()[0]
                await cycles(5_000)
                gc.collect()
                grown = tracemalloc.get_traced_memory()[0] - before
            finally:
                tracemalloc.stop()
            assert grown < 5_000 * 30
            assert (len(client.cache), len(client.cache.observed), len(client.core.timetable)) == (0, 0, 0)
            assert len(asyncio.all_tasks()) == 1

    async def test_an_observer_that_was_closed_keeps_nothing_of_what_it_saw(self):
        class Data:
            pass

        async with QueryClient() as client:
            observer = QueryObserver(client, query_options(KEY, Gate()).select(lambda data: [data]))
            observer.subscribe(lambda result: None)
            data = Data()
            seen = weakref.ref(data)
            client.set_query_data(KEY, data)
            assert observer.result.data == [data]
            observer.set_options(OTHER, placeholder_data=keep_previous_data)
            observer.close()
            client.remove_queries(KEY)
            await settled()
            del data
            gc.collect()
            assert seen() is None

    async def test_a_query_that_went_is_not_kept_by_an_observer_that_was_never_subscribed_to(self):
        async with QueryClient() as client:
            observer = QueryObserver(client, KEY)
            client.set_query_data(KEY, data := {1, 2})
            seen = weakref.ref(data)
            assert observer.result.data is data
            observer.close()
            client.remove_queries(KEY)
            del data
            assert seen() is None

    async def test_observations_that_are_dropped_in_other_threads_are_let_go(self):
        async with QueryClient() as client:
            for n in range(50):
                held = [aiter(client.observe((n,), Gate()))]
                thread = threading.Thread(target=held.clear)
                thread.start()
                await asyncio.to_thread(thread.join)
            await settled()
            assert (len(client.cache.observed), client.is_fetching()) == (0, 0)

    async def test_observations_in_a_cycle_of_references_are_let_go_by_the_collector(self):
        async with QueryClient() as client:
            for n in range(50):
                cycle = [aiter(client.observe((n,), Gate()))]
                cycle.append(cycle)
                del cycle
            gc.collect()
            await settled()
            assert (len(client.cache.observed), client.is_fetching()) == (0, 0)

    async def test_one_that_is_dropped_after_its_loop_has_ended_says_nothing(self):
        held = []

        async def elsewhere():
            held.append(aiter(QueryClient().observe(KEY)))

        thread = threading.Thread(target=lambda: asyncio.run(elsewhere()))
        thread.start()
        await asyncio.to_thread(thread.join)
        held.clear()
        gc.collect()
