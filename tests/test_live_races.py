"""Live queries that are wanted no more, forgotten or changed at every step; and what they leave."""

from __future__ import annotations

import asyncio
import gc

import pytest

from querykit import (
    QueryCancelled,
    QueryClient,
    QueryObserver,
    QueryTimeout,
    live,
    skip,
    use_identity,
)
from tests.conftest import new_virtual_loop
from tests.fetches import settled
from tests.sources import KEY, A, Watch, observed, phase

pytestmark = pytest.mark.virtual_time


@pytest.fixture
async def client():
    async with QueryClient(jitter=lambda longest: longest) as client:
        yield client


class TestWhoWantsIt:
    @pytest.mark.parametrize(
        "options", [{"fn": skip}, {"enabled": False}, {"fn": lambda: "plain"}], ids=["skip", "disabled", "plain"]
    )
    async def test_options_that_want_no_source_let_it_go_after_its_grace_time(self, client, options):
        watch = Watch("one")
        observer = observed(client, watch, grace=5)
        await settled()
        observer.set_options(KEY, **{"fn": live(watch), **options})
        await asyncio.sleep(4.9)
        assert (watch.closed, observer.result.live.phase) == (0, "live")
        await asyncio.sleep(0.2)
        assert (watch.closed, observer.result.live.phase) == (1, "stopped")

    async def test_a_rule_of_the_data_may_end_it(self, client):
        watch = Watch("running")
        observer = observed(client, watch, enabled=lambda query: query.data != "done")
        await settled()
        await watch.push("done")
        await asyncio.sleep(6)
        assert (watch.closed, observer.result.data, observer.result.live.phase) == (1, "done", "stopped")

    async def test_a_rule_that_closes_another_observer_disturbs_nobody(self, client):
        watch, others = Watch("one"), []
        observer = observed(client, watch, enabled=lambda query: not [other.close() for other in others])
        others.append(observed(client, watch, enabled=False))
        await settled()
        await watch.push("two")
        assert observer.result.data == "two"

    async def test_the_fetch_of_a_plain_function_ends_it(self, client):
        watch = Watch("one")
        observer = observed(client, watch)
        await settled()
        observer.set_options(KEY, lambda: "plain", stale_time=3)
        await client.invalidate_queries(KEY)
        result = observer.result
        assert (result.data, result.live.phase) == ("plain", "stopped")
        await asyncio.sleep(3)
        assert watch.closed == 1
        assert observer.result.is_stale

    async def test_one_that_is_wanted_again_in_its_grace_time_is_started_again_when_it_ends(self, client):
        watch, wanted = Watch("one"), [True]
        observer = observed(client, watch, enabled=lambda query: wanted[0])
        other = observed(client, watch, enabled=lambda query: wanted[0])
        await settled()
        wanted[0] = False
        other.close()
        wanted[0] = True
        await watch.push(None)
        await asyncio.sleep(3)
        assert (watch.opened, observer.result.live.phase) == (2, "live")

    async def test_a_disabled_observer_does_not_keep_one_that_brings_nothing(self, client):
        watch = Watch()
        observer = observed(client, watch, grace=2)
        await settled()
        observer.set_options(KEY, live(watch), enabled=False)
        await asyncio.sleep(3)
        result = observer.result
        assert (watch.closed, result.live.phase, result.status, result.fetch_status) == (
            1,
            "stopped",
            "pending",
            "idle",
        )

    async def test_S1_who_is_told_that_it_is_stale_may_fetch_and_no_second_fetch_begins(self, client):
        watch = Watch("one")

        def listen(event):
            if event.cause == "live" and event.query.live_state.phase == "stale":
                client.refetch_queries(KEY, cancel_refetch=False)

        observed(client, watch, refetch_interval=10)
        await settled()
        client.cache.subscribe(listen)
        await asyncio.sleep(10.5)
        assert (client.stats().fetches, watch.opened, watch.closed) == (2, 2, 1)

    async def test_S7_who_is_told_that_an_expired_one_stops_finds_it_gone(self, client):
        watch, found = Watch("one"), []
        await client.query(KEY, live(watch, grace=60), gc_time=1)
        client.cache.subscribe(lambda event: found.append((str(event.cause), client.cache.find(KEY))))
        await asyncio.sleep(2)
        assert (found, watch.closed) == ([("live", None), ("expire", None)], 1)

    async def test_S7_one_in_its_grace_time_may_be_evicted(self):
        async with QueryClient(max_entries=1) as client:
            watch = Watch("one")
            await client.query(KEY, live(watch, grace=60))
            for n in range(3):
                client.set_query_data((n,), n)
            await settled()
            assert (watch.closed, client.cache.find(KEY)) == (1, None)

    async def test_one_that_is_wanted_again_when_its_grace_time_is_over_goes_on(self, client):
        watch, wanted = Watch("one"), [True]
        observer = observed(client, watch, enabled=lambda query: wanted[0])
        other = observed(client, watch, enabled=lambda query: wanted[0])
        await settled()
        wanted[0] = False
        other.close()
        wanted[0] = True
        await asyncio.sleep(60)
        assert (watch.closed, observer.result.live.phase) == (0, "live")

    async def test_one_that_is_not_wanted_any_more_when_it_is_to_start_again_is_stopped(self, client):
        watch, wanted = Watch("one"), [True]
        observer = observed(client, watch, enabled=lambda query: wanted[0])
        await settled()
        await watch.push(None)
        wanted[0] = False
        await asyncio.sleep(60)
        assert (watch.opened, observer.result.live.phase) == (1, "stopped")

    async def test_cancelling_a_paused_resync_leaves_the_source_that_is_live(self, client):
        watch = Watch("one")
        observer = observed(client, watch)
        await settled()
        client.online.set(False)
        client.invalidate_queries(KEY)
        assert observer.result.fetch_status == "paused"
        client.cancel_queries(KEY)
        await watch.push("two")
        result = observer.result
        assert (result.data, result.is_stale, result.live.phase, watch.closed) == ("two", True, "stale", 0)

    def test_without_a_running_loop_it_can_be_removed(self):
        watch, loop = Watch("one"), new_virtual_loop()

        async def begin():
            client = QueryClient()
            await client.query(KEY, live(watch))
            return client

        client = loop.run_until_complete(begin())
        client.remove_queries(KEY)
        loop.run_until_complete(settled())
        assert watch.closed == 1
        loop.run_until_complete(client.aclose())
        loop.close()


class TestConnecting:
    async def test_S2_one_that_was_begun_after_an_invalidation_is_fresh_though_its_fetch_waited_before_it(self, client):
        client.online.set(False)
        observer = observed(client, Watch("one"))
        await settled()
        client.invalidate_queries(KEY, refetch_type="none")
        client.online.set(True)
        await settled()
        result = observer.result
        assert (result.data, result.live.phase, result.is_stale, result.is_invalidated) == ("one", "live", False, False)

    async def test_S2_what_is_set_while_the_source_is_out_of_date_is_as_old_as_it_is_said_to_be(self, client):
        watch = Watch("one")
        observer = observed(client, watch, stale_time=3)
        await settled()
        client.invalidate_queries(KEY, refetch_type="none")
        client.set_query_data(KEY, "by hand", age=2)
        assert (observer.result.live.phase, observer.result.is_stale) == ("stale", False)
        await asyncio.sleep(1)
        assert observer.result.is_stale

    async def test_a_fetch_that_fails_before_its_source_has_begun_is_told_as_retrying(self, client):
        client.online.set(False)
        observer = observed(client, Watch("one"), timeout=1)
        await asyncio.sleep(1.5)
        result = observer.result
        assert (result.live.phase, type(result.live.error), result.fetch_status) == ("retrying", QueryTimeout, "idle")

    @pytest.mark.parametrize("how", ["remove_queries", "cancel_queries", "reset_queries"])
    async def test_S1_a_child_task_of_one_that_connects_dooms_it_without_cancelling_it(self, client, how):
        ended = []

        async def act():
            getattr(client, how)(KEY)
            await asyncio.sleep(1)

        async def source():
            await asyncio.create_task(act())
            ended.append(1)
            yield "dropped"

        with pytest.raises(QueryCancelled):
            await client.query(KEY, live(source), retry=0)
        await asyncio.sleep(2)
        assert (ended, client.get_query_data(KEY)) == ([1], None)

    async def test_S1_a_child_task_of_one_that_connects_may_close_the_client(self):
        client, ended = QueryClient(), []

        async def source():
            await asyncio.create_task(client.aclose())
            ended.append(1)
            yield "dropped"

        with pytest.raises(QueryCancelled):
            await client.query(KEY, live(source), retry=0)
        await settled()
        assert ended == [1]

    async def test_S1_a_function_that_was_doomed_opens_no_source(self, client):
        watch = Watch("one")

        async def doomed(ctx):
            client.remove_queries(KEY)
            return await live(watch)(ctx)

        with pytest.raises(QueryCancelled):
            await client.query(KEY, doomed)
        assert watch.opened == 0

    async def test_a_function_may_open_a_source_whose_context_it_outlives_only_once(self, client):
        kept = []

        async def fetch(ctx):
            kept.append(ctx)
            return "plain"

        await client.query(KEY, fetch)
        with pytest.raises(QueryCancelled, match="over"):
            await live(Watch("one"))(kept[0])

    async def test_S1_a_fetch_is_answered_when_a_source_that_will_not_end_is_given_up(self, client):
        go = asyncio.Event()

        async def stubborn():
            while not go.is_set():
                try:
                    await go.wait()
                except asyncio.CancelledError:
                    continue
            yield 1

        asking = asyncio.ensure_future(client.query(KEY, live(stubborn)))
        await settled()
        client.remove_queries(KEY)
        with pytest.raises(QueryCancelled):
            await asking
        go.set()
        await settled()
        assert client.get_query_data(KEY) is None

    async def test_one_that_stops_itself_at_once_and_raises_cancelled_error_has_failed(self, client):
        async def source():
            raise asyncio.CancelledError
            yield

        with pytest.raises(QueryCancelled, match="by its own function"):
            await client.query(KEY, live(source), retry=0)

    async def test_from_a_child_task_it_may_remove_itself(self, client):
        closed = []

        async def source():
            async with asyncio.TaskGroup() as group:
                try:
                    yield 1
                    group.create_task(asyncio.to_thread(client.get_query_data, KEY))
                    group.create_task(removing())
                    await asyncio.Event().wait()
                finally:
                    closed.append(1)

        async def removing():
            client.remove_queries(KEY)

        observer = QueryObserver(client, KEY, live(source))
        with observer.subscribe(lambda result: None):
            await settled()
            assert (observer.result.is_pending, observer.result.live.phase, closed) == (True, "stopped", [1])


class TestOptimisticChanges:
    """A push that comes after a mutation's success has its change in it; one that came before has not."""

    def add(self, client, gate, variables, **options):
        async def fn(variables):
            return await gate.get()

        return client.mutate(fn, variables, optimistic=[(KEY, lambda data, new: [*data, new])], **options)

    async def test_a_change_is_seen_over_what_is_pushed_until_a_push_after_the_success(self, client):
        watch, gate = Watch(["a"]), asyncio.Queue()
        observer = observed(client, watch)
        await settled()
        mutating = self.add(client, gate, "mine")
        await watch.push(["a", "b"])
        assert observer.result.data == ["a", "b", "mine"]
        gate.put_nowait(None)
        await mutating
        assert observer.result.data == ["a", "b", "mine"]
        await watch.push(["a", "b", "mine", "c"])
        assert (observer.result.data, phase(client), watch.opened) == (["a", "b", "mine", "c"], "live", 1)

    async def test_a_failed_one_takes_back_its_own_change_alone(self, client):
        async def fails(variables):
            await asyncio.sleep(1)
            raise LookupError

        watch = Watch(["a"])
        observer = observed(client, watch)
        await settled()
        mutating = client.mutate(fails, "mine", optimistic=[(KEY, lambda data, new: [*data, new])])
        await watch.push(lambda names: [*names, "b"])
        assert observer.result.data == ["a", "b", "mine"]
        with pytest.raises(LookupError):
            await mutating
        assert (observer.result.data, watch.closed) == (["a", "b"], 0)

    @pytest.mark.parametrize("how", ["it stops", "it ends", "it fails"])
    async def test_S7_a_change_becomes_data_when_the_source_ends_without_a_push(self, client, how):
        watch, gate = Watch(["a"]), asyncio.Queue()
        observer = observed(client, watch, gc_time=10)
        await settled()
        mutating = self.add(client, gate, "mine")
        gate.put_nowait(None)
        await mutating
        if how == "it stops":
            observer.close()
            await asyncio.sleep(6)
        else:
            await watch.push(None if how == "it ends" else ConnectionError())
        query = client.cache.find(KEY)
        assert (query.layers, query.data) == (None, ["a", "mine"])
        observer.close()
        await asyncio.sleep(60)
        assert len(client.cache) == 0

    @pytest.mark.parametrize("last", [["a", "mine"], ConnectionError()], ids=["a push", "its failure"])
    async def test_S7_in_its_grace_time_what_settles_a_change_lets_the_entry_be_collected(self, client, last):
        watch, gate = Watch(["a"]), asyncio.Queue()
        observer = observed(client, watch, gc_time=1, grace=60)
        await settled()
        observer.close()
        mutating = self.add(client, gate, "mine")
        gate.put_nowait(None)
        await mutating
        await watch.push(last)
        await asyncio.sleep(10)
        assert (len(client.cache), watch.closed) == (0, 1)


class TestWhatIsKept:
    async def test_S3_a_failed_source_is_forgotten_with_what_it_had_used(self, client):
        async def source():
            use_identity(A)
            raise LookupError("ada's")
            yield

        observer = QueryObserver(client, KEY, live(source), retry=0)
        with observer.subscribe(lambda result: None):
            await settled()
            assert (str(observer.result.error), str(observer.result.live.error)) == ("ada's", "ada's")
            client.forget(A)
            result = observer.result
            assert (result.error, result.live.error, result.live.phase) == (None, None, "stopped")
            await asyncio.sleep(100)
            assert (observer.result.status, client.stats().fetches) == ("pending", 1)

    @pytest.mark.parametrize("first", [True, False], ids=["named before it", "named after it"])
    async def test_S3_the_last_error_of_a_live_one_goes_with_its_identity(self, client, first):
        go = asyncio.Event()

        async def source():
            if first:
                use_identity(A)
            yield "data"
            await go.wait()
            use_identity(A)
            raise LookupError("ada's")

        observer = QueryObserver(client, KEY, live(source))
        with observer.subscribe(lambda result: None):
            await settled()
            go.set()
            await settled()
            assert str(observer.result.live.error) == "ada's"
            client.forget(A)
            result = observer.result
            assert (result.live.error, result.live.phase, result.has_data) == (None, "stopped", False)

    async def test_S3_what_is_known_of_a_forgotten_identity_is_no_error_to_keep(self, client):
        client.set_query_data(("rights",), "ada's", identity=A)
        go = asyncio.Event()

        async def source():
            yield "data"
            await go.wait()
            rights = client.get_query_data(("rights",))
            client.core.cache.ledger.stamp(A)  # as if nobody could be told
            raise LookupError(rights)

        observer = QueryObserver(client, KEY, live(source))
        with observer.subscribe(lambda result: None):
            await settled()
            go.set()
            await settled()
            assert (observer.result.live.phase, observer.result.live.error) == ("retrying", None)

    async def test_a_removed_one_keeps_no_error(self, client):
        watch = Watch("one")
        observer = observed(client, watch)
        await settled()
        await watch.push(LookupError("broken"))
        client.remove_queries(KEY)
        assert (observer.result.live.phase, observer.result.live.error) == ("stopped", None)

    async def test_S3_during_backoff_a_forgotten_one_is_started_by_nothing_but_the_restart(self, client):
        watch = Watch("ada's", identity=A)
        observer = observed(client, watch)
        await settled()
        await watch.push(ConnectionError())
        client.forget(A)
        client.invalidate_queries(KEY)
        client.focus.set(False)
        client.focus.set(True)
        await asyncio.sleep(100)
        assert (watch.opened, observer.result.live.phase) == (1, "stopped")
        client.forget(A, restart=True)
        await settled()
        assert (watch.opened, observer.result.live.phase) == (2, "live")

    async def test_S3_an_identity_named_after_it_was_forgotten_is_the_new_one(self, client):
        go = asyncio.Event()

        async def source():
            yield "nobody's"
            await go.wait()
            use_identity(A)
            yield "bob's"
            await asyncio.Event().wait()

        observer = QueryObserver(client, KEY, live(source))
        with observer.subscribe(lambda result: None):
            await settled()
            client.forget(A)
            go.set()
            await settled()
            assert (observer.result.data, observer.result.live.phase) == ("bob's", "live")
            client.forget(A)
            assert observer.result.is_pending

    async def test_S6_many_starts_and_stops_leave_nothing(self, client):
        watch = Watch("one", identity=A)
        for _ in range(200):
            observer = observed(client, watch, grace=0)
            await asyncio.sleep(0.01)
            observer.close()
            await asyncio.sleep(0.01)
        ledger = client.cache.ledger
        gc.collect()
        assert (watch.opened, watch.closed) == (200, 200)
        assert (len(ledger._holders[A]), len(ledger.living), len(client.core.timetable)) == (1, 0, 0)
        assert len(client.core.runtime._tasks) == 0

    async def test_the_time_of_a_phase_is_that_of_its_beginning_whenever_it_is_read(self, client):
        observer = observed(client, Watch("one"))
        await asyncio.sleep(3)
        client.invalidate_queries(KEY, refetch_type="none")
        await asyncio.sleep(3)
        assert (observer.result.live.phase, observer.result.live.since) == ("stale", 3)


class TestCallers:
    async def test_a_timeout_of_a_caller_ends_his_wait_and_lets_the_source_go_after_its_grace_time(self, client):
        watch = Watch()
        with pytest.raises(QueryTimeout):
            await client.query(KEY, live(watch, grace=5), timeout=1)
        await asyncio.sleep(4)
        assert watch.closed == 0
        await asyncio.sleep(2)
        assert (watch.closed, phase(client)) == (1, "stopped")

    async def test_what_comes_after_the_timeout_of_an_observed_one_takes_the_error_away(self, client):
        watch = Watch()
        observer = observed(client, watch, timeout=1)
        await asyncio.sleep(2)
        assert (observer.result.status, type(observer.result.error)) == ("error", QueryTimeout)
        await watch.push("one")
        assert (observer.result.status, observer.result.data, observer.result.live.phase) == ("success", "one", "live")
        assert watch.opened == 1

    async def test_a_gc_time_of_0_leaves_no_grace_time(self, client):
        watch = Watch("one")
        assert await client.query(KEY, live(watch, grace=60), gc_time=0) == "one"
        await asyncio.sleep(2)
        assert (watch.closed, len(client.cache)) == (1, 0)

    async def test_S2_a_storm_of_invalidations_leaves_one_source_that_is_live(self, client):
        running = []

        async def source():
            running.append(1)
            try:
                await asyncio.sleep(0.05)
                yield "data"
                await asyncio.Event().wait()
            finally:
                running.pop()

        seen = set()
        observer = QueryObserver(client, KEY, live(source))
        with observer.subscribe(lambda result: seen.add(len(running))):
            for _ in range(200):
                client.invalidate_queries(KEY)
                await asyncio.sleep(0.003)
            await asyncio.sleep(1)
            assert (observer.result.live.phase, observer.result.is_stale, running) == ("live", False, [1])
            assert max(seen) <= 2  # the one before may still unwind
