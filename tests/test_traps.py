"""The points in which a naive port of TanStack Query goes wrong (reference/tanstack.md, section 2), one test each.

Where design section 3 says otherwise, its rule is the one tested. Those of observers stand with them: 16 to 18 in
test_view.py (16 in test_sharing.py as well), 19 in test_result.py, 20 in test_observer_options.py, 24 in
test_observer.py, and what a pause has to do with 21 in test_pausing.py.
"""

from __future__ import annotations

import asyncio
import gc
import math
import traceback
import weakref

import pytest

from querykit import QueryCancelled, QueryClient
from tests.fetches import Gate, Upstream, settled

pytestmark = pytest.mark.virtual_time

KEY = ("pods", "prod")


def now():
    return asyncio.get_running_loop().time()


def ask(client, fn, **options):
    return asyncio.create_task(client.query(KEY, fn, **options))


async def test_trap_1_a_second_caller_shares_the_flight_and_his_options_count_from_the_next_on():
    async with QueryClient() as client:
        gate = Gate()
        callers = [ask(client, gate), ask(client, lambda: "second")]
        await settled()
        await gate.answer("first")
        assert await asyncio.gather(*callers) == ["first", "first"]
        await client.refetch_queries(KEY)
        assert client.get_query_data(KEY) == "second"


async def test_trap_2_a_refetch_joins_a_first_load_and_begins_others_anew():
    async with QueryClient() as client:
        gate = Gate()
        caller = ask(client, gate)
        await settled()
        for _ in range(3):
            client.refetch_queries(KEY)
        await gate.answer("one")
        assert (await caller, gate.calls) == ("one", 1)
        client.refetch_queries(KEY)
        await settled()
        client.refetch_queries(KEY)
        await settled()
        assert (gate.calls, gate.cancelled) == (3, 1)
        await gate.answer("three")


async def test_trap_3_an_invalidation_during_an_unobserved_flight_is_not_lost():
    async with QueryClient() as client:
        gate = Gate()
        caller = ask(client, gate)
        await settled()
        client.invalidate_queries(KEY)
        await gate.answer("before")
        assert await caller == "before"
        assert client.get_query_state(KEY).is_invalidated
        assert await client.query(KEY, lambda: "after", stale_time=math.inf) == "after"


async def test_trap_4_what_is_set_in_flight_is_not_overwritten_by_the_answer():
    async with QueryClient() as client:
        upstream = Upstream()
        caller = ask(client, upstream)
        await asyncio.sleep(0)
        client.set_query_data(KEY, "set")
        assert client.get_query_state(KEY).fetch_status == "idle"
        assert await caller == "set"
        await settled()
        assert client.get_query_data(KEY) == "set"


async def test_trap_5_a_cancelled_fetch_gives_the_old_data_if_there_is_any():
    async with QueryClient() as client:
        caller = ask(client, Gate())
        await settled()
        client.cancel_queries(KEY)
        with pytest.raises(QueryCancelled):
            await caller
        client.set_query_data(KEY, "old", age=10)
        caller = ask(client, Gate())
        await settled()
        client.cancel_queries(KEY)
        assert await caller == "old"


async def test_trap_6_a_leaving_observer_does_not_cancel_what_a_caller_waits_for():
    async with QueryClient() as client:
        gate = Gate()
        observation = client.observe(KEY, gate)
        await observation.__aenter__()
        caller = ask(client, gate)
        await settled()
        observation.close()
        await gate.answer("kept")
        assert await caller == "kept"
        observation = client.observe(KEY, gate)
        await observation.__aenter__()
        await settled()
        observation.close()
        await settled()
        assert gate.cancelled == 1


@pytest.mark.parametrize("how", ["remove_queries", "reset_queries"])
async def test_trap_7_removing_or_resetting_in_flight_leaves_no_caller_hanging(how):
    async with QueryClient() as client:
        caller = ask(client, Gate())
        await settled()
        getattr(client, how)(KEY)
        with pytest.raises(QueryCancelled):
            await caller


async def test_trap_8_staleness_is_judged_by_who_asks_and_the_boundary_is_stale():
    async with QueryClient() as client:
        client.set_query_data(KEY, "set", age=10)
        upstream = Upstream()
        assert await client.query(KEY, upstream, stale_time=10.5) == "set"
        assert await client.query(KEY, upstream, stale_time="static") == "set"
        assert await client.query(KEY, upstream, stale_time=10) == "new 1"
        client.invalidate_queries(KEY)
        assert await client.query(KEY, upstream, stale_time="static") == "new 1"
        assert await client.query(KEY, upstream, stale_time=math.inf) == "new 2"
        query = client.cache.find(KEY)
        assert not query.is_stale(now() + 1000)  # unobserved: only if it has no data or was invalidated
        async with client.observe(KEY, upstream, stale_time=5):
            assert not query.is_stale(now() + 4)
            assert query.is_stale(now() + 5)


async def test_trap_9_static_is_flagged_and_not_refetched_and_infinity_is():
    async with QueryClient() as client:
        upstream = Upstream()
        client.set_query_data(KEY, "set")
        async with client.observe(KEY, upstream, stale_time="static"):
            await client.invalidate_queries(KEY)
            await client.refetch_queries(KEY)
            assert client.get_query_state(KEY).is_invalidated
            assert upstream.calls == 0
        async with client.observe(KEY, upstream, stale_time=math.inf):
            await client.invalidate_queries(KEY)
            assert upstream.calls > 0


async def test_trap_10_a_failed_refresh_keeps_the_data_and_is_fetched_again_at_the_next_opportunity():
    async with QueryClient() as client:
        client.set_query_data(KEY, "old", age=10)
        upstream = Upstream()
        upstream.error = LookupError("no")
        with pytest.raises(LookupError):
            await client.query(KEY, upstream)
        state = client.get_query_state(KEY)
        assert (state.data, state.status, state.is_invalidated) == ("old", "error", True)
        upstream.error = None
        assert await client.query(KEY, upstream, stale_time=math.inf) == "new 2"
        assert client.get_query_state(KEY).error is None


@pytest.mark.parametrize(
    ("refetch_type", "active", "inactive"), [("active", 1, 0), ("inactive", 0, 1), ("all", 1, 1), ("none", 0, 0)]
)
async def test_trap_11_an_invalidation_refetches_what_is_active_unless_told_otherwise(refetch_type, active, inactive):
    async with QueryClient() as client:
        first, second = Upstream(), Upstream()
        await client.query(("k", 2), second)
        client.set_query_data(("k", 3), "never fetched")
        async with client.observe(("k", 1), first):
            await client.query(("k", 1), first)
            assert (first.calls, second.calls) == (1, 1)
            await client.invalidate_queries(("k",), refetch_type=refetch_type)
            assert (first.calls - 1, second.calls - 1) == (active, inactive)
            assert client.get_query_state(("k", 3)).is_invalidated


async def test_trap_11_type_and_refetch_type_are_different():
    async with QueryClient() as client:
        upstream = Upstream()
        await client.query(KEY, upstream)
        await client.invalidate_queries(KEY, type="active", refetch_type="all")
        assert not client.get_query_state(KEY).is_invalidated
        await client.invalidate_queries(KEY, type="inactive")
        assert client.get_query_state(KEY).is_invalidated
        assert upstream.calls == 1


async def test_trap_12_a_reset_fetches_what_is_observed_and_a_removal_does_not():
    async with QueryClient() as client:
        upstream = Upstream()
        async with client.observe(KEY, upstream, stale_time=50) as results:
            await client.query(KEY, upstream, stale_time=50)
            client.remove_queries(KEY)
            await settled()
            assert (upstream.calls, results.result.status) == (1, "pending")
            await client.reset_queries(KEY)
            assert (upstream.calls, results.result.data) == (2, "new 2")


class TestTrap13:
    """Unused entries go: counted from the last use, by the longest gc time ever given."""

    async def test_trap_13_it_counts_from_the_last_observer_or_the_end_of_the_fetch(self):
        async with QueryClient() as client:
            async with client.observe(KEY, lambda: 1, gc_time=100):
                await asyncio.sleep(1000)
                assert client.get_query_data(KEY) == 1
            await asyncio.sleep(99)
            assert len(client.cache) == 1
            await asyncio.sleep(7)
            assert len(client.cache) == 0

    async def test_trap_13_the_longest_time_ever_given_counts(self):
        async with QueryClient() as client:
            await client.query(KEY, lambda: 1, gc_time=1000)
            await client.query(KEY, lambda: 1, gc_time=1)
            await asyncio.sleep(999)
            assert len(client.cache) == 1
            await asyncio.sleep(52)
            assert len(client.cache) == 0

    async def test_trap_13_what_was_set_goes_after_its_time_and_not_twice_as_late(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, 1)
            await asyncio.sleep(299)
            assert len(client.cache) == 1
            await asyncio.sleep(17)
            assert len(client.cache) == 0

    async def test_trap_13_a_hit_gives_it_a_second_chance(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, 1)
            await asyncio.sleep(200)
            assert client.get_query_data(KEY) == 1
            await asyncio.sleep(200)
            assert len(client.cache) == 1
            await asyncio.sleep(300)
            assert len(client.cache) == 0

    async def test_trap_13_zero_removes_it_right_after_use(self):
        async with QueryClient() as client:
            assert await client.query(KEY, lambda: 1, gc_time=0) == 1
            await asyncio.sleep(1)
            assert len(client.cache) == 0
        async with QueryClient(default_options={"queries": {"gc_time": 0}}) as client:
            assert await client.query(KEY, lambda: 1) == 1
            await asyncio.sleep(1)
            assert len(client.cache) == 0

    async def test_trap_13_a_prefetch_that_nobody_took_is_collected_too(self):
        async with QueryClient() as client:
            await client.prefetch(KEY, lambda: 1)
            client.prefetch(("failed",), Upstream(failures=99), retry=0)
            await asyncio.sleep(320)
            assert len(client.cache) == 0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("a", 1), ("a", 1.0), True),
        (("a", 1), ("a", "1"), False),
        (("a", 1), ("a", True), False),
        (("a", {"x": 1, "y": 2}), ("a", {"y": 2, "x": 1}), True),
        (("a", {"x": None}), ("a", {}), False),
        (("a", [1, 2]), ("a", (1, 2)), True),
    ],
)
async def test_trap_14_keys_are_the_same_as_design_S5_says(one, other, same):
    async with QueryClient() as client:
        client.set_query_data(one, "one")
        assert client.get_query_data(other) == ("one" if same else None)
        assert await client.query(other, lambda: "two", stale_time=9) == ("one" if same else "two")
        assert len(client.cache) == (1 if same else 2)


@pytest.mark.parametrize(
    ("prefix", "matches"),
    [
        ((), True),
        (("pods",), True),
        (("pods", {"ns": "x"}), True),
        (("pods", {"ns": "y"}), False),
        (("pods", {"ns": "x", "all": 1}), True),
        (("pods", {"ns": "x", "all": 1}, 1), False),
        (("pod",), False),
    ],
)
async def test_trap_15_a_prefix_matches_by_parts_and_mappings_by_subset(prefix, matches):
    async with QueryClient() as client:
        client.set_query_data(("pods", {"ns": "x", "all": 1}), 1)
        client.remove_queries(prefix)
        assert len(client.cache) == (0 if matches else 1)


async def test_trap_21_retry_n_makes_n_plus_1_calls():
    async with QueryClient(jitter=lambda longest: longest) as client:
        upstream = Upstream(failures=99)
        with pytest.raises(ConnectionError):
            await client.query(KEY, upstream, retry=2)
        state = client.get_query_state(KEY)
        assert upstream.calls == 3
        assert (state.fetch_failure_count, state.error_update_count) == (3, 1)
        assert now() == 1 + 2


async def test_trap_26_none_is_valid_data():
    async with QueryClient() as client:
        upstream = []
        assert await client.query(KEY, lambda: upstream.append(1)) is None
        assert await client.query(KEY, lambda: upstream.append(1), stale_time=9) is None
        assert upstream == [1]
        assert client.get_query_state(KEY).has_data
        assert client.get_query_data(KEY, "default") is None


async def test_trap_27_a_listener_that_leaves_or_raises_while_others_are_told_disturbs_nobody(reported):
    async with QueryClient() as client:
        heard = []

        def leaves(event):
            heard.append("leaves")
            undo()

        def raises(event):
            heard.append("raises")
            raise LookupError

        undo = client.cache.subscribe(leaves)
        client.cache.subscribe(raises)
        client.cache.subscribe(lambda event: heard.append(event.kind))
        client.set_query_data(KEY, 1)
        assert heard == ["leaves", "raises", "added", "raises", "updated"]
        assert client.get_query_data(KEY) == 1
        told = reported.take()
        assert [type(each["exception"]) for each in told] == [LookupError] * 2
        assert repr(KEY) in told[0]["message"]


async def test_trap_28_nothing_of_a_fetch_is_kept_when_it_has_ended():
    class Big:
        pass

    async with QueryClient() as client:
        kept = []

        async def fn():
            big = Big()
            kept.append(weakref.ref(big))
            raise LookupError("no")

        with pytest.raises(LookupError):
            await client.query(KEY, fn)
        await settled()
        gc.collect()
        assert kept[0]() is None
        error = client.get_query_state(KEY).error
        assert error.__traceback__ is None
        assert traceback.format_exception(error) == ["LookupError: no\n"]


async def test_trap_29_a_server_collects_retries_and_has_finite_times():
    async with QueryClient() as client:
        assert client.get_query_defaults(KEY) == {}
        upstream = Upstream(failures=1)
        assert await client.query(KEY, upstream) == "new 2"
        await asyncio.sleep(400)
        assert len(client.cache) == 0


async def test_trap_30_times_are_monotonic_ones_of_the_loop():
    async with QueryClient() as client:
        await asyncio.sleep(123)
        client.set_query_data(KEY, 1)
        assert client.get_query_state(KEY).data_updated_at == 123
