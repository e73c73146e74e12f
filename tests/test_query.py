"""One key's life (S1, S2): one flight for all who ask, whoever leaves, and who is answered by which."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars

import aiohttp
import pytest

from querykit import QueryCancelled, QueryClient
from querykit.flight import Flight, Waiter, make_source, waits
from querykit.identity import Record
from querykit.options import Defaults
from tests.fetches import Gate, settled

pytestmark = pytest.mark.virtual_time

KEY = ("pods", "prod")


def ask(client, fn, **options):
    return asyncio.create_task(client.query(KEY, fn, **options))


class TestOneFlight:
    async def test_S1_many_callers_make_one_call(self):
        gate = Gate()
        async with QueryClient() as client:
            callers = [ask(client, gate) for _ in range(1000)]
            await settled()
            await gate.answer("all")
            assert await asyncio.gather(*callers) == ["all"] * 1000
            assert gate.calls == 1
            assert (client.stats().misses, client.stats().fetches) == (1000, 1)

    async def test_S1_a_cancelled_caller_ends_only_itself(self):
        gate = Gate()
        async with QueryClient() as client:
            first, second = ask(client, gate), ask(client, gate)
            await settled()
            first.cancel()
            await settled()
            assert first.cancelled()
            await gate.answer("kept")
            assert await second == "kept"
            assert gate.cancelled == 0

    async def test_S1_the_last_caller_who_leaves_cancels_the_flight(self):
        gate = Gate()
        async with QueryClient() as client:
            callers = [ask(client, gate) for _ in range(3)]
            await settled()
            for caller in callers:
                caller.cancel()
            await settled()
            assert gate.cancelled == 1
            assert client.get_query_state(KEY).fetch_status == "idle"

    async def test_S1_a_flight_that_nobody_wants_before_it_began_calls_nothing(self):
        gate = Gate()
        async with QueryClient() as client:
            refetched = client.prefetch(KEY, gate)
            client.cancel_queries(KEY)
            await refetched
            await settled()
            assert gate.calls == gate.cancelled
            assert client.is_fetching() == 0

    async def test_S1_a_dying_flight_is_never_joined(self):
        async with QueryClient() as client:
            ended = asyncio.Event()

            async def slow_to_die():
                try:
                    await asyncio.sleep(100)
                except asyncio.CancelledError:
                    await asyncio.sleep(5)
                    ended.set()
                    raise

            first = ask(client, slow_to_die)
            await asyncio.sleep(1)
            first.cancel()
            await asyncio.sleep(1)
            assert await client.query(KEY, lambda: "anew") == "anew"
            assert not ended.is_set()
            await ended.wait()
            assert client.get_query_data(KEY) == "anew"

    @pytest.mark.parametrize("how", ["prefetch", "swr", "refetch"])
    async def test_S1_a_held_waiter_keeps_the_flight_of_a_caller_who_leaves(self, how):
        gate = Gate()
        async with QueryClient() as client:
            match how:
                case "prefetch":
                    client.prefetch(KEY, gate)
                case "swr":
                    client.set_query_data(KEY, "old", age=10)
                    assert await client.query(KEY, gate, swr=True) == "old"
                case "refetch":
                    first = ask(client, gate)
                    await settled()
                    await gate.answer("first")
                    await first
                    gate.waiting.clear()
                    client.refetch_queries(KEY)
            caller = ask(client, gate)
            await settled()
            caller.cancel()
            await settled()
            assert (gate.calls, gate.cancelled) == (1, 0)
            await gate.answer("kept")
            assert client.get_query_data(KEY) == "kept"

    async def test_S1_an_awaited_method_that_is_cancelled_leaves_the_flight(self):
        gate = Gate()
        async with QueryClient() as client:
            waiting = asyncio.create_task(client.prefetch(KEY, gate))
            await settled()
            waiting.cancel()
            await settled()
            assert waiting.cancelled()
            await gate.answer("kept")
            assert client.get_query_data(KEY) == "kept"

    async def test_S1_function_options_and_context_given_last_are_used_next(self):
        who = contextvars.ContextVar("who", default="nobody")
        async with QueryClient() as client:
            seen = []

            def caller(name):
                async def fn(ctx):
                    seen.append((name, who.get(), ctx.meta["n"]))
                    await asyncio.sleep(1)
                    return name

                return fn

            async def ask_as(name, n):
                who.set(name)
                return await client.query(KEY, caller(name), meta={"n": n})

            first, second = asyncio.create_task(ask_as("ada", 1)), asyncio.create_task(ask_as("bob", 2))
            assert await asyncio.gather(first, second) == ["ada", "ada"]
            who.set("the one who triggers")
            await client.refetch_queries(KEY)
            assert seen == [("ada", "ada", 1), ("bob", "bob", 2)]

    async def test_S1_a_caller_who_finds_it_fresh_gives_nothing(self):
        async with QueryClient() as client:
            await client.query(KEY, lambda: "first")
            await client.query(KEY, lambda: "second", stale_time=100)
            await client.refetch_queries(KEY)
            assert client.get_query_data(KEY) == "first"

    async def test_S1_a_mounting_observer_gives_its_function_though_it_finds_it_fresh(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, "set")
            async with client.observe(KEY, lambda: "fetched", stale_time=100):
                await client.invalidate_queries(KEY)
                assert client.get_query_data(KEY) == "fetched"

    async def test_S1_a_cancellation_out_of_the_function_itself_is_no_cancellation_of_callers(self):
        async with QueryClient() as client:

            async def fn():
                raise asyncio.CancelledError

            with pytest.raises(QueryCancelled, match="its own function"):
                await client.query(KEY, fn)
            assert client.get_query_state(KEY).status == "error"

    async def test_S1_a_flight_that_somebody_else_cancels_is_cancelled_for_its_callers(self):
        gate = Gate()
        async with QueryClient() as client:
            caller = ask(client, gate)
            await settled()
            next(task for task in asyncio.all_tasks() if "querykit fetch" in task.get_name()).cancel()
            with pytest.raises(QueryCancelled):
                await caller
            assert client.get_query_state(KEY).status == "pending"

    async def test_S1_beginning_a_fetch_changes_only_its_status_and_the_failure_count(self):
        async with QueryClient() as client:
            gate = Gate()
            with pytest.raises(LookupError):
                await client.query(KEY, fails_with(LookupError()))
            before = client.get_query_state(KEY)
            caller = ask(client, gate)
            await settled()
            after = client.get_query_state(KEY)
            assert (before.fetch_status, after.fetch_status) == ("idle", "fetching")
            assert (before.fetch_failure_count, after.fetch_failure_count) == (1, 0)
            assert after.status == "error"
            assert after.error is before.error
            await gate.answer(1)
            await caller


def fails_with(error):
    async def fn():
        raise error

    return fn


class Halt(BaseException):
    """What is no Exception, as SystemExit is none."""


async def test_S1_what_is_no_exception_cancels_the_callers_and_is_reported(reported):
    async with QueryClient() as client:
        with pytest.raises(QueryCancelled, match="interrupted"):
            await client.query(KEY, fails_with(Halt()))
        assert client.get_query_state(KEY).status == "pending"
        await settled()
        assert isinstance(reported.take()[0]["exception"], Halt)


async def test_a_builtin_without_a_signature_takes_no_context():
    async with QueryClient() as client:
        assert await client.query(KEY, dict) == {}


async def test_a_response_cannot_be_cached():
    async with QueryClient() as client:
        response = aiohttp.ClientResponse.__new__(aiohttp.ClientResponse)
        with pytest.raises(TypeError, match="ClientResponse"):
            await client.query(KEY, lambda: response)


async def test_S2_an_old_handle_of_a_removed_query_changes_nothing():
    async with QueryClient() as client:
        gate = Gate()
        caller = ask(client, gate)
        await settled()
        old = client.cache.find(KEY)
        client.remove_queries(KEY)
        client.set_query_data(KEY, "other")
        old.remove(None)
        assert old.refetch(None, cancel=True).done
        assert client.is_fetching() == 0
        assert client.get_query_data(KEY) == "other"
        with pytest.raises(QueryCancelled):
            await caller


async def test_S1_a_wait_that_was_answered_closes_no_circle():
    """The chain of who waits for whom leaves out who was woken, and ends though two wait the same way."""

    class Asked:
        def __init__(self, key):
            self.key = key
            self.waiters = {}

    async with QueryClient() as client:
        loop, ledger = asyncio.get_running_loop(), client.cache.ledger
        source = make_source(lambda: 1, client.cache.build(KEY, KEY, Defaults({}).resolve(KEY, {})).defaults)
        a, b, c = Asked(("a",)), Asked(("b",)), Asked(("c",))
        flights = [Flight(one, source, Record(ledger), restarted=False) for one in (a, b, c)]
        for _ in range(2):  # a waits for b, twice
            b.waiters[Waiter(loop, 0, flights[0].record)] = None
        assert waits(flights[1].record, flights[0]) == [flights[1], flights[0]]
        assert waits(flights[1].record, flights[2]) is None
        for waiter in b.waiters:
            waiter.resolve(None)
        assert waits(flights[1].record, flights[0]) is None


class TestRefusingCancellation:
    async def test_S2_it_is_abandoned_and_what_it_returns_is_dropped(self, reported):
        async with QueryClient(close_timeout=7) as client:
            release = asyncio.Event()

            async def stubborn():
                while not release.is_set():
                    with contextlib.suppress(asyncio.CancelledError):
                        await release.wait()
                return "late"

            caller = ask(client, stubborn)
            await settled()
            client.set_query_data(KEY, "set")
            assert await caller == "set"
            await client.aclose()
            assert asyncio.get_running_loop().time() == 7
            assert "refuses to be cancelled" in reported.take()[0]["message"]
            release.set()
            await settled()
            assert client.get_query_data(KEY) is None

    async def test_S2_one_that_fails_instead_is_not_retried(self):
        calls = []

        async def fn():
            calls.append(1)
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                raise ConnectionError from None

        async with QueryClient() as client:
            caller = ask(client, fn, retry_delay=0)
            await settled()
            client.cancel_queries(KEY)
            with pytest.raises(QueryCancelled):
                await caller
            await settled()
            assert len(calls) == 1
            assert client.get_query_state(KEY).fetch_failure_count == 0


class TestOnceOnly:
    """S2 row 1: a fetch that was begun anew already is left to end."""

    async def test_S2_the_second_invalidation_lets_it_end_and_one_more_follows(self):
        gate = Gate()
        async with QueryClient() as client, client.observe(KEY, gate) as results:
            await settled()
            client.invalidate_queries(KEY)
            await settled()
            assert (gate.calls, gate.cancelled) == (2, 1)
            client.invalidate_queries(KEY)
            client.invalidate_queries(KEY)
            await settled()
            assert (gate.calls, gate.cancelled) == (2, 1)
            await gate.answer("shown")
            assert results.result.data == "shown"
            assert results.result.is_invalidated
            assert gate.calls == 3  # the one that follows may in turn be begun anew, once
            client.invalidate_queries(KEY)
            await settled()
            assert (gate.calls, gate.cancelled) == (4, 2)
            client.invalidate_queries(KEY)
            await gate.answer("again")
            await gate.answer("last")
            assert (results.result.data, results.result.is_invalidated) == ("last", False)

    async def test_S2_steady_invalidation_starves_nobody(self):
        async with QueryClient() as client:

            async def fn():
                await asyncio.sleep(10)
                return asyncio.get_running_loop().time()

            async with client.observe(KEY, fn):
                caller = ask(client, fn)
                await asyncio.sleep(0)
                for _ in range(100):
                    client.invalidate_queries(KEY)
                    await asyncio.sleep(1)
                assert caller.done()
                assert await caller <= 25
                assert client.get_query_state(KEY).data_update_count >= 4

    async def test_S2_a_caller_is_answered_by_the_first_flight_after_the_invalidation_before_his_call(self):
        gate = Gate()
        async with QueryClient() as client:
            first = ask(client, gate)
            await settled()
            client.invalidate_queries(KEY)
            second = ask(client, gate)
            await settled()
            assert gate.calls == 2  # begun anew
            client.invalidate_queries(KEY)
            third = ask(client, gate)
            await settled()
            assert gate.calls == 2  # left to end
            await gate.answer("two")
            assert (await first, await second) == ("two", "two")
            assert not third.done()
            await gate.answer("three")
            assert await third == "three"

    async def test_S2_an_observer_who_mounts_while_what_runs_is_out_of_date_gets_one_more(self):
        gate = Gate()
        async with QueryClient() as client:
            caller = ask(client, gate)
            await settled()
            client.invalidate_queries(KEY)
            again = ask(client, gate)
            await settled()
            client.invalidate_queries(KEY)
            async with client.observe(KEY, gate) as results:
                await gate.answer("two")
                assert (await caller, await again) == ("two", "two")
                assert gate.calls == 3
                await gate.answer("three")
                assert results.result.data == "three"

    @pytest.mark.parametrize("event", ["set", "cancel"])
    async def test_S2_what_an_observer_wanted_more_is_gone_with_what_replaces_the_flight(self, event):
        gate = Gate()
        async with QueryClient() as client:
            for _ in range(2):
                client.prefetch(KEY, gate)
                client.invalidate_queries(KEY)
            async with client.observe(KEY, gate):
                calls = client.stats().fetches
                client.set_query_data(KEY, 1) if event == "set" else client.cancel_queries(KEY)
                client.set_query_data(KEY, 2)
                await settled()
                assert client.stats().fetches == calls

    async def test_S2_nobody_needs_the_one_that_would_follow(self):
        gate = Gate()
        async with QueryClient() as client:
            first = ask(client, gate)
            await settled()
            client.invalidate_queries(KEY)
            second = ask(client, gate)
            await settled()
            client.invalidate_queries(KEY)
            third = ask(client, gate)
            await settled()
            third.cancel()
            await gate.answer("two")
            assert (await first, await second, gate.calls) == ("two", "two", 2)

    async def test_S2_the_error_of_one_that_was_left_to_end_goes_to_those_before(self):
        gate = Gate()
        async with QueryClient() as client:
            first = ask(client, gate, retry=0)
            await settled()
            client.invalidate_queries(KEY, cancel_refetch=False, refetch_type="all")
            await gate.answer(LookupError())
            with pytest.raises(LookupError):
                await first
            await gate.answer("next")
            assert client.get_query_data(KEY) == "next"


class TestAnswers:
    async def test_S2_who_was_woken_takes_what_there_is_then(self):
        gate = Gate()
        async with QueryClient() as client:
            caller = ask(client, gate)
            await settled()
            gate.waiting[0].set_result("answer")
            while client.is_fetching():
                await asyncio.sleep(0)
            assert not caller.done()
            client.remove_queries(KEY)
            client.set_query_data(KEY, "of somebody else")
            with pytest.raises(QueryCancelled):
                await caller

    async def test_S2_a_woken_caller_of_a_reset_and_unobserved_query_is_cancelled(self):
        gate = Gate()
        async with QueryClient() as client:
            caller = ask(client, gate, initial_data="initial", initial_data_age=9, stale_time=1)
            await settled()
            gate.waiting[0].set_result("answer")
            while client.is_fetching():
                await asyncio.sleep(0)
            client.reset_queries(KEY)
            with pytest.raises(QueryCancelled, match="reset"):
                await caller
            assert client.get_query_data(KEY) == "initial"

    async def test_S2_a_reset_gives_the_initial_data_again(self, reported):
        async with QueryClient() as client:
            counts = iter(range(10))
            await client.query(KEY, lambda: "fetched", initial_data=lambda: next(counts))
            client.reset_queries(KEY)
            assert client.get_query_data(KEY) == 1

            def breaks():
                raise LookupError

            await client.query(KEY, lambda: "fetched", initial_data=breaks)
            client.reset_queries(KEY)
            assert client.get_query_data(KEY) is None
            assert "initial_data" in reported.take()[0]["message"]

    async def test_S1_each_caller_gets_the_same_error_with_its_own_traceback(self):
        async with QueryClient() as client:
            fn = fails_with(LookupError("no"))
            errors = await asyncio.gather(*[client.query(KEY, fn) for _ in range(3)], return_exceptions=True)
            assert all(isinstance(error, LookupError) for error in errors)

    async def test_a_query_says_what_it_is(self):
        async with QueryClient() as client:
            caller = ask(client, Gate())
            await settled()
            assert repr(client.cache.find(KEY)) == "<Query ('pods', 'prod') pending fetching>"
            client.set_query_data(KEY, 1)
            await caller
            assert repr(client.cache.find(KEY)) == "<Query ('pods', 'prod') success idle>"


async def test_S8_a_listener_that_removes_what_is_being_fetched_disturbs_nothing():
    """S8: a change made while a new key is told of comes after it."""
    async with QueryClient() as client:

        def remove(event):
            if event.kind == "added":
                client.remove_queries(event.query.key)

        with client.cache.subscribe(remove):
            with pytest.raises(QueryCancelled):
                await client.query(KEY, lambda: 1)
            client.set_query_data(KEY, 1)
            assert len(client.cache) == 0
            async with client.observe(KEY, lambda: 1) as results:
                assert results.result.is_pending
                client.set_query_data(KEY, 2)
                assert results.result.data == 2


async def test_S2_what_runs_in_the_middle_of_a_bulk_change_may_remove_the_rest():
    """An initial_data callable that removes its own key at a reset: nothing is fetched for a removed query."""
    async with QueryClient() as client:
        removed = []

        def initial():
            if removed:
                client.remove_queries(("b",))
            return "initial"

        async with client.observe(("a",), lambda: 1, initial_data=initial):
            await client.query(("b",), lambda: 2)
            removed.append(True)
            client.reset_queries()
            await settled()
            assert client.get_query_data(("b",)) is None
            assert len(client.cache) == 1
