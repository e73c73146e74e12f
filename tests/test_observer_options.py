"""Options of an observer that decide whether it fetches: `enabled`, `stale_time`, `refetch_on_mount`."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest

from querykit import (
    QueryClient,
    QueryObserver,
)
from tests.fetches import Gate, Upstream, settled
from tests.observing import Results, exceptions, now

pytestmark = pytest.mark.virtual_time

KEY = ("pods", "prod")


async def failing():
    raise LookupError("no")


class TestRefetchOnMount:
    @pytest.mark.parametrize(
        ("option", "age", "fetches"),
        [
            (True, 5, 0),
            (True, 10, 1),
            (False, 10, 0),
            ("always", 5, 1),
            (lambda query: "always", 5, 1),
            (lambda query: query.data == "set", 10, 1),
            (lambda query: False, 10, 0),
        ],
        ids=["fresh", "stale", "off", "always", "callable-always", "callable-true", "callable-false"],
    )
    async def test_trap_20_it_fetches_stale_data_or_always_or_never(self, option, age, fetches):
        async with QueryClient() as client:
            client.set_query_data(KEY, "set", age=age)
            upstream = Upstream()
            with QueryObserver(client, KEY, upstream, stale_time=10, refetch_on_mount=option):
                await settled()
            assert upstream.calls == fetches

    async def test_trap_20_the_first_load_does_not_depend_on_it(self):
        async with QueryClient() as client:
            upstream = Upstream()
            with QueryObserver(client, KEY, upstream, refetch_on_mount=False):
                await settled()
            assert upstream.calls == 1

    async def test_trap_20_static_data_is_not_fetched_by_always_either(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, "set")
            upstream = Upstream()
            with QueryObserver(client, KEY, upstream, stale_time="static", refetch_on_mount="always"):
                await settled()
            assert upstream.calls == 0

    @pytest.mark.parametrize(("option", "fetches"), [(True, 1), (False, 0)])
    async def test_trap_20_retry_on_mount_decides_about_a_query_whose_first_fetch_failed(self, option, fetches):
        async with QueryClient() as client:
            with pytest.raises(LookupError):
                await client.query(KEY, failing, retry=0)
            upstream = Upstream()
            with QueryObserver(client, KEY, upstream, retry_on_mount=option) as observer:
                await settled()
                assert observer.result.status == ("success" if fetches else "error")
            assert upstream.calls == fetches

    async def test_retry_on_mount_says_nothing_of_data_that_could_not_be_refreshed(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, "old", age=10)
            with pytest.raises(LookupError):
                await client.query(KEY, failing, retry=0)
            upstream = Upstream()
            with QueryObserver(client, KEY, upstream, stale_time=60, retry_on_mount=False):
                await settled()
            assert upstream.calls == 1

    async def test_a_rule_that_raises_is_reported_and_says_no(self, reported):
        async with QueryClient() as client:
            client.set_query_data(KEY, "set", age=10)
            upstream = Upstream()
            with QueryObserver(client, KEY, upstream, refetch_on_mount=lambda query: 1 / 0) as observer:
                await settled()
                assert (upstream.calls, observer.result.data) == (0, "set")
            told = reported.take()
            assert [type(each["exception"]) for each in told] == [ZeroDivisionError]
            assert "refetch_on_mount of ('pods', 'prod')" in told[0]["message"]

    async def test_a_rule_that_returns_a_wrong_value_is_reported_and_says_no(self, reported):
        async with QueryClient() as client:
            client.set_query_data(KEY, "set", age=10)
            upstream = Upstream()
            with QueryObserver(client, KEY, upstream, refetch_on_mount=lambda query: "never"):
                await settled()
            assert upstream.calls == 0
            assert exceptions(reported) == [ValueError]


class TestStaleTime:
    @pytest.mark.parametrize(
        ("option", "is_stale"),
        [
            (0, True),
            (10, True),
            (10.5, False),
            (timedelta(seconds=11), False),
            (math.inf, False),
            ("static", False),
            (lambda query: 11, False),
            (lambda query: timedelta(seconds=9), True),
            (lambda query: "static", False),
        ],
        ids=["0", "boundary", "fresh", "timedelta", "inf", "static", "callable", "callable-td", "callable-static"],
    )
    async def test_trap_8_in_all_its_forms_the_age_of_ten_seconds_is_judged(self, option, is_stale):
        async with QueryClient() as client:
            client.set_query_data(KEY, "set", age=10)
            upstream = Upstream()
            with QueryObserver(client, KEY, upstream, stale_time=option) as observer:
                assert observer.result.is_stale is is_stale
                await settled()
            assert upstream.calls == is_stale

    async def test_trap_8_a_callable_is_asked_with_the_query_itself(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, {"ttl": 20}, age=10)
            with QueryObserver(client, KEY, Upstream(), stale_time=lambda query: query.state.data["ttl"]) as observer:
                assert not observer.result.is_stale

    async def test_trap_9_static_data_that_is_invalidated_is_flagged_and_not_stale(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, "set")
            with QueryObserver(client, KEY, Upstream(), stale_time="static") as observer:
                client.invalidate_queries(KEY)
                assert (observer.result.is_invalidated, observer.result.is_stale) == (True, False)

    async def test_trap_9_a_static_query_that_has_no_data_is_fetched_by_client_methods(self):
        async with QueryClient() as client:
            upstream = Upstream()
            upstream.error = LookupError("no")
            with QueryObserver(client, KEY, upstream, stale_time="static", retry=0) as observer:
                await settled()
                upstream.error = None
                await client.refetch_queries(KEY)
                assert observer.result.data == "new 2"

    async def test_a_callable_that_raises_is_reported_and_counts_as_zero(self, reported):
        async with QueryClient() as client:
            client.set_query_data(KEY, "set")
            with QueryObserver(client, KEY, stale_time=lambda query: 1 / 0) as observer:
                assert observer.result.is_stale
        assert set(exceptions(reported)) == {ZeroDivisionError}

    async def test_two_observers_judge_the_same_data_by_their_own_times(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, "set", age=10)
            with QueryObserver(client, KEY, stale_time=5) as one, QueryObserver(client, KEY, stale_time=15) as other:
                assert (one.result.is_stale, other.result.is_stale) == (True, False)
                assert one.query.is_stale(now())


class TestEnabled:
    async def test_trap_8_a_disabled_observer_reports_not_stale_and_fetches_nothing(self):
        async with QueryClient() as client:
            upstream = Upstream()
            with QueryObserver(client, KEY, upstream, enabled=False) as observer:
                await settled()
                result = observer.result
                assert (result.is_stale, result.is_enabled) == (False, False)
                assert (result.is_pending, result.is_loading) == (True, False)
            assert upstream.calls == 0

    async def test_a_disabled_observer_does_not_make_the_query_active(self):
        async with QueryClient() as client:
            with QueryObserver(client, KEY, Upstream(), enabled=False) as observer:
                query = observer.query
                assert (query.is_active, query.is_disabled, query.is_stale(now())) == (False, True, False)
                with QueryObserver(client, KEY, Upstream()):
                    assert (query.is_active, query.is_disabled) == (True, False)

    @pytest.mark.parametrize(
        "act",
        [
            lambda client: client.refetch_queries(KEY),
            lambda client: client.invalidate_queries(KEY),
            lambda client: client.invalidate_queries(KEY, refetch_type="all"),
            lambda client: client.invalidate_queries(KEY, refetch_type="inactive"),
            lambda client: client.reset_queries(KEY),
        ],
        ids=["refetch", "invalidate", "invalidate-all", "invalidate-inactive", "reset"],
    )
    async def test_client_methods_do_not_fetch_what_only_disabled_observers_follow(self, act):
        async with QueryClient() as client:
            upstream = Upstream()
            await client.query(KEY, upstream)
            with QueryObserver(client, KEY, upstream, enabled=False):
                await act(client)
                await settled()
            assert upstream.calls == 1

    async def test_refetch_works_on_a_disabled_observer(self):
        async with QueryClient() as client:
            with QueryObserver(client, KEY, Upstream(), enabled=False) as observer:
                result = await observer.refetch()
                assert (result.data, result.is_enabled, result.is_stale) == ("new 1", False, False)

    async def test_a_disabled_observer_is_told_of_what_others_fetch(self):
        async with QueryClient() as client:
            results = Results()
            with QueryObserver(client, KEY, Upstream(), enabled=False).subscribe(results):
                await client.query(KEY, lambda: 1)
            assert results.of("data")[-1] == 1

    async def test_enabling_by_set_options_fetches_stale_data(self):
        async with QueryClient() as client:
            upstream = Upstream()
            with QueryObserver(client, KEY, upstream, enabled=False) as observer:
                observer.set_options(KEY, upstream, enabled=True)
                await settled()
                assert (upstream.calls, observer.result.data) == (1, "new 1")

    async def test_enabling_by_set_options_does_not_fetch_fresh_data(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, "set")
            upstream = Upstream()
            with QueryObserver(client, KEY, upstream, enabled=False) as observer:
                observer.set_options(KEY, upstream, stale_time=10)
                await settled()
            assert upstream.calls == 0

    async def test_disabling_by_set_options_lets_a_running_fetch_end(self):
        async with QueryClient() as client:
            gate = Gate()
            with QueryObserver(client, KEY, gate) as observer:
                await settled()
                observer.set_options(KEY, gate, enabled=False)
                await gate.answer("kept")
                assert (observer.result.data, gate.cancelled) == ("kept", 0)

    async def test_a_callable_decides_by_the_query(self):
        async with QueryClient() as client:
            upstream = Upstream()
            with QueryObserver(client, KEY, upstream, enabled=lambda query: query.has_data) as observer:
                assert not observer.result.is_enabled
                client.set_query_data(KEY, "set")
                assert (observer.result.is_enabled, observer.query.is_active) == (True, True)
                await client.invalidate_queries(KEY)
            assert upstream.calls == 1

    async def test_a_callable_that_raises_is_reported_and_disables(self, reported):
        async with QueryClient() as client:
            upstream = Upstream()
            with QueryObserver(client, KEY, upstream, enabled=lambda query: 1 / 0) as observer:
                await settled()
                assert (observer.result.is_enabled, upstream.calls) == (False, 0)
        assert set(exceptions(reported)) == {ZeroDivisionError}

    async def test_a_callable_that_returns_no_bool_is_reported_and_disables(self, reported):
        async with QueryClient() as client:
            with QueryObserver(client, KEY, Upstream(), enabled=lambda query: "yes") as observer:
                assert not observer.result.is_enabled
        assert set(exceptions(reported)) == {TypeError}

    async def test_a_rule_that_closes_another_observer_disturbs_nobody(self):
        async with QueryClient() as client:
            upstream = Upstream()
            others = [QueryObserver(client, KEY, upstream, stale_time=50) for _ in range(3)]

            def closes(query):
                if client.get_query_data(KEY):
                    others[1].close()
                return True

            with QueryObserver(client, KEY, upstream, enabled=closes, stale_time=50):
                for other in others:
                    other.subscribe(Results())
                await settled()
                await client.invalidate_queries(KEY)
                assert len(client.cache.find(KEY).observers) == 3
            others[0].close()
            others[2].close()

    async def test_a_forgotten_key_that_only_disabled_observers_follow_is_not_fetched_at_a_restart(self):
        async with QueryClient() as client:
            upstream = Upstream()
            client.set_query_data(KEY, "secret", identity="me")
            with QueryObserver(client, KEY, upstream, enabled=False) as observer:
                client.forget("me")
                await client.forget("me", restart=True)
                assert (upstream.calls, observer.result.data) == (0, None)
                observer.set_options(KEY, upstream)
                await settled()
                assert (upstream.calls, observer.result.data) == (1, "new 1")

    async def test_two_observers_with_different_rules_are_judged_each_by_its_own(self):
        async with QueryClient() as client:
            upstream = Upstream()
            with (
                QueryObserver(client, KEY, upstream, enabled=False) as off,
                QueryObserver(client, KEY, upstream) as on,
            ):
                await settled()
                assert (off.result.is_enabled, on.result.is_enabled) == (False, True)
                assert off.result.data == on.result.data == "new 1"
                assert (off.result.is_stale, on.result.is_stale) == (False, True)
