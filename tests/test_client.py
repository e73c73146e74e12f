"""The client's face: options, reading and writing, prefetch, and S4, S6 to S10 and S12 as its users meet them."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import math
import threading
import weakref
from datetime import timedelta

import pytest
from blinker import Signal

from querykit import (
    ApiError,
    ClientClosed,
    MissingQueryFunction,
    QueryCancelled,
    QueryClient,
    QueryTimeout,
    WrongThread,
    query_options,
    skip,
)
from tests.fetches import Gate, Upstream, settled

pytestmark = pytest.mark.virtual_time

KEY = ("pods", "prod")


def now():
    return asyncio.get_running_loop().time()


class TestQuery:
    async def test_S4_the_age_decides_and_its_boundary_is_stale(self):
        async with QueryClient() as client:
            upstream = Upstream()
            for expected, after in (("new 1", 0), ("new 1", 29.9), ("new 2", 0.1), ("new 2", 29)):
                await asyncio.sleep(after)
                assert await client.query(KEY, upstream, stale_time=30) == expected
            assert (client.stats().hits, client.stats().misses) == (2, 2)

    @pytest.mark.parametrize(("stale_time", "calls"), [(math.inf, 1), ("static", 1), (timedelta(hours=1), 1), (0, 2)])
    async def test_S4_stale_times_of_every_kind(self, stale_time, calls):
        async with QueryClient() as client:
            upstream = Upstream()
            await client.query(KEY, upstream, stale_time=stale_time)
            await asyncio.sleep(100)
            await client.query(KEY, upstream, stale_time=stale_time)
            assert upstream.calls == calls

    async def test_S4_http_is_what_the_transport_learned(self):
        async with QueryClient() as client:
            calls = []

            async def fn(ctx):
                calls.append(now())
                ctx.stale_time = 60
                return "me"

            for _ in range(4):
                await client.query(KEY, fn, stale_time="http")
                await asyncio.sleep(40)
            assert calls == [0, 80]

    async def test_swr_returns_stale_data_and_refreshes_behind(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, "old", age=100)
            assert await client.query(KEY, Upstream(), swr=True, stale_time=1) == "old"
            await settled()
            assert client.get_query_data(KEY) == "new 1"
            assert await client.query(("new",), Upstream(), swr=True) == "new 1"

    async def test_swr_inside_its_own_fetch_refreshes_nothing(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, "old", age=100)

            async def fn():
                return [await client.query(KEY, fn, swr=True)]

            assert await client.query(KEY, fn) == ["old"]
            assert client.stats().fetches == 1

    @pytest.mark.parametrize(
        ("limit", "answer"), [(100, "old"), (timedelta(seconds=99), LookupError), (None, LookupError)]
    )
    async def test_stale_if_error_gives_old_data_up_to_an_age(self, limit, answer):
        async with QueryClient() as client:
            client.set_query_data(KEY, "old", age=100)
            upstream = Upstream()
            upstream.error = LookupError("no")
            if answer is LookupError:
                with pytest.raises(LookupError):
                    await client.query(KEY, upstream, stale_if_error=limit)
            else:
                assert await client.query(KEY, upstream, stale_if_error=limit) == answer
            assert client.get_query_state(KEY).status == "error"
            with pytest.raises(LookupError):
                await client.query(("none",), upstream, stale_if_error=100)

    async def test_stale_if_error_does_not_turn_a_cancellation_into_data(self):
        async with QueryClient() as client:
            caller = asyncio.create_task(client.query(KEY, Gate(), stale_if_error=9))
            await settled()
            client.remove_queries(KEY)
            with pytest.raises(QueryCancelled):
                await caller

    async def test_initial_data_is_in_the_cache_from_its_beginning(self):
        async with QueryClient() as client:
            upstream = Upstream()
            made = []
            options = {"initial_data": lambda: made.append(1) or "initial", "initial_data_age": 40}
            assert await client.query(KEY, upstream, stale_time=50, **options) == "initial"
            assert await client.query(KEY, upstream, stale_time=30, **options) == "new 1"
            assert made == [1]
            assert await client.query(("plain",), initial_data=None, stale_time=1) is None

    async def test_initial_data_that_raises_leaves_no_entry(self):
        async with QueryClient() as client:

            def breaks():
                raise LookupError("no")

            with pytest.raises(LookupError):
                await client.query(KEY, lambda: 1, initial_data=breaks)
            assert len(client.cache) == 0

    async def test_initial_data_may_use_the_client(self):
        async with QueryClient() as client:

            def initial():
                client.set_query_data(KEY, "from within")
                return "initial"

            assert await client.query(KEY, lambda: 1, initial_data=initial, stale_time=9) == "from within"

    async def test_S10_the_timeout_covers_all_retries(self):
        async with QueryClient(jitter=lambda longest: longest) as client:
            with pytest.raises(QueryTimeout, match="10 s"):
                await client.query(KEY, Upstream(failures=99), timeout=10, retry=99)
            assert now() == 10
            assert isinstance(client.get_query_state(KEY).error, TimeoutError)
            assert await client.query(KEY, Upstream(), timeout=math.inf) == "new 1"

    async def test_S10_a_timeout_of_the_function_itself_is_its_own(self):
        async with QueryClient() as client:

            async def fn():
                raise TimeoutError("mine")

            with pytest.raises(TimeoutError, match="mine"):
                await client.query(KEY, fn, retry=0, timeout=5)

    async def test_S9_retries_by_default_as_imperative_calls_and_observers_share(self):
        async with QueryClient() as client:
            upstream = Upstream(failures=3)
            assert await client.query(KEY, upstream) == "new 4"
            other = Upstream(failures=99)
            async with client.observe(("o",), other) as results:
                async for result in results:
                    if result.is_error:
                        break
            assert other.calls == 4

    @pytest.mark.parametrize(("error", "calls"), [(ApiError("", status=503), 2), (ApiError("", status=404), 1)])
    async def test_S9_only_transient_errors_are_retried(self, error, calls):
        async with QueryClient() as client:
            seen = []

            async def fn():
                seen.append(1)
                raise error

            with pytest.raises(ApiError):
                await client.query(KEY, fn, retry=1)
            assert len(seen) == calls

    async def test_S10_a_kept_error_holds_no_request(self):
        async with QueryClient() as client:

            class Response(Exception):
                def __init__(self):
                    super().__init__("no")
                    self.request_info = {"Authorization": "Bearer secret"}

            async def fn():
                raise ApiError("no", status=404) from Response()

            with pytest.raises(ApiError):
                await client.query(KEY, fn)
            error = client.get_query_state(KEY).error
            assert error.__traceback__ is None
            assert "secret" not in repr(vars(error.__cause__))

    async def test_meta_tags_and_structural_sharing(self):
        async with QueryClient() as client:
            seen = []

            def fn(ctx):
                seen.append((ctx.meta, ctx.query_key, ctx.client is client, repr(ctx)))
                return {"deep": [1]}

            first = await client.query(KEY, fn, meta={"n": 1}, tags=["t"])
            assert seen == [({"n": 1}, KEY, True, "<QueryContext of ('pods', 'prod')>")]
            assert await client.query(KEY, fn, tags=["u"]) is first
            assert await client.query(KEY, fn, structural_sharing=False) is not first
            assert client.cache.find(KEY).tags == {"t", "u"}
            client.remove_queries(tags=["t"])
            assert len(client.cache) == 0

    async def test_structural_sharing_of_what_is_set_by_hand_follows_the_keys_options(self):
        async with QueryClient() as client:
            client.set_query_defaults(("raw",), structural_sharing=False)
            for key, shared in ((("raw",), False), (("pods",), True)):
                first, second = {"a": [1]}, {"a": [1]}
                client.set_query_data(key, first)
                client.set_query_data(key, second)
                assert (client.get_query_data(key) is first) is shared

    async def test_options_as_one_value_with_select(self):
        async with QueryClient() as client:
            options = query_options(KEY, lambda: ["b", "a"], stale_time=30)
            assert await client.query(options) == ["b", "a"]
            assert await client.query(options.select(sorted).select(tuple)) == ("a", "b")
            assert client.get_query_data(options) == ["b", "a"]
            assert client.get_query_state(options).has_data
            client.set_query_data(options, ["c"])
            assert client.get_query_data(KEY) == ["c"]
            await client.prefetch(options, stale_time=9)
            with pytest.raises(TypeError, match=r"options\.key"):
                await client.query(options, lambda: 1)

    async def test_defaults_by_prefix_the_function_too(self):
        async with QueryClient(default_options={"queries": {"stale_time": 5, "fn": lambda: "base"}}) as client:
            assert await client.query(("any",)) == "base"
            client.set_query_defaults(("pods",), stale_time=30, fn=lambda ctx: ctx.query_key[1])
            assert await client.query(KEY) == "prod"
            await asyncio.sleep(10)
            client.set_query_defaults(("pods", "prod"), fn=lambda: "narrow")
            assert await client.query(KEY) == "prod"
            assert await client.query(KEY, stale_time=1) == "narrow"
            assert set(client.get_query_defaults(KEY)) == {"stale_time", "fn"}

    async def test_skip_gives_what_there_is(self):
        async with QueryClient() as client:
            with pytest.raises(MissingQueryFunction, match="skip"):
                await client.query(KEY, skip)
            client.set_query_data(KEY, "old", age=100)
            assert await client.query(KEY, skip) == "old"
            await client.prefetch(KEY, skip)
            with pytest.raises(MissingQueryFunction, match="no query function"):
                await client.query(KEY)
            assert client.stats().fetches == 0

    async def test_without_a_function_the_one_given_before_is_used(self):
        async with QueryClient() as client:
            upstream = Upstream()
            await client.query(KEY, upstream)
            assert await client.query(KEY) == "new 2"
            await client.prefetch(KEY)
            assert upstream.calls == 3

    async def test_a_missing_function_beside_stale_initial_data(self):
        async with QueryClient() as client:
            with pytest.raises(MissingQueryFunction):
                await client.query(KEY, initial_data=1)
            with pytest.raises(MissingQueryFunction):
                client.prefetch(("other",), initial_data=1)
            await asyncio.sleep(400)
            assert len(client.cache) == 0


class TestPrefetch:
    async def test_it_begins_at_the_call_and_raises_nothing(self):
        async with QueryClient() as client:
            failing = Upstream()
            failing.error = LookupError("no")
            first = client.prefetch(KEY, failing)
            assert client.is_fetching() == 1
            assert await first is None
            assert client.get_query_state(KEY).status == "error"

    async def test_it_is_a_coroutine_for_create_task_and_a_task_group(self):
        async with QueryClient() as client:
            gate = Gate()
            async with asyncio.TaskGroup() as group:
                tasks = [
                    asyncio.create_task(client.prefetch(("a",), gate)),
                    group.create_task(client.prefetch(("b",), gate)),
                ]
                await settled()
                assert not tasks[0].done()
                await gate.answer(1, 0)
                await gate.answer(1, 1)
            assert all(task.done() for task in tasks)

    async def test_it_may_be_awaited_twice_closed_and_thrown_into(self):
        async with QueryClient() as client:
            pending = client.prefetch(KEY, lambda: 1)
            await pending
            await pending
            pending.close()
            with pytest.raises(StopIteration):
                client.prefetch(KEY, lambda: 1, stale_time=9).send(None)
            waiting = client.prefetch(("b",), Gate())
            waiting.send(None)
            with pytest.raises(LookupError):
                waiting.throw(LookupError)
            other = client.prefetch(("b",), Gate())
            with pytest.raises(LookupError, match="why"):
                other.throw(LookupError, LookupError("why"), None)
            started = client.prefetch(("b",), Gate())
            started.send(None)
            started.close()

    async def test_unawaited_it_warns_of_nothing_and_loses_no_error(self):
        async with QueryClient() as client:
            client.prefetch(KEY, Upstream())
            client.prefetch(KEY, Upstream())
            gc.collect()
            await settled()
            assert client.get_query_data(KEY) == "new 1"
            assert client.stats().fetches == 1

    async def test_fresh_data_is_not_fetched(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, 1)
            await client.prefetch(KEY, lambda: 2, stale_time=10)
            assert client.stats().fetches == 0

    async def test_throw_on_error_is_asked_for(self):
        async with QueryClient() as client:
            upstream = Upstream()
            await client.query(KEY, upstream)
            upstream.error = LookupError("no")
            await client.refetch_queries(KEY)
            with pytest.raises(LookupError):
                await client.refetch_queries(KEY, throw_on_error=True)
            with pytest.raises(LookupError):
                await client.invalidate_queries(KEY, refetch_type="all", throw_on_error=True)


class TestReadingAndWriting:
    async def test_updaters_get_the_data_and_are_not_called_without(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, lambda old: old + 1)
            assert len(client.cache) == 0
            client.set_query_data(KEY, 1)
            client.set_query_data(KEY, lambda old: old + 1, age=timedelta(seconds=5))
            assert client.get_query_data(KEY) == 2
            assert client.get_query_state(KEY).data_updated_at == now() - 5
            for nothing in (skip, lambda old: skip):
                client.set_query_data(KEY, nothing)
            assert client.get_query_state(KEY).data_update_count == 2
            with pytest.raises(ZeroDivisionError):
                client.set_query_data(KEY, lambda old: old / 0)
            assert client.get_query_data(KEY) == 2

    async def test_many_at_once(self):
        async with QueryClient() as client:
            for name in "ab":
                client.set_query_data(("pods", name), 1)
            client.prefetch(("pods", "none"), Gate())
            client.set_queries_data(("pods",), updater=lambda old: old + 1)
            assert sorted(client.get_queries_data(("pods",))) == [(("pods", "a"), 2), (("pods", "b"), 2)]
            client.set_queries_data(("pods", "a"), exact=True, updater="plain", age=1)
            assert client.get_query_data(("pods", "a")) == "plain"

    async def test_an_updater_may_remove_the_others(self):
        async with QueryClient() as client:
            for name in "ab":
                client.set_query_data(("pods", name), 1)

            def updater(old):
                client.remove_queries(("pods", "b"))
                return old + 1

            client.set_queries_data(("pods",), updater=updater)
            assert client.get_queries_data() == [(("pods", "a"), 2)]

    async def test_a_state_is_a_snapshot(self):
        async with QueryClient() as client:
            assert client.get_query_state(KEY) is None
            client.set_query_data(KEY, 1)
            state = client.get_query_state(KEY)
            client.set_query_data(KEY, 2)
            assert (state.data, state.data_update_count) == (1, 1)
            assert state.error_updated_at is None
            assert [query.key for query in client.cache] == [KEY]
            assert repr(client) == "<QueryClient of 1 queries, open>"

    async def test_stats_count(self):
        async with QueryClient(max_entries=2) as client:
            failing = Upstream()
            failing.error = LookupError()
            for name in range(4):
                client.set_query_data(("n", name), 1)
            await client.query(("n", 3), lambda: 1, stale_time=1)
            await client.prefetch(("f",), failing)
            stats = client.stats()
            assert (stats.hits, stats.misses, stats.fetches, stats.failures) == (1, 0, 1, 1)
            assert (stats.evictions, stats.entries) == (3, 2)


class Part:
    """A key part that counts how often it is hashed and compared."""

    used = 0

    def __init__(self, name):
        self.name = name

    def __hash__(self):
        Part.used += 1
        return hash(self.name)

    def __eq__(self, other):
        Part.used += 1
        return isinstance(other, Part) and self.name == other.name


class TestCost:
    @pytest.mark.parametrize("size", [10, 2000])
    @pytest.mark.parametrize("act", ["invalidate_queries", "remove_queries", "cancel_queries", "refetch_queries"])
    async def test_S6_an_exact_filter_costs_the_same_at_any_size(self, size, act):
        async with QueryClient() as client:
            for name in range(size):
                client.set_query_data(("k", Part(name)), name)
            key = ("k", Part(5))
            Part.used = 0
            getattr(client, act)(key, exact=True)
            assert Part.used <= 12

    @pytest.mark.parametrize("size", [10, 2000])
    async def test_S6_prefix_and_tag_filters_cost_what_matches(self, size):
        async with QueryClient() as client:
            for name in range(size):
                client.set_query_data((Part("many"), Part(name)), name)
            await client.query((Part("few"), 1), lambda: 1, tags=["t"])
            Part.used = 0
            client.invalidate_queries((Part("few"),))
            client.invalidate_queries(tags=["t"])
            client.invalidate_queries((Part("none"),), stale=True)
            assert Part.used <= 20


class TestBound:
    async def test_S7_unused_entries_are_bounded_and_the_oldest_go(self):
        async with QueryClient(max_entries=3) as client:
            for name in range(5):
                client.set_query_data(("n", name), name)
            assert [key for key, _ in client.get_queries_data()] == [("n", 2), ("n", 3), ("n", 4)]
            assert client.stats().evictions == 2

    async def test_S7_one_that_was_used_has_a_second_chance(self):
        async with QueryClient(max_entries=2) as client:
            client.set_query_data(("a",), 1)
            client.set_query_data(("b",), 1)
            await client.query(("a",), stale_time=9)
            client.set_query_data(("c",), 1)
            assert [key for key, _ in client.get_queries_data()] == [("a",), ("c",)]

    async def test_S7_observed_and_fetching_ones_are_never_evicted(self):
        async with QueryClient(max_entries=1) as client, client.observe(("seen",), lambda: 1):
            client.prefetch(("busy",), Gate())
            for name in range(9):
                client.set_query_data(("n", name), name)
            assert client.get_query_state(("busy",)).fetch_status == "fetching"
            assert client.get_query_state(("seen",)) is not None
            assert len(client.cache) == 3


class TestTelling:
    async def test_S8_a_change_during_delivery_is_applied_at_once_and_told_in_order(self):
        async with QueryClient() as client:
            heard = []

            def first(event):
                heard.append(("first", event.kind, event.query.key))
                if event.kind == "updated" and event.query.key == ("a",):
                    client.set_query_data(("b",), 1)
                    assert client.get_query_data(("b",)) == 1

            client.cache.subscribe(first)
            client.cache.subscribe(lambda event: heard.append(("second", event.kind, event.query.key)))
            client.set_query_data(("a",), 1)
            kinds = [("added", ("a",)), ("updated", ("a",)), ("added", ("b",)), ("updated", ("b",))]
            assert heard == [(who, *what) for what in kinds for who in ("first", "second")]

    async def test_S8_the_causes_of_a_fetch(self):
        async with QueryClient() as client:
            causes = []
            with client.cache.subscribe(lambda event: causes.append(str(event.cause))):
                await client.query(KEY, Upstream(failures=1), retry_delay=0)
                client.invalidate_queries(KEY)
                client.reset_queries(KEY)
                client.remove_queries(KEY)
            client.set_query_data(KEY, 1)
            assert causes == ["create", "fetch", "failure", "success", "invalidate", "reset", "remove"]

    async def test_S8_errors_without_a_caller_go_to_the_clients_report(self):
        told = []
        async with QueryClient(report=lambda message, error: told.append((message, error))) as client:
            client.cache.subscribe(lambda event: 1 / 0)
            client.set_query_data(KEY, 1)
        assert len(told) == 2
        assert repr(KEY) in told[0][0]


class TestLife:
    def test_S12_what_is_set_before_a_loop_runs_has_an_age_and_is_stamped_then(self):
        client = QueryClient()
        client.set_query_data(KEY, "early", age=20)
        client.set_query_data(("gone",), 1)

        async def main():
            async with client:
                loop = asyncio.get_running_loop()
                age = loop.time() - client.get_query_state(KEY).data_updated_at
                assert 20 <= age < 25
                assert await client.query(KEY, Upstream(), stale_time=30) == "early"
                assert await client.query(KEY, Upstream(), stale_time=19) == "new 1"

        asyncio.run(main())

    def test_S12_without_a_loop_nothing_can_be_fetched_and_nothing_changes(self):
        client = QueryClient()
        for act in (client.prefetch, client.observe):
            with pytest.raises(RuntimeError, match="event loop"):
                thing = act(KEY, lambda: 1)
                thing.__aiter__()
        assert len(client.cache) == 0
        client.invalidate_queries()

    def test_S12_after_its_loop_was_closed_nothing_can_be_fetched_and_reads_go_on(self):
        client = QueryClient()

        async def main():
            await client.query(KEY, lambda: 1, gc_time=math.inf)
            observation = client.observe(KEY, lambda: 1, stale_time=9)
            await observation.__aenter__()
            return observation

        observation = asyncio.run(main())
        with pytest.raises(RuntimeError, match="event loop"):
            client.prefetch(KEY, lambda: 2)
        with pytest.raises(RuntimeError, match="event loop"):
            client.refetch_queries(KEY)
        assert client.get_query_state(KEY).fetch_status == "idle"
        client.set_query_data(("late",), 1)
        assert client.get_query_data(("late",)) == 1
        del observation
        gc.collect()

    def test_S12_two_clients_on_two_loops_in_two_threads_do_not_meet(self):
        answers = {}

        def run(name):
            async def main():
                async with QueryClient() as client:
                    for n in range(20):
                        await client.query(KEY, lambda: name)
                        client.invalidate_queries()
                        assert client.get_query_data(KEY) == name, n
                    answers[name] = client.stats().fetches

            asyncio.run(main())

        threads = [threading.Thread(target=run, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == {"a": 20, "b": 20}

    async def test_S12_another_thread_or_loop_is_told_of_the_portal_and_changes_nothing(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, 1)

            def in_a_thread():
                for act in (
                    lambda: client.set_query_data(KEY, 2),
                    lambda: client.invalidate_queries(),
                    lambda: client.remove_queries(),
                    lambda: client.forget("x"),
                    lambda: client.prefetch(KEY, lambda: 1),
                ):
                    with pytest.raises(WrongThread, match=r"client\.portal"):
                        act()
                with pytest.raises(WrongThread):
                    asyncio.run(client.query(KEY, lambda: 2))
                with pytest.raises(WrongThread):
                    asyncio.run(client.aclose())
                assert client.get_query_data(KEY) == 1

            await asyncio.to_thread(in_a_thread)
            assert not client.get_query_state(KEY).is_invalidated

    async def test_S12_a_closed_client_refuses_and_closes_twice(self):
        client = QueryClient()
        undo = client.on(Signal(), remove=KEY)
        async with client:
            client.set_query_data(KEY, 1)
        await client.aclose()
        undo()
        assert client.get_query_data(KEY) is None
        for act in (lambda: client.set_query_data(KEY, 1), client.clear, lambda: client.prefetch(KEY, lambda: 1)):
            with pytest.raises(ClientClosed):
                act()
        with pytest.raises(ClientClosed):
            await client.query(KEY, lambda: 1)
        with pytest.raises(ClientClosed):
            async with client:
                pass
        coroutine = asyncio.sleep(0)
        with pytest.raises(ClientClosed):
            client.own(coroutine, "late")
        client.forget("x", restart=True)
        client.focus.set(False)
        client.online.set(False)
        assert not client.focus.is_focused

    async def test_S12_closing_cancels_what_runs_and_leaves_no_timer(self):
        client = QueryClient()
        gate = Gate()
        callers = [asyncio.create_task(client.query(KEY, gate)) for _ in range(2)]
        client.set_query_data(("other",), 1)
        await settled()
        await client.aclose()
        for caller in callers:
            with pytest.raises(QueryCancelled, match="closed"):
                await caller
        assert gate.cancelled == 1

    async def test_a_client_that_is_dropped_is_collected(self):
        client = QueryClient()
        client.set_query_data(KEY, 1)
        await client.aclose()
        gone = weakref.ref(client)
        del client
        gc.collect()
        assert gone() is None

    async def test_a_rule_that_is_unbound_twice(self):
        async with QueryClient() as client:
            signal = Signal()
            undo = client.on(signal, invalidate=KEY, sender=client)
            client.set_query_data(KEY, 1)
            signal.send(None)
            assert not client.get_query_state(KEY).is_invalidated
            signal.send(client)
            assert client.get_query_state(KEY).is_invalidated
            undo()
            undo()


class TestBadInput:
    """Each gets a clear typed error, and the cache is as it was."""

    @pytest.fixture
    async def client(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, "old")
            before = client.get_query_state(KEY)
            events = []
            client.cache.subscribe(events.append)
            yield client
            after = client.get_query_state(KEY)
            assert len(client.cache) == 1
            assert (after.data, after.data_update_count, after.is_invalidated) == ("old", 1, False)
            assert before.fetch_status == after.fetch_status == "idle"
            assert events == []

    @pytest.mark.parametrize("key", [None, "pods", ["pods"], 5, {"a": 1}, (bytearray(),)], ids=repr)
    async def test_a_key_that_is_none(self, client, key):
        for act in (
            lambda: client.prefetch(key, lambda: 1),
            lambda: client.observe(key, lambda: 1),
            lambda: client.set_query_data(key, 1),
            lambda: client.get_query_data(key),
            lambda: client.get_query_state(key),
            lambda: client.invalidate_queries(key),
            lambda: client.remove_queries(key),
            lambda: client.reset_queries(key),
            lambda: client.cancel_queries(key),
            lambda: client.refetch_queries(key),
            lambda: client.is_fetching(key),
            lambda: client.get_queries_data(key),
            lambda: client.set_queries_data(key, updater=1),
            lambda: client.set_query_defaults(key, stale_time=1),
            lambda: client.get_query_defaults(key),
        ):
            with pytest.raises(TypeError):
                act()
        with pytest.raises(TypeError):
            await client.query(key, lambda: 1)

    @pytest.mark.parametrize("fn", [5, "text", None, [], object()])
    async def test_a_function_that_is_none(self, client, fn):
        with pytest.raises(TypeError, match="callable"):
            await client.query(("new",), fn)
        with pytest.raises(TypeError, match="callable"):
            client.prefetch(("new",), fn)
        with pytest.raises(TypeError, match="callable"):
            client.observe(("new",), fn)

    async def test_a_function_of_two_arguments(self, client):
        for act in (client.query, client.prefetch):
            with pytest.raises(TypeError, match="partial"):
                await act(("new",), lambda a, b: 1)
        with pytest.raises(TypeError, match="partial"):
            client.observe(("new",), lambda a, *, b: 1).__aiter__()

    @pytest.mark.parametrize("value", [-1, math.nan, timedelta(seconds=-1)])
    @pytest.mark.parametrize("name", ["stale_time", "gc_time", "timeout", "stale_if_error", "initial_data_age"])
    async def test_a_time_that_is_impossible(self, client, name, value):
        with pytest.raises(ValueError, match=name):
            await client.query(("new",), lambda: 1, **{name: value})
        with pytest.raises(ValueError, match=name):
            client.prefetch(KEY, lambda: 1, **{name: value})
        with pytest.raises(ValueError, match="age"):
            client.set_query_data(KEY, 1, age=value)
        with pytest.raises(ValueError, match="age"):
            client.set_queries_data(updater=1, age=value)

    @pytest.mark.parametrize("name", ["stale", "type", "fetch_status", "predicate", "tags", "exact", "unknown"])
    async def test_a_filter_that_is_none(self, client, name):
        for act in (client.invalidate_queries, client.remove_queries, client.is_fetching, client.get_queries_data):
            with pytest.raises(TypeError):
                act(KEY, **{name: None})

    async def test_a_value_that_is_none_of_its_choices(self, client):
        with pytest.raises(ValueError, match="refetch_type"):
            client.invalidate_queries(KEY, refetch_type="some")
        with pytest.raises(ValueError, match="stale_time"):
            await client.query(("new",), lambda: 1, stale_time="soon")
        with pytest.raises(TypeError, match="unknown"):
            await client.query(("new",), lambda: 1, stale=1)
        with pytest.raises(TypeError, match="hashable"):
            await client.query(("new",), lambda: 1, identity=[])
        with pytest.raises(TypeError, match="invalidate="):
            client.on(Signal())

    async def test_an_unhashable_identity(self, client):
        with pytest.raises(TypeError):
            client.set_query_data(("new",), 1, identity=[])
        with pytest.raises(TypeError):
            client.forget([])

    @pytest.mark.parametrize("most", [0, -1, math.nan])
    def test_a_bound_below_one(self, most):
        with pytest.raises(ValueError, match="max_entries"):
            QueryClient(max_entries=most)

    async def test_an_async_function_gives_no_initial_data(self):
        async with QueryClient() as client:
            with pytest.raises(TypeError, match="a coroutine cannot be the data"):
                await client.query(("k",), lambda: 1, initial_data=asyncio.Event().wait)
            assert len(client.cache) == 0

    async def test_a_coroutine_is_no_data_whether_given_or_returned_by_an_updater(self):
        async def work(*_: object) -> int:
            return 1

        async with QueryClient() as client:
            with pytest.raises(TypeError, match="await it first"):
                client.set_query_data(("k",), work())
            assert len(client.cache) == 0
            client.set_query_data(("k",), 0)
            with pytest.raises(TypeError, match="await it first"):
                client.set_query_data(("k",), work)
            assert client.get_query_data(("k",)) == 0

    @pytest.mark.parametrize("most", ["5", None, True, [5]])
    def test_a_bound_that_is_no_number_is_a_TypeError(self, most):
        with pytest.raises(TypeError, match="max_entries is a number"):
            QueryClient(max_entries=most)

    @pytest.mark.parametrize("defaults", [[], {"querys": {}}, {"queries": None}, {"queries": {"stale": 5}}])
    def test_default_options_that_nobody_would_read_are_a_TypeError(self, defaults):
        with pytest.raises(TypeError, match=r"default_options|unknown query option"):
            QueryClient(default_options=defaults)

    def test_a_coroutine_to_own_needs_a_running_loop_and_is_closed_where_there_is_none(self):
        async def work() -> None:
            raise AssertionError("called")

        coro = work()
        with pytest.raises(RuntimeError, match="needs a running event loop"):
            QueryClient().own(coro, "work")
        assert inspect.getcoroutinestate(coro) == inspect.CORO_CLOSED

    async def test_what_can_be_read_only_once_is_not_cached(self):
        async def agen():
            yield 1

        async with QueryClient() as client:
            client.set_query_data(KEY, "old")
            for once in (lambda: (n for n in range(3)), agen):
                with pytest.raises(TypeError, match="generator"):
                    await client.query(KEY, once)
            assert client.get_query_data(KEY) == "old"

    async def test_a_function_that_is_not_async_is_run(self):
        async with QueryClient() as client:
            assert await client.query(KEY, lambda: "plain") == "plain"


def test_reports_without_a_loop_go_to_the_log(caplog):
    client = QueryClient()
    client.cache.subscribe(lambda event: 1 / 0)
    with caplog.at_level(logging.ERROR, "querykit"):
        client.set_query_data(KEY, 1)
    assert "ZeroDivisionError" in caplog.text
