"""`QueryObserver.set_options`: other options, and other keys, while somebody observes."""

from __future__ import annotations

import asyncio

import pytest

from querykit import QueryClient, QueryObserver, query_options
from tests.fetches import Gate, Upstream, settled
from tests.observing import Results

pytestmark = pytest.mark.virtual_time

KEY = ("pods", "prod")
OTHER = ("pods", "test")


async def test_another_key_is_fetched_if_it_is_not_fresh():
    async with QueryClient() as client:
        upstream = Upstream()
        with QueryObserver(client, KEY, upstream, stale_time=9) as observer:
            await settled()
            observer.set_options(OTHER, upstream, stale_time=9)
            await settled()
            assert (observer.result.data, observer.query.key) == ("new 2", OTHER)
            observer.set_options(KEY, upstream, stale_time=9)
            await settled()
            assert (observer.result.data, upstream.calls) == ("new 1", 2)


async def test_another_key_that_is_stale_is_fetched_whatever_refetch_on_mount_says():
    async with QueryClient() as client:
        client.set_query_data(OTHER, "old")
        upstream = Upstream()
        with QueryObserver(client, KEY, upstream, refetch_on_mount=False) as observer:
            await settled()
            observer.set_options(OTHER, upstream, refetch_on_mount=False)
            await settled()
            assert observer.result.data == "new 2"


async def test_the_former_keys_fetch_is_cancelled_if_nobody_else_wants_it():
    async with QueryClient() as client:
        gate = Gate()
        with QueryObserver(client, KEY, gate) as observer:
            await settled()
            observer.set_options(OTHER, gate)
            await settled()
            assert (gate.cancelled, client.cache.find(KEY).is_active) == (1, False)


async def test_the_former_keys_fetch_goes_on_if_somebody_else_wants_it():
    async with QueryClient() as client:
        gate = Gate()
        with QueryObserver(client, KEY, gate) as observer, QueryObserver(client, KEY, gate) as other:
            await settled()
            observer.set_options(OTHER, gate)
            await settled()
            await gate.answer("kept", call=0)
            assert (gate.cancelled, other.result.data) == (0, "kept")


async def test_the_subscribers_see_the_new_keys_result_at_once_and_nothing_of_the_former_any_more():
    async with QueryClient() as client:
        client.set_query_data(KEY, "former")
        client.set_query_data(OTHER, "latter")
        results = Results()
        observer = QueryObserver(client, KEY)
        with observer.subscribe(results):
            observer.set_options(OTHER)
            client.set_query_data(KEY, "former 2")
            client.set_query_data(OTHER, "latter 2")
        assert results.of("data") == ["latter", "latter 2"]


async def test_the_former_key_is_collected_when_its_time_has_come():
    async with QueryClient() as client:
        with QueryObserver(client, KEY, lambda: 1, gc_time=10) as observer:
            await settled()
            observer.set_options(OTHER, lambda: 2, gc_time=10)
            await asyncio.sleep(20)
            assert [query.key for query in client.cache] == [OTHER]


async def test_the_same_key_written_differently_is_the_same_key():
    async with QueryClient() as client:
        upstream = Upstream()
        with QueryObserver(client, ("pods", [1, 2]), upstream, stale_time=9) as observer:
            await settled()
            before = observer.query
            observer.set_options(("pods", (1, 2)), upstream, stale_time=9)
            await settled()
            assert (observer.query is before, upstream.calls) == (True, 1)


async def test_other_options_alone_fetch_nothing():
    async with QueryClient() as client:
        upstream = Upstream()
        with QueryObserver(client, KEY, upstream) as observer:
            await settled()
            observer.set_options(KEY, upstream, meta={"a": 1}, refetch_on_focus=False)
            await settled()
            assert upstream.calls == 1


async def test_another_function_counts_from_the_next_fetch_on():
    async with QueryClient() as client:
        with QueryObserver(client, KEY, lambda: "first") as observer:
            await settled()
            observer.set_options(KEY, lambda: "second")
            await settled()
            assert observer.result.data == "first"
            await client.invalidate_queries(KEY)
            assert observer.result.data == "second"


async def test_options_that_change_nothing_that_is_seen_keep_the_result_and_tell_nobody():
    async with QueryClient() as client:
        client.set_query_data(KEY, 1)
        results = Results()
        observer = QueryObserver(client, KEY, stale_time=9)
        with observer.subscribe(results):
            before = observer.result
            observer.set_options(KEY, stale_time=99)
            assert observer.result is before
        assert results == []


async def test_a_longer_stale_time_makes_the_data_fresh_and_tells_of_it():
    async with QueryClient() as client:
        client.set_query_data(KEY, 1)
        results = Results()
        observer = QueryObserver(client, KEY)
        with observer.subscribe(results):
            observer.set_options(KEY, stale_time=99)
        assert results.of("is_stale") == [False]


async def test_options_that_were_given_before_do_not_linger():
    async with QueryClient() as client:
        client.set_query_data(KEY, 1)
        with QueryObserver(client, KEY, stale_time=99, enabled=False) as observer:
            observer.set_options(KEY)
            assert (observer.result.is_enabled, observer.result.is_stale) == (True, True)


async def test_before_the_first_subscription_they_only_change_what_will_be_done():
    async with QueryClient() as client:
        upstream = Upstream()
        observer = QueryObserver(client, KEY, upstream)
        observer.set_options(OTHER, upstream)
        await settled()
        assert (upstream.calls, len(client.cache)) == (0, 0)
        with observer:
            await settled()
            assert (observer.result.data, client.get_query_data(KEY)) == ("new 1", None)


async def test_an_options_value_may_be_given():
    async with QueryClient() as client:
        with QueryObserver(client, KEY) as observer:
            observer.set_options(query_options(OTHER, lambda: [1, 2]).select(len))
            await settled()
            assert observer.result.data == 2


@pytest.mark.parametrize(
    ("key", "fn", "options", "error"),
    [
        ("pods", None, {}, TypeError),
        (OTHER, lambda a, b: 1, {}, TypeError),
        (OTHER, None, {"stale_time": -1}, ValueError),
        (OTHER, None, {"initial_data": lambda: 1 / 0}, ZeroDivisionError),
        (OTHER, None, {"notify_on": ["dat"]}, ValueError),
    ],
    ids=["key", "fn", "option", "initial_data", "notify_on"],
)
async def test_bad_ones_are_refused_and_the_observer_goes_on_as_before(key, fn, options, error):
    async with QueryClient() as client:
        results = Results()
        observer = QueryObserver(client, KEY)
        with observer.subscribe(results):
            with pytest.raises(error):
                observer.set_options(key, *([] if fn is None else [fn]), **options)
            client.set_query_data(KEY, 1)
            assert (results.of("data"), observer.query.key) == ([1], KEY)
        assert not client.cache.find(OTHER)


class TestFetchedAfterMount:
    async def test_it_is_false_for_what_was_there_and_true_after_the_next_answer(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, 1)
            results = Results()
            observer = QueryObserver(client, KEY)
            assert not observer.result.is_fetched_after_mount
            with observer.subscribe(results):
                assert results == []
                client.set_query_data(KEY, 2)
            assert results.of("is_fetched_after_mount") == [True]

    async def test_an_error_is_an_answer_too(self):
        async with QueryClient() as client:
            upstream = Upstream()
            upstream.error = LookupError("no")
            with QueryObserver(client, KEY, upstream, retry=0) as observer:
                assert not observer.result.is_fetched_after_mount
                await settled()
                assert (observer.result.is_fetched, observer.result.is_fetched_after_mount) == (True, True)

    async def test_another_key_begins_anew(self):
        async with QueryClient() as client:
            client.set_query_data(OTHER, 1)
            with QueryObserver(client, KEY, lambda: 1) as observer:
                await settled()
                observer.set_options(OTHER)
                assert (observer.result.is_fetched, observer.result.is_fetched_after_mount) == (True, False)

    async def test_after_a_removal_the_next_answer_counts(self):
        async with QueryClient() as client:
            for n in range(3):
                client.set_query_data(KEY, n)
            with QueryObserver(client, KEY) as observer:
                client.remove_queries(KEY)
                assert not observer.result.is_fetched_after_mount
                client.set_query_data(KEY, 9)
                assert observer.result.is_fetched_after_mount
