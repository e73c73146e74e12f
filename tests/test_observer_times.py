"""What an observer does later: data becomes stale, intervals fetch again; one timer of the loop for all of it."""

from __future__ import annotations

import asyncio
import math
from datetime import timedelta

import pytest

from querykit import QueryClient, QueryObserver
from tests.conftest import timers_left
from tests.fetches import Gate, Upstream, settled
from tests.observing import Results, exceptions, now

pytestmark = pytest.mark.virtual_time

KEY = ("pods", "prod")


class TestBecomingStale:
    async def test_it_is_told_at_the_very_time_and_never_before(self):
        async with QueryClient() as client:
            told = []
            client.set_query_data(KEY, 1)
            observer = QueryObserver(client, KEY, stale_time=10)
            with observer.subscribe(lambda result: told.append((now(), result.is_stale))):
                await asyncio.sleep(9.999)
                assert (told, observer.result.is_stale) == ([], False)
                await asyncio.sleep(1)
            assert told == [(10, True)]

    async def test_it_counts_from_when_the_data_was_current(self):
        async with QueryClient() as client:
            told = []
            client.set_query_data(KEY, 1, age=4)
            with QueryObserver(client, KEY, stale_time=10).subscribe(lambda result: told.append(now())):
                await asyncio.sleep(20)
            assert told == [6]

    async def test_newer_data_puts_it_off(self):
        async with QueryClient() as client:
            told = []
            client.set_query_data(KEY, 1)
            observer = QueryObserver(client, KEY, stale_time=10, notify_on=["is_stale"])
            with observer.subscribe(lambda result: told.append((now(), result.is_stale))):
                for n in range(5):
                    await asyncio.sleep(5)
                    client.set_query_data(KEY, n)
                await asyncio.sleep(20)
            assert told == [(35, True)]

    async def test_older_data_brings_it_forward(self):
        async with QueryClient() as client:
            told = []
            client.set_query_data(KEY, 1)
            observer = QueryObserver(client, KEY, stale_time=10, notify_on=["is_stale"])
            with observer.subscribe(lambda result: told.append(now())):
                client.set_query_data(KEY, 2, age=7)
                await asyncio.sleep(20)
            assert told == [3]

    async def test_a_shorter_time_by_set_options_brings_it_forward(self):
        async with QueryClient() as client:
            told = []
            client.set_query_data(KEY, 1)
            observer = QueryObserver(client, KEY, stale_time=100)
            with observer.subscribe(lambda result: told.append(now())):
                observer.set_options(KEY, stale_time=3)
                await asyncio.sleep(20)
            assert told == [3]

    @pytest.mark.parametrize("option", [math.inf, "static", 0], ids=str)
    async def test_what_never_or_always_is_stale_sets_no_timer(self, option):
        async with QueryClient() as client:
            client.set_query_data(KEY, 1)
            with QueryObserver(client, KEY, stale_time=option) as observer:
                assert len(client.core.timetable) == 0
                assert observer.result.is_stale is (option == 0)

    async def test_a_disabled_observer_sets_no_timer(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, 1)
            with QueryObserver(client, KEY, stale_time=10, enabled=False):
                assert len(client.core.timetable) == 0

    async def test_reading_the_result_at_that_moment_does_not_swallow_the_news(self):
        async with QueryClient() as client:
            results = Results()
            client.set_query_data(KEY, 1)
            observer = QueryObserver(client, KEY, stale_time=10)
            client.core.timetable.at(10, lambda: observer.result)
            with observer.subscribe(results):
                await asyncio.sleep(11)
            assert results.of("is_stale") == [True]

    async def test_what_becomes_stale_is_not_fetched_by_that_alone(self):
        async with QueryClient() as client:
            upstream = Upstream()
            with QueryObserver(client, KEY, upstream, stale_time=10):
                await asyncio.sleep(100)
            assert upstream.calls == 1

    async def test_a_sum_that_is_rounded_down_leaves_no_observer_fresh_for_ever(self):
        async with QueryClient() as client:
            for n in range(1, 200):
                await asyncio.sleep(0.1)
                client.set_query_data((n,), n)
                observer = QueryObserver(client, (n,), stale_time=0.1 * n)
                observer.subscribe(results := Results())
                await asyncio.sleep(0.1 * n + 0.001)
                assert results.of("is_stale") == [True], n

    async def test_it_goes_by_what_the_response_said(self):
        async with QueryClient() as client:

            def fn(context):
                context.stale_time = 7
                return 1

            with QueryObserver(client, KEY, fn, stale_time="http", notify_on=["is_stale"]).subscribe(Results()) as _:
                await settled()
                assert len(client.core.timetable) == 1
                await asyncio.sleep(6.9)
                assert not client.cache.find(KEY).is_stale(now())
                await asyncio.sleep(0.1)
                assert client.cache.find(KEY).is_stale(now())


class TestOneTimer:
    async def test_many_observers_share_one_timer_of_the_loop(self):
        async with QueryClient() as client:
            before = len(timers_left(asyncio.get_running_loop()))
            for n in range(50):
                client.set_query_data((n,), n)
                QueryObserver(client, (n,), stale_time=10 + n, refetch_interval=60).subscribe(Results())
            assert len(client.core.timetable) == 100
            assert len(timers_left(asyncio.get_running_loop())) - before <= 2  # the other one is gc's

    @pytest.mark.parametrize("how", ["unsubscribe", "close", "client"])
    async def test_no_timer_is_left_when_nobody_observes(self, how):
        client = QueryClient()
        client.set_query_data(KEY, 1, age=1)
        observer = QueryObserver(client, KEY, stale_time=10, refetch_interval=5)
        undo = observer.subscribe(Results())
        assert len(client.core.timetable) == 2
        if how == "unsubscribe":
            undo()
        elif how == "close":
            observer.close()
        else:
            await client.aclose()
        assert len(client.core.timetable) == 0
        await client.aclose()

    async def test_a_callback_that_closes_the_next_observer_to_be_told_keeps_it_from_being_told(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, 1)
            results = Results()
            one, other = (QueryObserver(client, KEY, stale_time=10) for _ in range(2))
            one.subscribe(lambda result: other.close())
            other.subscribe(results)
            await asyncio.sleep(11)
            assert results == []
            assert len(client.core.timetable) == 0


class TestInterval:
    @pytest.mark.parametrize("option", [10, timedelta(seconds=10), lambda query: 10], ids=["s", "timedelta", "rule"])
    async def test_it_fetches_fresh_data_too_each_so_many_seconds(self, option):
        async with QueryClient() as client:
            upstream = Upstream()
            with QueryObserver(client, KEY, upstream, stale_time=math.inf, refetch_interval=option):
                await asyncio.sleep(35)
            assert upstream.calls == 1 + 3

    @pytest.mark.parametrize(
        "option", [None, False, math.inf, lambda query: None], ids=["None", "False", "inf", "rule"]
    )
    async def test_without_one_nothing_is_fetched_later(self, option):
        async with QueryClient() as client:
            upstream = Upstream()
            with QueryObserver(client, KEY, upstream, refetch_interval=option):
                await asyncio.sleep(1000)
            assert upstream.calls == 1

    async def test_it_begins_when_somebody_subscribes_and_ends_when_all_have_left(self):
        async with QueryClient() as client:
            upstream = Upstream()
            observer = QueryObserver(client, KEY, upstream, refetch_interval=10)
            await asyncio.sleep(100)
            with observer.subscribe(Results()):
                await asyncio.sleep(15)
            await asyncio.sleep(100)
            assert upstream.calls == 2

    async def test_a_rule_can_stop_it_by_what_has_come(self):
        async with QueryClient() as client:
            upstream = Upstream()
            rule = lambda query: None if query.state.data == "new 3" else 10  # noqa: E731
            with QueryObserver(client, KEY, upstream, refetch_interval=rule):
                await asyncio.sleep(100)
            assert upstream.calls == 3

    async def test_a_rule_can_start_it_again(self):
        async with QueryClient() as client:
            upstream = Upstream()
            rule = lambda query: 10 if query.state.data == "go" else None  # noqa: E731
            with QueryObserver(client, KEY, upstream, stale_time=math.inf, refetch_interval=rule):
                await asyncio.sleep(50)
                client.set_query_data(KEY, "go")
                await asyncio.sleep(50)
            assert upstream.calls == 2

    async def test_a_rule_that_raises_is_reported_and_means_none(self, reported):
        async with QueryClient() as client:
            upstream = Upstream()
            with QueryObserver(client, KEY, upstream, refetch_interval=lambda query: 1 / 0):
                await asyncio.sleep(50)
            assert upstream.calls == 1
        assert set(exceptions(reported)) == {ZeroDivisionError}

    async def test_a_rule_that_returns_a_negative_interval_is_reported_and_means_none(self, reported):
        async with QueryClient() as client:
            upstream = Upstream()
            with QueryObserver(client, KEY, upstream, refetch_interval=lambda query: -1):
                await asyncio.sleep(50)
            assert upstream.calls == 1
        assert set(exceptions(reported)) == {ValueError}

    async def test_a_rule_that_closes_its_own_observer_leaves_no_timer(self):
        async with QueryClient() as client:

            def closes(query):
                observer.close()
                return 10

            observer = QueryObserver(client, KEY, refetch_interval=closes)
            observer.subscribe(Results())
            assert len(client.core.timetable) == 0

    async def test_another_one_by_set_options_counts_from_then(self):
        async with QueryClient() as client:
            begun = []
            observer = QueryObserver(client, KEY, lambda: begun.append(now()), refetch_interval=10)
            with observer:
                await asyncio.sleep(5)
                observer.set_options(KEY, lambda: begun.append(now()), refetch_interval=7)
                await asyncio.sleep(15)
            assert begun == [0, 12, 19]

    async def test_the_same_one_by_set_options_goes_on(self):
        async with QueryClient() as client:
            begun = []
            observer = QueryObserver(client, KEY, lambda: begun.append(now()), refetch_interval=10)
            with observer:
                await asyncio.sleep(5)
                observer.set_options(KEY, lambda: begun.append(now()), refetch_interval=10)
                await asyncio.sleep(10)
            assert begun == [0, 10]

    async def test_another_key_makes_it_begin_again(self):
        async with QueryClient() as client:
            begun = []
            with QueryObserver(client, KEY, lambda: begun.append(now()), refetch_interval=10) as observer:
                await asyncio.sleep(5)
                observer.set_options(("other",), lambda: begun.append(now()), refetch_interval=10)
                await asyncio.sleep(11)
            assert begun == [0, 5, 15]

    async def test_it_joins_a_fetch_that_runs(self):
        async with QueryClient() as client:
            gate = Gate()
            with QueryObserver(client, KEY, gate, refetch_interval=10):
                await asyncio.sleep(35)
                assert (gate.calls, gate.cancelled) == (1, 0)

    async def test_a_disabled_observer_has_none(self):
        async with QueryClient() as client:
            upstream = Upstream()
            with QueryObserver(client, KEY, upstream, refetch_interval=10, enabled=False) as observer:
                await asyncio.sleep(50)
                assert upstream.calls == 0
                observer.set_options(KEY, upstream, refetch_interval=10)
                await asyncio.sleep(15)
            assert upstream.calls == 2

    async def test_several_observers_have_each_their_own(self):
        async with QueryClient() as client:
            upstream = Upstream()
            with (
                QueryObserver(client, KEY, upstream, refetch_interval=10),
                QueryObserver(client, KEY, upstream, refetch_interval=15),
            ):
                await asyncio.sleep(31)
            assert upstream.calls == 1 + 3 + 2 - 1  # at 30 both are due, and one fetch serves both

    async def test_after_a_failure_it_goes_on(self):
        async with QueryClient() as client:
            upstream = Upstream(failures=1)
            with QueryObserver(client, KEY, upstream, retry=0, refetch_interval=10) as observer:
                await asyncio.sleep(15)
                assert observer.result.data == "new 2"

    async def test_it_waits_while_nobody_looks(self):
        async with QueryClient() as client:
            upstream = Upstream()
            with QueryObserver(client, KEY, upstream, stale_time=math.inf, refetch_interval=10):
                await settled()
                client.focus.set(False)
                await asyncio.sleep(50)
                assert upstream.calls == 1
                client.focus.set(True)
                await asyncio.sleep(11)
                assert upstream.calls == 2

    async def test_in_background_it_goes_on_while_nobody_looks(self):
        async with QueryClient() as client:
            upstream = Upstream()
            client.focus.set(False)
            with QueryObserver(client, KEY, upstream, refetch_interval=10, refetch_interval_in_background=True):
                await asyncio.sleep(35)
            assert upstream.calls == 4

    @pytest.mark.parametrize(("mode", "calls"), [("online", 1), ("always", 4)])
    async def test_it_waits_while_offline_unless_the_network_does_not_matter(self, mode, calls):
        async with QueryClient() as client:
            upstream = Upstream()
            with QueryObserver(client, KEY, upstream, refetch_interval=10, network_mode=mode):
                await settled()
                client.online.set(False)
                await asyncio.sleep(35)
                assert upstream.calls == calls

    async def test_trap_29_a_server_polls_too(self):
        async with QueryClient() as client:
            upstream = Upstream()
            async with client.observe(KEY, upstream, refetch_interval=1):
                await asyncio.sleep(10.5)
            assert upstream.calls == 11
