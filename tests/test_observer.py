"""QueryObserver: when it attaches and leaves, what `refetch` does, what a closed one says."""

from __future__ import annotations

import asyncio

import pytest

from querykit import (
    ClientClosed,
    MissingQueryFunction,
    ObserverClosed,
    QueryCancelled,
    QueryClient,
    QueryObserver,
    query_options,
    skip,
)
from tests.fetches import Gate, Upstream, settled
from tests.observing import Results

pytestmark = pytest.mark.virtual_time

KEY = ("pods", "prod")


async def failing():
    raise LookupError("no")


class TestAttaching:
    async def test_constructing_fetches_nothing_and_makes_no_query(self):
        async with QueryClient() as client:
            upstream = Upstream()
            observer = QueryObserver(client, KEY, upstream)
            await settled()
            assert (upstream.calls, len(client.cache)) == (0, 0)
            assert repr(observer) == "<QueryObserver of ('pods', 'prod'), 0 subscribers>"

    async def test_reading_the_result_fetches_nothing(self):
        async with QueryClient() as client:
            upstream = Upstream()
            result = QueryObserver(client, KEY, upstream).result
            await settled()
            assert (result.status, result.fetch_status, upstream.calls) == ("pending", "idle", 0)

    async def test_the_query_of_one_that_nobody_subscribed_to_is_collected(self):
        async with QueryClient() as client:
            observer = QueryObserver(client, KEY, gc_time=10)
            assert observer.query is observer.query
            await asyncio.sleep(20)
            assert len(client.cache) == 0
            assert observer.result.is_pending
            assert len(client.cache) == 1

    async def test_the_first_subscription_attaches_and_fetches(self):
        async with QueryClient() as client:
            results = Results()
            observer = QueryObserver(client, KEY, Upstream(), stale_time=9)
            with observer.subscribe(results):
                assert observer.query.is_active
                await settled()
            assert results.of("status", "fetch_status", "data") == [
                ("pending", "fetching", None),
                ("success", "idle", "new 1"),
            ]

    async def test_a_second_subscription_neither_fetches_nor_attaches_again(self):
        async with QueryClient() as client:
            upstream, first, second = Upstream(), Results(), Results()
            observer = QueryObserver(client, KEY, upstream)
            with observer.subscribe(first):
                await settled()
                with observer.subscribe(second):
                    await settled()
                    assert (upstream.calls, second) == (1, [])
                    client.set_query_data(KEY, "set")
            assert second.of("data") == ["set"]
            assert first[-1] is second[-1]

    async def test_the_last_subscription_to_leave_detaches(self):
        async with QueryClient() as client:
            observer = QueryObserver(client, KEY, Upstream())
            undo, other = observer.subscribe(Results()), observer.subscribe(Results())
            undo()
            assert observer.query.is_active
            other()
            assert not observer.query.is_active

    async def test_unsubscribing_twice_does_nothing(self):
        async with QueryClient() as client:
            observer = QueryObserver(client, KEY)
            undo, other = observer.subscribe(Results()), observer.subscribe(Results())
            undo()
            undo()
            assert observer.query.is_active
            other()

    async def test_one_callback_may_subscribe_twice(self):
        async with QueryClient() as client:
            results = Results()
            observer = QueryObserver(client, KEY)
            with observer.subscribe(results):
                with observer.subscribe(results):
                    client.set_query_data(KEY, 1)
                client.set_query_data(KEY, 2)
            assert results.of("data") == [1, 1, 2]

    async def test_leaving_cancels_a_fetch_that_nobody_else_wants(self):
        async with QueryClient() as client:
            gate = Gate()
            observer = QueryObserver(client, KEY, gate)
            with observer.subscribe(Results()):
                await settled()
            await settled()
            assert (gate.cancelled, observer.result.fetch_status) == (1, "idle")

    async def test_it_can_be_subscribed_to_again_after_everybody_left(self):
        async with QueryClient() as client:
            upstream = Upstream()
            observer = QueryObserver(client, KEY, upstream)
            for calls in (1, 2):
                with observer.subscribe(Results()):
                    await settled()
                assert upstream.calls == calls

    async def test_a_with_block_observes_without_any_subscriber(self):
        async with QueryClient() as client:
            upstream = Upstream()
            with QueryObserver(client, KEY, upstream) as observer:
                await settled()
                assert observer.result.data == "new 1"
                with observer.subscribe(Results()):
                    pass
                assert observer.query.is_active
            assert not client.cache.find(KEY).is_active
            with pytest.raises(ObserverClosed):
                observer.subscribe(Results())

    async def test_a_with_block_that_cannot_attach_leaves_nothing(self):
        async with QueryClient() as client:
            observer = QueryObserver(client, KEY, initial_data=lambda: 1 / 0)
            with pytest.raises(ZeroDivisionError), observer:
                pass
            assert len(client.cache) == 0

    async def test_a_subscription_that_cannot_attach_leaves_nothing(self):
        async with QueryClient() as client:
            observer = QueryObserver(client, KEY, initial_data=lambda: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                observer.subscribe(Results())
            assert (len(client.cache), repr(observer)) == (0, "<QueryObserver of ('pods', 'prod'), 0 subscribers>")

    async def test_two_observers_share_one_fetch(self):
        async with QueryClient() as client:
            upstream, first, second = Upstream(), Results(), Results()
            with (
                QueryObserver(client, KEY, upstream).subscribe(first),
                QueryObserver(client, KEY, upstream).subscribe(second),
            ):
                await settled()
            assert upstream.calls == 1
            assert first.of("data")[-1] == second.of("data")[-1] == "new 1"

    async def test_one_without_a_function_follows_what_others_do(self):
        async with QueryClient() as client:
            results = Results()
            with QueryObserver(client, KEY).subscribe(results):
                assert results == []
                await client.query(KEY, Upstream())
            assert results.of("fetch_status", "data") == [("fetching", None), ("idle", "new 1")]

    async def test_one_with_skip_counts_as_disabled(self):
        async with QueryClient() as client:
            upstream = Upstream()
            await client.query(KEY, upstream)
            with QueryObserver(client, KEY, skip) as observer:
                assert (observer.result.is_enabled, observer.result.is_stale) == (False, False)
                await client.invalidate_queries(KEY)
                assert upstream.calls == 1


class TestErrors:
    async def test_leaving_ends_the_retries(self):
        async with QueryClient() as client:
            upstream = Upstream(failures=9)
            with QueryObserver(client, KEY, upstream, retry_delay=10):
                await asyncio.sleep(15)
            await asyncio.sleep(100)
            assert upstream.calls == 2
            assert client.get_query_state(KEY).fetch_status == "idle"

    async def test_an_error_is_kept_beside_the_old_data_and_goes_with_the_next_success(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, "old")
            upstream = Upstream(failures=1)
            with QueryObserver(client, KEY, upstream, retry=0) as observer:
                await settled()
                result = observer.result
                assert (result.status, result.data, type(result.error)) == ("error", "old", ConnectionError)
                result = await observer.refetch()
                assert (result.status, result.data, result.error) == ("success", "new 2", None)

    async def test_an_error_of_the_former_key_is_not_shown_under_the_next(self):
        async with QueryClient() as client:
            with QueryObserver(client, KEY, failing, retry=0) as observer:
                await settled()
                assert observer.result.is_error
                observer.set_options(("other",), Gate())
                assert (observer.result.status, observer.result.error) == ("pending", None)

    async def test_S10_an_error_in_a_result_has_no_traceback(self):
        async with QueryClient() as client:
            with QueryObserver(client, KEY, failing, retry=0) as observer:
                await settled()
                assert observer.result.error.__traceback__ is None

    async def test_subscribing_again_to_fresh_data_does_not_fetch(self):
        async with QueryClient() as client:
            upstream, results = Upstream(), Results()
            observer = QueryObserver(client, KEY, upstream, stale_time=60)
            with observer.subscribe(Results()):
                await settled()
            with observer.subscribe(results):
                await settled()
                assert observer.result.data == "new 1"
            assert (upstream.calls, results) == (1, [])


class TestRefetch:
    async def test_it_ends_with_the_result(self):
        async with QueryClient() as client, client.observe(KEY, Upstream(), stale_time=9) as observation:
            await settled()
            assert (await observation.refetch()).data == "new 2"

    async def test_it_begins_a_running_background_fetch_anew_and_joins_a_first_load(self):
        async with QueryClient() as client:
            gate = Gate()
            with QueryObserver(client, KEY, gate) as observer:
                await settled()
                observer.refetch()
                await settled()
                assert (gate.calls, gate.cancelled) == (1, 0)
                await gate.answer("one")
                observer.refetch()
                await settled()
                observer.refetch()
                await settled()
                assert (gate.calls, gate.cancelled) == (3, 1)

    async def test_without_cancel_refetch_it_joins_a_running_fetch(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, "old")
            gate = Gate()
            with QueryObserver(client, KEY, gate) as observer:
                await settled()
                refetched = observer.refetch(cancel_refetch=False)
                await settled()
                await gate.answer("one")
                assert ((await refetched).data, gate.calls) == ("one", 1)

    async def test_trap_24_it_raises_the_error_only_if_told_so(self):
        async with QueryClient() as client:
            with QueryObserver(client, KEY, failing, enabled=False, retry=0) as observer:
                result = await observer.refetch()
                assert (result.is_error, type(result.error)) == (True, LookupError)
                with pytest.raises(LookupError):
                    await observer.refetch(throw_on_error=True)

    async def test_without_a_function_it_says_so(self):
        async with QueryClient() as client:
            with QueryObserver(client, KEY) as observer, pytest.raises(MissingQueryFunction):
                observer.refetch()

    async def test_it_uses_the_function_given_for_the_key_by_others(self):
        async with QueryClient() as client:
            await client.query(KEY, Upstream())
            with QueryObserver(client, KEY, stale_time=9) as observer:
                assert (await observer.refetch()).data == "new 2"

    async def test_it_works_on_one_that_nobody_subscribed_to(self):
        async with QueryClient() as client:
            observer = QueryObserver(client, KEY, Upstream())
            assert (await observer.refetch()).data == "new 1"
            assert (await observer.refetch()).data == "new 2"

    async def test_one_that_was_cancelled_ends_with_the_data_there_is(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, "old")
            with QueryObserver(client, KEY, Gate(), enabled=False) as observer:
                refetched = observer.refetch()
                await settled()
                client.cancel_queries(KEY)
                assert (await refetched).data == "old"
                client.remove_queries(KEY)
                refetched = observer.refetch(throw_on_error=True)
                await settled()
                client.cancel_queries(KEY)
                with pytest.raises(QueryCancelled):
                    await refetched


class TestClosing:
    async def test_after_close_every_use_says_so(self):
        async with QueryClient() as client:
            observer = QueryObserver(client, KEY, lambda: 1)
            observer.close()
            observer.close()
            uses = [
                lambda: observer.subscribe(Results()),
                lambda: observer.set_options(KEY),
                lambda: observer.refetch(),
                lambda: observer.result,
                lambda: observer.query,
                lambda: observer.__enter__(),
            ]
            for use in uses:
                with pytest.raises(ObserverClosed, match="was closed: make a new one"):
                    use()
            with pytest.raises(ObserverClosed):
                await observer.wait_for(lambda result: True)

    async def test_after_the_client_was_closed_every_use_says_so(self):
        client = QueryClient()
        observers = [QueryObserver(client, KEY, lambda: 1) for _ in range(2)]
        observers[0].subscribe(Results())
        await client.aclose()
        for observer in observers:
            with pytest.raises(ClientClosed):
                observer.subscribe(Results())
            with pytest.raises(ClientClosed):
                observer.refetch()
            with pytest.raises(ClientClosed):
                _ = observer.result
            observer.close()
            await observer.aclose()

    async def test_closing_leaves_the_query_and_tells_nobody_any_more(self):
        async with QueryClient() as client:
            results = Results()
            observer = QueryObserver(client, KEY)
            undo = observer.subscribe(results)
            observer.close()
            client.set_query_data(KEY, 1)
            assert results == []
            assert not client.cache.find(KEY).observers
            undo()

    async def test_a_refetch_that_is_awaited_after_closing_says_so(self):
        async with QueryClient() as client:
            observer = QueryObserver(client, KEY, lambda: 1)
            refetched = observer.refetch()
            observer.close()
            with pytest.raises(ObserverClosed):
                await refetched
            assert client.get_query_data(KEY) == 1


class TestOptionsValue:
    async def test_an_options_value_gives_key_function_options_and_select(self):
        async with QueryClient() as client:
            options = query_options(KEY, lambda: [2, 1], stale_time=9).select(sorted)
            with QueryObserver(client, options) as observer:
                await settled()
                assert (observer.result.data, observer.result.is_stale) == ([1, 2], False)
                assert client.get_query_data(KEY) == [2, 1]
