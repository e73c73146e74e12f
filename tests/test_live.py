"""Live queries: a source that pushes starts with the first observer, is shared, and stops after the last."""

from __future__ import annotations

import asyncio
import gc
import sys

import pytest

from querykit import (
    QueryCancelled,
    QueryClient,
    QueryCycleError,
    QueryObserver,
    SourceEnded,
    live,
    query_options,
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


class TestStarting:
    async def test_the_source_starts_with_the_first_observer_and_is_shared_by_all(self, client):
        watch = Watch("one")
        QueryObserver(client, KEY, live(watch))
        await settled()
        assert watch.opened == 0
        first, second = observed(client, watch), observed(client, watch)
        await settled()
        assert (watch.opened, first.result.data, second.result.data) == (1, "one", "one")

    async def test_the_result_tells_connecting_and_then_live_since_when(self, client):
        watch = Watch()
        observer = observed(client, watch)
        await asyncio.sleep(3)
        assert (observer.result.live.phase, observer.result.live.since) == ("connecting", 0)
        assert (observer.result.is_pending, observer.result.fetch_status) == (True, "fetching")
        await watch.push("one")
        result = observer.result
        assert (result.live.phase, result.live.since, result.live.error) == ("live", 3, None)
        assert (result.data, result.fetch_status, result.is_stale) == ("one", "idle", False)

    async def test_it_starts_for_an_observer_of_fresh_data_too(self, client):
        client.set_query_data(KEY, "set before")
        watch = Watch("one")
        observer = observed(client, watch, stale_time="static")
        await settled()
        assert (watch.opened, observer.result.data) == (1, "one")

    async def test_a_disabled_observer_starts_nothing_until_it_is_enabled(self, client):
        watch = Watch("one")
        fn = live(watch)
        observer = QueryObserver(client, KEY, fn, enabled=False)
        observer.subscribe(lambda result: None)
        await settled()
        assert watch.opened == 0
        observer.set_options(KEY, fn)
        await settled()
        assert watch.opened == 1

    async def test_it_is_connecting_from_the_moment_it_is_wanted(self, client):
        watch = Watch()
        observer = observed(client, watch)
        assert observer.result.live.phase == "connecting"
        await settled()
        await watch.push("one")
        client.invalidate_queries(KEY)
        assert observer.result.live.phase == "stale"
        await settled()

    async def test_data_set_before_it_has_begun_lets_it_begin(self, client):
        watch = Watch()
        observer = observed(client, watch)
        client.set_query_data(KEY, "by hand")
        await asyncio.sleep(0.1)
        await watch.push("one")
        assert (observer.result.data, observer.result.live.phase, watch.opened) == ("one", "live", 1)

    async def test_cancelled_before_it_has_begun_it_is_stopped(self, client):
        watch = Watch()
        observer = observed(client, watch)
        client.cancel_queries(KEY)
        await asyncio.sleep(9)
        assert (observer.result.live.phase, watch.opened - watch.closed) == ("stopped", 0)

    async def test_any_other_query_has_no_live_state(self, client):
        observer = QueryObserver(client, KEY, lambda: 1)
        assert observer.result.live is None

    async def test_the_source_may_take_the_context(self, client):
        async def source(ctx):
            yield (ctx.query_key, dict(ctx.meta))
            await asyncio.Event().wait()

        observer = QueryObserver(client, KEY, live(source), meta={"why": "test"})
        with observer.subscribe(lambda result: None):
            await settled()
            assert observer.result.data == (KEY, {"why": "test"})

    async def test_async_iterables_that_are_no_generators_will_do(self, client):
        class Numbers:
            def __aiter__(self):
                return self

            async def __anext__(self):
                await asyncio.sleep(1)
                return client.core.runtime.now()

        assert await client.query(KEY, live(lambda: Numbers())) == 1.0


class TestPushing:
    async def test_each_value_replaces_the_data(self, client):
        watch, told = Watch("one"), []
        observed(client, watch, told=told)
        await settled()
        await watch.push("two")
        await watch.push("three")
        assert [result.data for result in told if result.data] == ["one", "two", "three"]
        assert client.get_query_state(KEY).data_update_count == 3

    async def test_a_function_updates_the_data_there_is(self, client):
        watch = Watch(["a"])
        observer = observed(client, watch)
        await settled()
        await watch.push(lambda pods: [*pods, "b"])
        await watch.push(lambda pods: skip)
        assert observer.result.data == ["a", "b"]

    async def test_an_updater_keeps_the_change_of_a_mutation_that_has_succeeded(self, client):
        watch = Watch(["a"])
        observer = observed(client, watch)
        await settled()
        await client.mutate(lambda name: None, "mine", optimistic=[(KEY, lambda pods, name: [*pods, name])])
        await watch.push(lambda pods: [*pods, "another"])
        assert observer.result.data == ["a", "mine", "another"]
        await watch.push(["a", "another"])
        assert observer.result.data == ["a", "another"]

    async def test_an_updater_cannot_be_the_first_value(self, client):
        watch = Watch(lambda pods: pods)
        with pytest.raises(TypeError, match="first value of the live query"):
            await client.query(KEY, live(watch), retry=0)

    @pytest.mark.parametrize("value", [(n for n in ()), asyncio.sleep], ids=["generator", "coroutine"])
    async def test_what_cannot_be_data_fails_the_source(self, client, value):
        given = value(0) if callable(value) else value
        with pytest.raises(TypeError, match=r"generator|await it"):
            await client.query(KEY, live(Watch(given)), retry=0)
        if asyncio.iscoroutine(given):
            given.close()

    async def test_equal_parts_keep_their_identity(self, client):
        watch = Watch([{"name": "a"}, {"name": "b"}])
        observer = observed(client, watch)
        await settled()
        before = observer.result.data
        await watch.push([{"name": "a"}, {"name": "c"}])
        assert observer.result.data[0] is before[0]

    async def test_data_is_fresh_as_long_as_the_source_is_live(self, client):
        watch = Watch("one")
        observer = observed(client, watch)
        await asyncio.sleep(1000)
        assert not observer.result.is_stale
        assert await client.query(KEY, live(watch)) == "one"
        assert watch.opened == 1

    async def test_a_query_on_it_is_answered_by_its_first_value(self, client):
        watch = Watch()
        asking = asyncio.ensure_future(client.query(KEY, live(watch)))
        await settled()
        watch.values.put_nowait("one")
        assert await asking == "one"

    async def test_a_value_that_comes_with_the_first_one_is_not_lost(self, client):
        watch = Watch("one", "two")
        observer = observed(client, watch)
        await settled()
        assert observer.result.data == "two"

    async def test_set_query_data_leaves_it_running(self, client):
        watch = Watch("one")
        observer = observed(client, watch)
        await settled()
        client.set_query_data(KEY, "by hand")
        await settled()
        assert (observer.result.data, phase(client), watch.opened) == ("by hand", "live", 1)
        await watch.push("two")
        assert (observer.result.data, watch.closed) == ("two", 0)

    async def test_set_query_data_before_the_first_value_leaves_it_connecting(self, client):
        watch = Watch()
        observer = observed(client, watch)
        await settled()
        client.set_query_data(KEY, "by hand")
        await settled()
        assert (observer.result.data, phase(client), observer.result.fetch_status) == ("by hand", "connecting", "idle")
        await watch.push("one")
        assert (observer.result.data, phase(client), watch.opened) == ("one", "live", 1)


class TestStopping:
    async def test_it_stops_a_grace_time_after_the_last_observer_has_left(self, client):
        watch = Watch("one")
        first, second = observed(client, watch, grace=5), observed(client, watch, grace=5)
        await settled()
        first.close()
        await asyncio.sleep(9)
        assert watch.closed == 0
        second.close()
        await asyncio.sleep(4.9)
        assert (watch.closed, phase(client)) == (0, "live")
        await asyncio.sleep(0.2)
        assert (watch.closed, phase(client)) == (1, "stopped")
        assert client.get_query_data(KEY) == "one"

    async def test_who_comes_within_the_grace_time_finds_it_running(self, client):
        watch = Watch("one")
        observer = observed(client, watch)
        await settled()
        observer.close()
        await asyncio.sleep(4)
        observer = observed(client, watch)
        await asyncio.sleep(9)
        assert (watch.opened, watch.closed, observer.result.live.phase) == (1, 0, "live")

    async def test_who_comes_later_starts_it_again(self, client):
        watch = Watch("one")
        observer = observed(client, watch)
        await settled()
        observer.close()
        await asyncio.sleep(6)
        observer = observed(client, watch)
        await settled()
        assert (watch.opened, watch.closed, observer.result.live.phase) == (2, 1, "live")

    async def test_data_is_as_old_as_the_end_of_its_source(self, client):
        watch = Watch("one")
        observer = observed(client, watch)
        await asyncio.sleep(100)
        observer.close()
        await asyncio.sleep(5)
        assert await client.query(KEY, lambda: "other", stale_time=3) == "one"
        await asyncio.sleep(3)
        assert await client.query(KEY, lambda: "other", stale_time=3) == "other"

    async def test_a_query_alone_lets_it_go_after_the_grace_time(self, client):
        watch = Watch("one")
        await client.query(KEY, live(watch, grace=2))
        await asyncio.sleep(1.9)
        assert watch.closed == 0
        await asyncio.sleep(0.2)
        assert watch.closed == 1

    async def test_a_caller_who_is_cancelled_lets_it_go_too(self, client):
        watch = Watch()
        asking = asyncio.ensure_future(client.query(KEY, live(watch, grace=2)))
        await settled()
        asking.cancel()
        await asyncio.sleep(3)
        assert (watch.closed, client.is_fetching()) == (1, 0)

    @pytest.mark.parametrize("how", ["remove_queries", "clear"])
    async def test_removal_stops_it_at_once(self, client, how):
        watch = Watch("one")
        observer = observed(client, watch)
        await settled()
        getattr(client, how)()
        assert (observer.result.is_pending, observer.result.live.phase) == (True, "stopped")
        await settled()
        assert watch.closed == 1

    async def test_a_reset_starts_it_anew_where_it_is_observed(self, client):
        watch = Watch()
        observer = observed(client, watch)
        await settled()
        await watch.push("one")
        client.reset_queries(KEY)
        assert observer.result.is_pending
        await settled()
        await watch.push("one")
        assert (watch.opened, watch.closed, observer.result.data, observer.result.live.phase) == (2, 1, "one", "live")

    async def test_cancelling_stops_what_has_brought_nothing_yet(self, client):
        watch = Watch()
        observer = observed(client, watch)
        await settled()
        client.cancel_queries(KEY)
        await settled()
        assert (watch.closed, observer.result.live.phase, observer.result.fetch_status) == (1, "stopped", "idle")

    async def test_cancelling_leaves_one_that_is_live(self, client):
        watch = Watch("one")
        observer = observed(client, watch)
        await settled()
        client.cancel_queries(KEY)
        await settled()
        assert (watch.closed, observer.result.live.phase) == (0, "live")

    async def test_closing_the_client_stops_it(self):
        watch = Watch("one")
        async with QueryClient() as client:
            observed(client, watch)
            await settled()
        assert watch.closed == 1

    async def test_an_expired_entry_takes_its_source_with_it(self, client):
        watch = Watch("one")
        await client.query(KEY, live(watch, grace=60), gc_time=1)
        await asyncio.sleep(2)
        assert (watch.closed, len(client.cache)) == (1, 0)


class TestFailing:
    async def test_one_that_fails_is_started_again_with_backoff(self, client):
        watch, told = Watch("one"), []
        observer = observed(client, watch, told=told)
        await settled()
        await watch.push(ConnectionError("lost"))
        result = observer.result
        assert (result.live.phase, str(result.live.error), result.data) == ("retrying", "lost", "one")
        assert (result.status, result.is_stale) == ("success", True)
        assert watch.opened == 1
        await asyncio.sleep(2.1)
        result = observer.result
        assert (watch.opened, result.live.phase, result.live.error) == (2, "live", None)

    async def test_the_delay_grows_to_30_seconds_and_starts_over_after_a_long_life(self, client):
        watch = Watch("one")
        observed(client, watch, retry=0)
        delays = []
        for _ in range(7):
            await settled()
            opened, began = watch.opened, client.core.runtime.now()
            await watch.push(None)
            while watch.opened == opened:
                await asyncio.sleep(0.5)
            delays.append(client.core.runtime.now() - began)
        assert delays == pytest.approx([2, 4, 8, 16, 30, 30, 30], abs=0.6)
        await asyncio.sleep(31)
        opened = watch.opened
        await watch.push(None)
        await asyncio.sleep(2.5)
        assert watch.opened == opened + 1

    async def test_one_that_ends_is_started_again_without_an_error(self, client):
        watch = Watch("one")
        observer = observed(client, watch)
        await settled()
        await watch.push(None)
        assert (observer.result.live.phase, observer.result.live.error) == ("retrying", None)
        await asyncio.sleep(2.1)
        assert observer.result.live.phase == "live"

    async def test_a_first_start_that_fails_is_retried_as_any_fetch_and_then_as_a_source(self, client):
        class Fails(Watch):
            async def __call__(self):
                self.opened += 1
                raise ConnectionError(self.opened)
                yield

        watch = Fails()
        observer = observed(client, watch, retry=1)
        await asyncio.sleep(1.1)
        result = observer.result
        assert (watch.opened, result.status, result.live.phase, str(result.error)) == (2, "error", "retrying", "2")
        await asyncio.sleep(4.1)
        assert watch.opened == 3

    async def test_a_source_that_ends_before_its_first_value_has_failed(self, client):
        async def nothing():
            return
            yield

        with pytest.raises(SourceEnded, match="ended before its first value") as caught:
            await client.query(KEY, live(nothing), retry=0)
        assert caught.value.key == KEY

    async def test_nobody_starts_again_what_nobody_observes(self, client):
        watch = Watch("one")
        observer = observed(client, watch)
        await settled()
        await watch.push(ConnectionError())
        observer.close()
        await asyncio.sleep(100)
        assert (watch.opened, phase(client)) == (1, "stopped")

    async def test_a_source_that_raises_cancelled_error_by_itself_has_failed(self, client):
        watch = Watch("one")
        observer = observed(client, watch)
        await settled()

        async def source():
            yield "one"
            raise asyncio.CancelledError

        other = QueryObserver(client, ("other",), live(source))
        with other.subscribe(lambda result: None):
            await settled()
            assert other.result.live.phase == "retrying"
        assert observer.result.live.phase == "live"

    async def test_offline_it_waits_for_the_network(self, client):
        watch = Watch("one")
        observer = observed(client, watch)
        await settled()
        client.online.set(False)
        await watch.push(ConnectionError())
        await asyncio.sleep(60)
        assert (watch.opened, observer.result.fetch_status) == (1, "paused")
        client.online.set(True)
        await settled()
        assert (watch.opened, observer.result.live.phase) == (2, "live")

    async def test_a_fetch_that_fails_before_it_starts_is_repeated_with_backoff_too(self, client):
        client.online.set(False)
        watch = Watch("one")
        observed(client, watch, timeout=1)
        await asyncio.sleep(10)
        assert 2 <= client.stats().fetches <= 6

    @pytest.mark.parametrize("made", [lambda: [1], lambda: 1], ids=["list", "number"])
    async def test_what_gives_no_values_is_refused(self, client, made):
        with pytest.raises(TypeError, match="no async generator"):
            await client.query(KEY, live(made), retry=0)

    def test_bad_arguments_are_refused(self):
        with pytest.raises(TypeError, match="async generator function"):
            live(Watch("one")())  # type: ignore[call-overload]
        with pytest.raises(ValueError, match="grace"):
            live(Watch("one"), grace=-1)
        with pytest.raises(TypeError, match="grace"):
            live(Watch("one"), grace="5 s")


class TestResync:
    async def test_an_invalidation_starts_it_anew_and_keeps_the_old_data_meanwhile(self, client):
        watch = Watch()
        observer = observed(client, watch)
        await settled()
        await watch.push("one")
        began = client.invalidate_queries(KEY)
        result = observer.result
        assert (result.data, result.is_stale, result.fetch_status) == ("one", True, "fetching")
        await settled()
        assert (watch.opened, watch.closed, observer.result.live.phase) == (2, 1, "stale")
        watch.values.put_nowait("two")
        await began
        result = observer.result
        assert (result.data, result.is_stale, result.live.phase) == ("two", False, "live")

    async def test_a_resync_without_an_invalidation_tells_that_the_data_ages(self, client):
        watch, told = Watch(), []
        observer = observed(client, watch, told=told)
        await settled()
        await watch.push("one")
        observer.refetch()
        await settled()
        assert told[-1] is observer.result
        assert (observer.result.is_stale, observer.result.live.phase) == (True, "stale")

    async def test_S2_what_an_older_run_brings_after_an_invalidation_is_stale(self, client):
        watch = Watch("one")
        observer = observed(client, watch)
        await settled()
        client.invalidate_queries(KEY, refetch_type="none")
        await watch.push("two")
        result = observer.result
        assert (result.data, result.is_stale, result.is_invalidated, result.live.phase) == ("two", True, True, "stale")
        assert watch.opened == 1

    async def test_S2_steady_invalidation_starves_nobody(self, client):
        watch = Watch()
        observer = observed(client, watch)
        for n in range(5):
            client.invalidate_queries(KEY)
            await settled()
            if n == 3:
                await watch.push("came")
        assert observer.result.data == "came"

    async def test_one_more_query_after_an_invalidation_is_answered_by_the_next_first_value(self, client):
        watch = Watch("one")
        await client.query(KEY, live(watch))
        client.invalidate_queries(KEY)
        watch.first = ("two",)
        assert await client.query(KEY) == "two"


class TestIdentities:
    async def test_S3_forgetting_stops_it_at_once_and_parks_the_key(self, client):
        watch = Watch("ada's", identity=A)
        observer = observed(client, watch)
        await settled()
        client.forget(A)
        assert (observer.result.has_data, observer.result.live.phase) == (False, "stopped")
        await asyncio.sleep(60)
        assert (watch.opened, watch.closed, observer.result.is_pending) == (1, 1, True)

    async def test_S3_a_restart_lets_it_run_again(self, client):
        watch = Watch("ada's", identity=A)
        observer = observed(client, watch)
        await settled()
        client.forget(A)
        watch.first = ("bob's",)
        client.forget(A, restart=True)
        await settled()
        assert (watch.opened, observer.result.data, observer.result.live.phase) == (2, "bob's", "live")

    async def test_S3_what_it_says_after_it_was_forgotten_is_refused(self, client):
        class Stubborn(Watch):
            async def __call__(self):
                self.opened += 1
                use_identity(A)
                yield "ada's"
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    yield "ada's last words"
                self.closed += 1

        watch = Stubborn()
        observer = observed(client, watch)
        await settled()
        client.forget(A)
        await settled()
        assert observer.result.is_pending
        assert not client.get_queries_data()

    async def test_S3_one_that_has_named_an_identity_and_brought_nothing_goes_too(self, client):
        watch = Watch(identity=A)
        asking = asyncio.ensure_future(client.query(KEY, live(watch)))
        await settled()
        client.forget(A)
        with pytest.raises(QueryCancelled):
            await asking
        await settled()
        assert watch.closed == 1

    async def test_S3_identities_it_uses_later_belong_to_what_it_brings_later(self, client):
        async def source():
            yield "nobody's"
            use_identity(A)
            yield "ada's"
            await asyncio.Event().wait()

        observer = QueryObserver(client, KEY, live(source))
        with observer.subscribe(lambda result: None):
            await settled()
            assert observer.result.data == "ada's"
            client.forget(A)
            assert observer.result.is_pending

    async def test_S3_the_declared_identity_counts(self, client):
        watch = Watch("ada's")
        observer = observed(client, watch, identity=A)
        await settled()
        client.forget(A)
        assert observer.result.is_pending
        await settled()

    async def test_S3_a_reader_takes_on_its_identities(self, client):
        watch = Watch("ada's", identity=A)
        observed(client, watch)
        await settled()
        await client.query(("other",), lambda: client.get_query_data(KEY))
        client.forget(A)
        assert client.get_query_data(("other",)) is None
        await settled()


class TestFromInside:
    async def test_S1_waiting_for_its_own_first_value_is_a_circle(self, client):
        async def source():
            yield await client.query(KEY)

        with pytest.raises(QueryCycleError):
            await client.query(KEY, live(source), retry=0)

    async def test_S1_removing_itself_before_its_first_value_dooms_it(self, client):
        async def source():
            client.remove_queries(KEY)
            yield "dropped"

        with pytest.raises(QueryCancelled):
            await client.query(KEY, live(source), retry=0)
        assert client.get_query_data(KEY) is None

    async def test_it_may_invalidate_itself_and_is_started_anew(self, client):
        runs = []

        async def source():
            runs.append(1)
            yield len(runs)
            if len(runs) == 1:
                client.invalidate_queries(KEY)
            await asyncio.Event().wait()

        observer = QueryObserver(client, KEY, live(source))
        with observer.subscribe(lambda result: None):
            await settled()
            assert (observer.result.data, len(runs)) == (2, 2)

    async def test_it_may_remove_itself_once_it_is_live(self, client):
        async def source():
            yield 1
            client.remove_queries(KEY)
            yield 2

        observer = QueryObserver(client, KEY, live(source))
        with observer.subscribe(lambda result: None):
            await settled()
            assert (observer.result.is_pending, observer.result.live.phase) == (True, "stopped")

    async def test_an_updater_that_removes_what_it_updates_brings_nothing(self, client):
        watch = Watch(1)
        observer = observed(client, watch)
        await settled()
        await watch.push(lambda data: (client.remove_queries(KEY), data + 1)[1])
        assert observer.result.is_pending
        await settled()
        assert watch.closed == 1


async def test_its_writes_to_other_keys_count_from_when_they_are_made(client):
    go = asyncio.Event()

    async def source():
        yield 1
        await go.wait()
        client.set_query_data(("other",), "new")
        await asyncio.Event().wait()

    observer = QueryObserver(client, KEY, live(source))
    with observer.subscribe(lambda result: None):
        await settled()
        client.set_query_data(("other",), "old")
        client.invalidate_queries(("other",))
        go.set()
        await settled()
        state = client.get_query_state(("other",))
        assert (state.data, state.is_invalidated) == ("new", False)


async def test_S6_one_that_lives_long_gathers_no_notes_of_what_is_invalidated_meanwhile(client):
    observed(client, Watch("one"))
    await settled()
    for n in range(500):
        client.invalidate_queries(("other", n))
        client.remove_queries(("another", n), exact=True)
    assert len(client.cache._invalidated) + len(client.cache._removed) <= 2 * 64 + 2


async def test_a_select_sees_what_is_pushed(client):
    watch = Watch(["a"])
    observer = QueryObserver(client, query_options(KEY, live(watch)).select(len))
    with observer.subscribe(lambda result: None):
        await settled()
        await watch.push(lambda pods: [*pods, "b"])
        assert observer.result.data == 2


def test_it_shows_what_it_is_made_of():
    async def pods():
        yield 1

    assert repr(live(pods)) == "live(test_it_shows_what_it_is_made_of.<locals>.pods)"


def test_a_loop_that_was_closed_around_it_ends_it_without_a_word(monkeypatch):
    ignored = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: ignored.append(unraisable.exc_value))
    loop = new_virtual_loop()
    loop.set_exception_handler(lambda loop, context: None)  # asyncio's own: a task was destroyed

    async def source():
        yield 1
        await asyncio.Event().wait()

    async def begin():
        client = QueryClient()
        observer = QueryObserver(client, KEY, live(source))
        observer.subscribe(lambda result: None)
        await settled()
        return observer.result.data

    assert loop.run_until_complete(begin()) == 1
    loop.close()
    gc.collect()
    assert not ignored
