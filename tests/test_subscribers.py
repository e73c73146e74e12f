"""Those who are told of results: plain callbacks at once, async ones in a task of the client, one at a time."""

from __future__ import annotations

import asyncio
import threading

import pytest

from querykit import QueryClient, QueryObserver, WrongThread
from tests.fetches import Gate, Upstream, settled
from tests.observing import Results, exceptions

pytestmark = pytest.mark.virtual_time

KEY = ("pods", "prod")


class Slow:
    """An async callback whose calls each wait until the test lets them end."""

    def __init__(self):
        self.seen = []
        self.ended = 0
        self.running = 0
        self.cancelled = 0
        self.gate = Gate()

    async def __call__(self, result):
        self.running += 1
        assert self.running == 1, "it runs concurrently with itself"
        self.seen.append(result.data)
        try:
            await self.gate()
            self.ended += 1
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    async def release(self, outcome=None):
        await settled()
        await self.gate.answer(outcome)


class TestPlain:
    async def test_they_are_told_before_the_method_that_changes_something_returns(self):
        async with QueryClient() as client:
            results = Results()
            with QueryObserver(client, KEY).subscribe(results):
                client.set_query_data(KEY, 1)
                assert results.of("data") == [1]

    async def test_they_are_told_in_the_order_in_which_they_subscribed(self):
        async with QueryClient() as client:
            told = []
            observer = QueryObserver(client, KEY)
            for name in "abc":
                observer.subscribe(lambda result, name=name: told.append(name))
            client.set_query_data(KEY, 1)
            assert told == ["a", "b", "c"]
            observer.close()

    async def test_trap_27_one_that_raises_is_reported_and_disturbs_nobody(self, reported):
        async with QueryClient() as client:
            results = Results()
            observer = QueryObserver(client, KEY)
            with observer.subscribe(lambda result: 1 / 0), observer.subscribe(results):
                client.set_query_data(KEY, 1)
                client.set_query_data(KEY, 2)
            assert results.of("data") == [1, 2]
            told = reported.take()
            assert [type(each["exception"]) for each in told] == [ZeroDivisionError] * 2
            assert "a callback of an observer of ('pods', 'prod'): TestPlain" in told[0]["message"]

    async def test_one_that_raises_a_cancelled_error_is_reported_and_disturbs_nobody(self, reported):
        async with QueryClient() as client:
            results = Results()

            def raises(result):
                raise asyncio.CancelledError

            observer = QueryObserver(client, KEY)
            with observer.subscribe(raises), observer.subscribe(results):
                client.set_query_data(KEY, 1)
            assert results.of("data") == [1]
        assert exceptions(reported) == [asyncio.CancelledError]

    async def test_trap_27_one_that_unsubscribes_itself_while_it_is_told_skips_nobody(self):
        async with QueryClient() as client:
            told, undo = [], []
            observer = QueryObserver(client, KEY)
            undo.append(observer.subscribe(lambda result: (told.append("first"), undo[0]())))
            observer.subscribe(lambda result: told.append("second"))
            client.set_query_data(KEY, 1)
            client.set_query_data(KEY, 2)
            assert told == ["first", "second", "second"]
            observer.close()

    async def test_trap_27_one_that_is_unsubscribed_by_an_earlier_one_is_not_told_any_more(self):
        async with QueryClient() as client:
            results, undo = Results(), []
            observer = QueryObserver(client, KEY)
            observer.subscribe(lambda result: undo[0]())
            undo.append(observer.subscribe(results))
            client.set_query_data(KEY, 1)
            assert results == []
            observer.close()

    async def test_one_that_subscribes_while_others_are_told_hears_of_the_next_change(self):
        async with QueryClient() as client:
            results = Results()
            observer = QueryObserver(client, KEY)
            with observer.subscribe(lambda result: len(results) or observer.subscribe(results)):
                client.set_query_data(KEY, 1)
                assert results == []
            client.set_query_data(KEY, 2)
            assert results.of("data") == [2]
            observer.close()

    async def test_what_one_changes_is_told_after_everybody_heard_of_the_present_change(self):
        async with QueryClient() as client:
            told = []
            observer = QueryObserver(client, KEY)

            def first(result):
                told.append(("first", result.data))
                if result.data == 1:
                    client.set_query_data(KEY, 2)

            with observer.subscribe(first), observer.subscribe(lambda result: told.append(("second", result.data))):
                client.set_query_data(KEY, 1)
            assert told == [("first", 1), ("second", 1), ("first", 2), ("second", 2)]

    async def test_they_run_outside_of_every_record(self):
        async with QueryClient() as client:
            ledger = client.cache.ledger
            seen = []
            with QueryObserver(client, KEY).subscribe(lambda result: seen.append(ledger.carried())):

                async def fn():
                    client.set_query_data(KEY, 1)
                    return 2

                await client.query(("other",), fn)
            assert seen == [None]

    async def test_what_it_returns_is_of_no_meaning(self):
        async with QueryClient() as client:
            with QueryObserver(client, KEY).subscribe(lambda result: 42):
                client.set_query_data(KEY, 1)

    @pytest.mark.parametrize("callback", [None, 1, "name"], ids=str)
    async def test_what_cannot_be_called_is_refused(self, callback):
        async with QueryClient() as client:
            with pytest.raises(TypeError, match="a subscriber is a callable that takes the result, not"):
                QueryObserver(client, KEY).subscribe(callback)
            assert len(client.cache) == 0


class TestAsync:
    async def test_it_runs_in_a_task_that_the_client_owns(self):
        async with QueryClient() as client:
            names = []

            async def callback(result):
                await asyncio.sleep(0)  # an eager task gets its name when it waits
                names.append(asyncio.current_task().get_name())

            with QueryObserver(client, KEY).subscribe(callback):
                client.set_query_data(KEY, 1)
                await settled()
            assert names == ["querykit an observer of ('pods', 'prod')"]

    async def test_it_is_conflated_and_never_runs_concurrently_with_itself(self):
        async with QueryClient() as client:
            slow = Slow()
            with QueryObserver(client, KEY).subscribe(slow):
                for n in range(5):
                    client.set_query_data(KEY, n)
                await slow.release()
                assert slow.seen[-1] == 4
                assert len(slow.seen) == 2
                client.set_query_data(KEY, 5)
                await slow.release()
                await slow.release()
                assert (slow.seen[1:], slow.ended) == ([4, 5], 3)

    async def test_two_async_callbacks_do_not_wait_for_each_other(self):
        async with QueryClient() as client:
            slow, seen = Slow(), []

            async def quick(result):
                seen.append(result.data)

            observer = QueryObserver(client, KEY)
            with observer.subscribe(slow), observer.subscribe(quick):
                for n in range(3):
                    client.set_query_data(KEY, n)
                    await settled()
            await slow.release()
            assert (seen, slow.seen) == ([0, 1, 2], [0])

    async def test_one_that_raises_is_reported_and_told_of_the_next_change(self, reported):
        async with QueryClient() as client:
            slow = Slow()
            with QueryObserver(client, KEY).subscribe(slow):
                client.set_query_data(KEY, 1)
                await settled()
                client.set_query_data(KEY, 2)
                await slow.release(LookupError("no"))
                assert slow.seen == [1, 2]
                await slow.release()
            told = reported.take()
            assert [type(each["exception"]) for each in told] == [LookupError]
            assert "a callback of an observer of ('pods', 'prod')" in told[0]["message"]

    async def test_one_that_raises_a_cancelled_error_of_its_own_is_reported_and_goes_on(self, reported):
        async with QueryClient() as client:
            seen = []

            async def callback(result):
                seen.append(result.data)
                await asyncio.sleep(0)
                if len(seen) == 1:
                    raise asyncio.CancelledError

            with QueryObserver(client, KEY).subscribe(callback):
                client.set_query_data(KEY, 1)
                client.set_query_data(KEY, 2)
                await settled()
            assert seen[-1] == 2
        assert exceptions(reported) == [asyncio.CancelledError]

    async def test_one_that_is_unsubscribed_while_it_runs_ends_and_is_not_told_more(self):
        async with QueryClient() as client:
            slow = Slow()
            undo = QueryObserver(client, KEY).subscribe(slow)
            client.set_query_data(KEY, 1)
            await settled()
            client.set_query_data(KEY, 2)
            undo()
            await slow.release()
            assert (slow.seen, slow.ended) == ([1], 1)

    async def test_aclose_of_the_observer_waits_for_it(self):
        async with QueryClient() as client:
            slow = Slow()
            observer = QueryObserver(client, KEY)
            observer.subscribe(slow)
            client.set_query_data(KEY, 1)
            await settled()
            closing = asyncio.create_task(observer.aclose())
            await settled()
            assert not closing.done()
            await slow.release()
            await closing
            assert slow.ended == 1

    async def test_aclose_of_the_observer_from_within_it_does_not_wait_for_itself(self):
        async with QueryClient() as client:
            ended = []
            observer = QueryObserver(client, KEY)

            async def callback(result):
                await observer.aclose()
                ended.append(True)

            observer.subscribe(callback)
            client.set_query_data(KEY, 1)
            await settled()
            assert ended == [True]

    async def test_aclose_of_the_client_cancels_it_and_it_is_not_called_again(self):
        client = QueryClient()
        slow = Slow()
        QueryObserver(client, KEY).subscribe(slow)
        client.set_query_data(KEY, 1)
        await settled()
        client.set_query_data(KEY, 2)
        await client.aclose()
        assert (slow.seen, slow.cancelled) == ([1], 1)

    async def test_aclose_of_the_client_from_within_it_lets_it_end(self):
        client = QueryClient()
        ended = []

        async def callback(result):
            await client.aclose()
            ended.append(True)

        QueryObserver(client, KEY).subscribe(callback)
        client.set_query_data(KEY, 1)
        await settled()
        assert ended == [True]

    async def test_a_plain_callable_that_sometimes_returns_an_awaitable_is_awaited_then(self):
        async with QueryClient() as client:
            awaited = []

            async def work(data):
                await asyncio.sleep(0)
                awaited.append(data)

            with QueryObserver(client, KEY).subscribe(lambda result: work(result.data) if result.data % 2 else None):
                client.set_query_data(KEY, 1)
                client.set_query_data(KEY, 2)
                await settled()
                client.set_query_data(KEY, 3)
                await settled()
            assert awaited == [1, 3]

    async def test_one_that_changes_the_key_hears_of_it_when_it_has_ended(self):
        async with QueryClient() as client:
            seen = []

            async def callback(result):
                seen.append(result.data)
                if result.data < 3:
                    client.set_query_data(KEY, result.data + 1)
                await asyncio.sleep(0)

            with QueryObserver(client, KEY).subscribe(callback):
                client.set_query_data(KEY, 1)
                await settled()
            assert seen == [1, 2, 3]

    async def test_many_changes_leave_no_task_and_no_queue(self):
        async with QueryClient() as client:
            slow = Slow()
            with QueryObserver(client, KEY).subscribe(slow):
                before = len(asyncio.all_tasks())
                for n in range(1000):
                    client.set_query_data(KEY, n)
                assert len(asyncio.all_tasks()) <= before + 1
                await slow.release()
                await slow.release()
            assert slow.seen[-1] == 999


class TestThreads:
    async def test_unsubscribing_in_another_thread_is_refused_and_can_be_done_in_its_own(self):
        async with QueryClient() as client:
            observer = QueryObserver(client, KEY)
            undo = observer.subscribe(Results())
            for act in (undo, observer.close):
                with pytest.raises(WrongThread):
                    await asyncio.to_thread(act)
            assert observer.query.is_active
            undo()
            assert not observer.query.is_active

    async def test_subscribing_in_another_thread_is_refused(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, 1)
            with pytest.raises(WrongThread):
                await asyncio.to_thread(QueryObserver(client, KEY).subscribe, Results())

    async def test_the_result_can_be_read_in_any_thread(self):
        async with QueryClient() as client:
            with QueryObserver(client, KEY, Upstream()) as observer:
                await settled()
                read = []
                thread = threading.Thread(target=lambda: read.append(observer.result.data))
                thread.start()
                await asyncio.to_thread(thread.join)
                assert read == ["new 1"]

    def test_under_another_loop_what_has_ended_can_be_undone_and_closed_again(self):
        held = []

        async def first():
            async with QueryClient() as client:
                held.append(QueryObserver(client, KEY))
                held.append(held[0].subscribe(Results()))

        async def second():
            held[1]()
            held[0].close()
            await held[0].aclose()

        asyncio.run(first())
        asyncio.run(second())

    def test_without_a_running_loop_nobody_can_subscribe(self):
        client = QueryClient()
        with pytest.raises(RuntimeError, match="needs a running event loop"):
            QueryObserver(client, KEY).subscribe(Results())
        assert len(client.cache) == 0
