"""`client.batch()`: within it everything changes at once, and everybody is told after it, once."""

from __future__ import annotations

import asyncio

import pytest

from querykit import QueryClient, QueryObserver, WrongThread, query_options
from tests.fetches import Gate, Upstream, settled
from tests.observing import Results, exceptions

pytestmark = pytest.mark.virtual_time

KEY = ("pods", "prod")


async def test_an_observer_is_told_once_however_many_changes_there_were():
    async with QueryClient() as client:
        results = Results()
        with QueryObserver(client, KEY).subscribe(results):
            with client.batch():
                for n in range(100):
                    client.set_query_data(KEY, n)
                client.invalidate_queries(KEY)
                assert results == []
            assert results.of("data", "is_invalidated", "data_update_count") == [(99, True, 100)]


async def test_the_cache_itself_changes_at_once():
    async with QueryClient() as client, client.observe(KEY) as results:
        with client.batch():
            client.set_query_data(KEY, 1)
            assert (client.get_query_data(KEY), results.result.data) == (1, 1)
            client.remove_queries(KEY)
            assert (client.get_query_data(KEY), results.result.data) == (None, None)


async def test_the_caches_listeners_hear_each_event_in_order():
    async with QueryClient() as client:
        events = []
        client.cache.subscribe(lambda event: events.append((event.query.key, str(event.cause))))
        with client.batch():
            client.set_query_data(("a",), 1)
            client.set_query_data(("b",), 2)
            client.invalidate_queries(("a",))
            client.remove_queries(("b",))
            assert events == []
        assert events == [
            (("a",), "create"),
            (("a",), "set"),
            (("b",), "create"),
            (("b",), "set"),
            (("a",), "invalidate"),
            (("b",), "remove"),
        ]


async def test_nested_ones_are_told_after_the_outermost():
    async with QueryClient() as client:
        results = Results()
        with QueryObserver(client, KEY).subscribe(results):
            with client.batch():
                client.set_query_data(KEY, 1)
                with client.batch():
                    client.set_query_data(KEY, 2)
                assert results == []
                client.set_query_data(KEY, 3)
            assert results.of("data") == [3]


async def test_trap_27_everybody_is_told_when_the_body_raises_too():
    async with QueryClient() as client:
        results = Results()
        with QueryObserver(client, KEY).subscribe(results):
            with pytest.raises(LookupError), client.batch():
                client.set_query_data(KEY, 1)
                raise LookupError
            assert results.of("data") == [1]
            client.set_query_data(KEY, 2)
            assert results.of("data") == [1, 2]


async def test_each_query_that_changed_is_told_to_its_own_observers_once():
    async with QueryClient() as client:
        results = {n: Results() for n in range(3)}
        for n in range(3):
            QueryObserver(client, (n,)).subscribe(results[n])
        with client.batch():
            for value in "abc":
                client.set_query_data((0,), value)
                client.set_query_data((2,), value)
        assert [each.of("data") for each in results.values()] == [["c"], [], ["c"]]


async def test_changes_that_cancel_each_other_out_are_not_told_of():
    async with QueryClient() as client:
        results = Results()
        with QueryObserver(client, KEY, Gate(), enabled=False) as observer, observer.subscribe(results):
            with client.batch():
                observer.refetch()
                client.cancel_queries(KEY)
            assert results == []
            await settled()


async def test_fetches_begin_within_it():
    async with QueryClient() as client:
        upstream = Upstream()
        results = Results()
        with client.batch():
            undo = QueryObserver(client, KEY, upstream).subscribe(results)
            assert client.is_fetching() == 1
            assert results == []
        assert results.of("fetch_status") == ["fetching"]
        await settled()
        assert upstream.calls == 1
        undo()


async def test_whoever_leaves_within_it_is_not_told():
    async with QueryClient() as client:
        results = Results()
        observer = QueryObserver(client, KEY)
        undo = observer.subscribe(results)
        with client.batch():
            client.set_query_data(KEY, 1)
            undo()
        assert results == []


async def test_an_observer_that_turns_to_another_key_within_it_is_told_once():
    async with QueryClient() as client:
        results = Results()
        observer = QueryObserver(client, KEY)
        with observer.subscribe(results):
            with client.batch():
                client.set_query_data(KEY, 1)
                observer.set_options(("other",))
                client.set_query_data(("other",), 2)
            assert results.of("data") == [2]


async def test_an_observation_gets_one_result():
    async with QueryClient() as client, client.observe(KEY) as results:
        await anext(results)
        with client.batch():
            client.set_query_data(KEY, 1)
            client.set_query_data(KEY, 2)
        assert (await anext(results)).data == 2
        waiting = asyncio.ensure_future(anext(results))
        await settled()
        assert not waiting.done()
        waiting.cancel()


async def test_many_queries_observed_together_are_told_once():
    async with QueryClient() as client:
        seen = []
        async with client.observe_many([query_options((n,), Gate()) for n in range(5)]) as results:
            await anext(results)
            with client.batch():
                for n in range(5):
                    client.set_query_data((n,), n)
            seen.append(await anext(results))
        assert [[result.data for result in each] for each in seen] == [[0, 1, 2, 3, 4]]


async def test_a_subscriber_that_raises_after_it_disturbs_nobody(reported):
    async with QueryClient() as client:
        results = Results()
        observer = QueryObserver(client, KEY)
        with observer.subscribe(lambda result: 1 / 0), observer.subscribe(results):
            with client.batch():
                client.set_query_data(KEY, 1)
            assert results.of("data") == [1]
    assert exceptions(reported) == [ZeroDivisionError]


async def test_one_within_a_callback_is_told_before_the_outermost_call_returns():
    async with QueryClient() as client:
        results = Results()

        def reacts(result):
            if result.data == 1:
                with client.batch():
                    client.set_query_data(KEY, 2)
                    client.set_query_data(KEY, 3)

        observer = QueryObserver(client, KEY)
        with observer.subscribe(reacts), observer.subscribe(results):
            client.set_query_data(KEY, 1)
            assert results.of("data") == [1, 3]


async def test_S3_what_is_forgotten_within_it_is_told_to_nobody():
    async with QueryClient() as client:
        results = Results()
        observer = QueryObserver(client, KEY)
        with observer.subscribe(results):
            with client.batch():
                client.set_query_data(KEY, "secret", identity="me")
                assert observer.result.data == "secret"
                client.forget("me")
                assert observer.result.data is None
            assert "secret" not in results.of("data")


async def test_another_thread_is_refused():
    async with QueryClient() as client:
        client.set_query_data(KEY, 1)
        with pytest.raises(WrongThread):
            await asyncio.to_thread(client.batch)
