"""What an observer makes of the data: `select`, `placeholder_data`, `initial_data`."""

from __future__ import annotations

import asyncio

import pytest

from querykit import QueryClient, QueryObserver, keep_previous_data, query_options, skip
from tests.fetches import Gate, Upstream, settled
from tests.observing import Results, exceptions

pytestmark = pytest.mark.virtual_time

KEY = ("pods", "prod")
OTHER = ("pods", "test")
WHO = ("cluster", "prod")


def selecting(select, fn=skip, key=KEY, **options):
    return query_options(key, fn, **options).select(select)


class TestSelect:
    async def test_trap_17_it_runs_once_for_each_data_object(self):
        async with QueryClient() as client:
            calls = []
            with QueryObserver(client, selecting(lambda data: calls.append(data) or len(calls))) as observer:
                data = ["web"]
                client.set_query_data(KEY, data)
                client.invalidate_queries(KEY)
                client.set_query_data(KEY, data)
                assert (observer.result.data, calls) == (1, [data])

    async def test_trap_17_another_function_by_set_options_runs_anew(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, 1)
            with QueryObserver(client, selecting(lambda data: data + 1)) as observer:
                observer.set_options(selecting(lambda data: data + 2))
                assert observer.result.data == 3

    async def test_trap_17_the_same_function_by_set_options_does_not_run_again(self):
        async with QueryClient() as client:
            calls = []
            client.set_query_data(KEY, 1)
            options = selecting(lambda data: calls.append(data))
            with QueryObserver(client, options) as observer:
                observer.set_options(options)
                observer.set_options(options)
            assert calls == [1]

    async def test_trap_17_each_observer_selects_for_itself(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, [3, 1])
            with QueryObserver(client, selecting(min)) as one, QueryObserver(client, selecting(max)) as other:
                assert (one.result.data, other.result.data) == (1, 3)
                assert client.get_query_data(KEY) == [3, 1]

    async def test_trap_16_what_it_returns_keeps_the_identity_of_equal_parts(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, [{"name": "web"}, {"name": "db"}])
            results = Results()
            options = selecting(lambda data: {"names": [each["name"] for each in data], "all": len(data)})
            with QueryObserver(client, options) as observer, observer.subscribe(results):
                before = observer.result.data
                client.set_query_data(KEY, [{"name": "web"}, {"name": "db"}])
                assert observer.result.data is before
                client.set_query_data(KEY, [{"name": "web"}])
                assert observer.result.data == {"names": ["web"], "all": 1}

    async def test_trap_16_without_structural_sharing_it_does_not(self):
        async with QueryClient() as client:
            options = selecting(list, structural_sharing=False)
            with QueryObserver(client, options) as observer:
                client.set_query_data(KEY, (1, 2))
                before = observer.result.data
                client.set_query_data(KEY, (1, 2, 3)[:2])
                assert observer.result.data == before
                client.set_query_data(KEY, [1, 2])
                assert observer.result.data is not before

    async def test_trap_17_a_raising_one_is_an_error_of_this_observer_and_the_query_stays_a_success(self, reported):
        async with QueryClient() as client:
            with (
                QueryObserver(client, selecting(lambda data: 1 / data)) as observer,
                QueryObserver(client, KEY) as other,
            ):
                client.set_query_data(KEY, 0)
                result = observer.result
                assert (result.status, type(result.error), result.has_data) == ("error", ZeroDivisionError, False)
                assert result.error.__traceback__ is None
                assert (other.result.status, client.get_query_state(KEY).status) == ("success", "success")
        assert exceptions(reported) == [ZeroDivisionError]

    async def test_trap_17_it_is_reported_once_and_its_time_is_stable(self, reported):
        async with QueryClient() as client:
            with QueryObserver(client, selecting(lambda data: 1 / data, Gate(), stale_time=5)) as observer:
                await asyncio.sleep(10)
                client.set_query_data(KEY, 0)
                before = observer.result
                await asyncio.sleep(10)
                after = observer.result
                assert (before.is_stale, after.is_stale) == (False, True)
                assert before.error is after.error
                assert before.error_updated_at == after.error_updated_at == 10
        assert exceptions(reported) == [ZeroDivisionError]

    async def test_after_a_failure_what_was_selected_last_is_kept_beside_the_error(self, reported):
        async with QueryClient() as client:
            with QueryObserver(client, selecting(lambda data: 6 / data)) as observer:
                for value in (2, 0):
                    client.set_query_data(KEY, value)
                assert (observer.result.status, observer.result.data) == ("error", 3)
                client.set_query_data(KEY, 3)
                assert (observer.result.status, observer.result.data, observer.result.error) == ("success", 2, None)
        assert exceptions(reported) == [ZeroDivisionError]

    async def test_after_a_failure_under_another_key_nothing_of_the_former_key_is_shown(self, reported):
        async with QueryClient() as client:
            client.set_query_data(KEY, 2)
            client.set_query_data(OTHER, 0)
            select = lambda data: 6 / data  # noqa: E731
            with QueryObserver(client, selecting(select)) as observer:
                observer.set_options(selecting(select, key=OTHER))
                assert (observer.result.status, observer.result.data) == ("error", None)
        assert exceptions(reported) == [ZeroDivisionError]

    async def test_functions_are_chained(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, [1, 2, 3])
            options = query_options(KEY, skip).select(sum).select(str)
            with QueryObserver(client, options) as observer:
                assert observer.result.data == "6"

    async def test_none_may_be_selected(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, 1)
            with QueryObserver(client, selecting(lambda data: None)) as observer:
                assert (observer.result.data, observer.result.has_data, observer.result.status) == (
                    None,
                    True,
                    "success",
                )


class TestPlaceholder:
    async def test_trap_18_a_value_is_shown_while_there_is_no_data_and_never_cached(self):
        async with QueryClient() as client:
            gate = Gate()
            with QueryObserver(client, KEY, gate, placeholder_data=["..."]) as observer:
                result = observer.result
                assert (result.data, result.status, result.is_placeholder_data) == (["..."], "success", True)
                assert (result.is_loading, result.is_refetching, result.data_updated_at) == (False, True, None)
                assert client.get_query_data(KEY) is None
                await settled()
                await gate.answer(["web"])
                assert (observer.result.data, observer.result.is_placeholder_data) == (["web"], False)

    async def test_trap_18_it_goes_through_select(self):
        async with QueryClient() as client:
            options = query_options(KEY, Gate(), placeholder_data=[1, 2]).select(sum)
            with QueryObserver(client, options) as observer:
                assert (observer.result.data, observer.result.is_placeholder_data) == (3, True)

    async def test_trap_18_a_failed_first_load_takes_it_away(self):
        async with QueryClient() as client:
            upstream = Upstream()
            upstream.error = LookupError("no")
            with QueryObserver(client, KEY, upstream, placeholder_data=1, retry=0) as observer:
                await settled()
                result = observer.result
                assert (result.status, result.has_data, result.is_placeholder_data) == ("error", False, False)

    async def test_trap_18_another_observer_does_not_see_it(self):
        async with QueryClient() as client:
            with QueryObserver(client, KEY, placeholder_data=1), QueryObserver(client, KEY) as other:
                assert other.result.is_pending

    async def test_a_callable_is_asked_once_with_nothing_where_there_was_no_key_before(self):
        async with QueryClient() as client:
            asked = []

            def rule(data, query):
                asked.append((data, query))
                return "standing in"

            with QueryObserver(client, KEY, Gate(), placeholder_data=rule) as observer:
                await settled()
                assert observer.result.data == "standing in"
            assert asked == [(None, None)]

    @pytest.mark.parametrize("nothing", [None, skip], ids=["None", "skip"])
    async def test_a_callable_may_give_nothing_and_is_asked_again(self, nothing):
        async with QueryClient() as client:
            gives = [nothing]
            with QueryObserver(client, KEY, Gate(), placeholder_data=lambda data, query: gives[-1]) as observer:
                assert observer.result.is_pending
                gives.append("now")
                assert observer.result.data == "now"

    async def test_one_that_raises_is_reported_once_and_gives_nothing(self, reported):
        async with QueryClient() as client:
            with QueryObserver(client, KEY, Gate(), placeholder_data=lambda data, query: 1 / 0) as observer:
                await settled()
                assert (observer.result.status, observer.result.error) == ("pending", None)
        assert exceptions(reported) == [ZeroDivisionError]

    async def test_trap_18_keep_previous_data_shows_the_former_keys_data(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, "former")
            gate, results = Gate(), Results()
            observer = QueryObserver(client, KEY, gate, stale_time=9, placeholder_data=keep_previous_data)
            with observer.subscribe(results):
                assert results == []
                observer.set_options(OTHER, gate, stale_time=9, placeholder_data=keep_previous_data)
                await settled()
                await gate.answer("new")
            assert results.of("data", "is_placeholder_data") == [("former", True), ("new", False)]

    async def test_trap_18_keep_previous_data_shows_the_last_key_that_had_any(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, "former")
            gate = Gate()
            with QueryObserver(client, KEY, gate, placeholder_data=keep_previous_data) as observer:
                for key in (("a",), ("b",), ("c",)):
                    observer.set_options(key, gate, placeholder_data=keep_previous_data)
                    assert (observer.result.data, observer.result.is_placeholder_data) == ("former", True)

    async def test_without_a_former_key_keep_previous_data_shows_nothing(self):
        async with QueryClient() as client:
            with QueryObserver(client, KEY, Gate(), placeholder_data=keep_previous_data) as observer:
                assert observer.result.is_pending

    async def test_a_former_none_is_data_and_yet_not_shown_as_placeholder(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, None)
            with QueryObserver(client, KEY, Gate(), placeholder_data=keep_previous_data) as observer:
                observer.set_options(OTHER, Gate(), placeholder_data=keep_previous_data)
                assert observer.result.is_pending

    async def test_a_callable_is_asked_for_each_key_with_the_former_data_and_query(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, "former")
            asked = []

            def rule(data, query):
                asked.append((data, query and query.key))
                return f"after {data}"

            with QueryObserver(client, KEY, placeholder_data=rule) as observer:
                observer.set_options(OTHER, placeholder_data=rule)
                assert observer.result.data == "after former"
                observer.set_options(("third",), placeholder_data=rule)
                assert observer.result.data == "after former"
            assert asked == [("former", KEY)] * 2

    async def test_selected_placeholder_data_is_selected_once(self):
        async with QueryClient() as client:
            calls = []
            client.set_query_data(KEY, [1, 2])
            select = lambda data: calls.append(data) or sum(data)  # noqa: E731
            options = [
                query_options(key, Gate(), placeholder_data=keep_previous_data).select(select) for key in (KEY, OTHER)
            ]
            with QueryObserver(client, options[0]) as observer:
                observer.set_options(options[1])
                assert (observer.result.data, observer.result.is_placeholder_data) == (3, True)
                observer.set_options(options[1])
                assert len(calls) <= 2


class TestInitialData:
    async def test_trap_18_it_is_cached_and_counts_as_updated_now(self):
        async with QueryClient() as client:
            upstream = Upstream()
            with QueryObserver(client, KEY, upstream, initial_data=1, stale_time=10) as observer:
                await settled()
                result = observer.result
                assert (result.data, result.is_placeholder_data, result.is_stale) == (1, False, False)
                assert (result.is_fetched, result.data_update_count) == (False, 0)
                assert (client.get_query_data(KEY), upstream.calls) == (1, 0)

    async def test_trap_18_old_initial_data_is_fetched_anew(self):
        async with QueryClient() as client:
            upstream = Upstream()
            options = {"initial_data": 1, "initial_data_age": 11, "stale_time": 10}
            with QueryObserver(client, KEY, upstream, **options) as observer:
                assert (observer.result.data, observer.result.is_stale) == (1, True)
                await settled()
                assert observer.result.data == "new 1"

    async def test_it_does_not_replace_data(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, "set")
            with QueryObserver(client, KEY, initial_data="initial") as observer:
                assert observer.result.data == "set"

    async def test_it_wins_over_placeholder_data(self):
        async with QueryClient() as client:
            with QueryObserver(client, KEY, initial_data=1, placeholder_data=2) as observer:
                assert (observer.result.data, observer.result.is_placeholder_data) == (1, False)

    @pytest.mark.parametrize("how", ["set_options", "query", "another observer"])
    async def test_initial_data_that_comes_later_is_told_to_those_who_observe(self, how):
        async with QueryClient() as client:
            results = Results()
            observer = QueryObserver(client, KEY)
            with observer.subscribe(results), QueryObserver(client, KEY) as other:
                if how == "set_options":
                    other.set_options(KEY, initial_data=1)
                elif how == "query":
                    await client.query(KEY, lambda: 2, initial_data=1, stale_time=9)
                else:
                    assert QueryObserver(client, KEY, initial_data=1).result.data == 1
                assert results.of("data") == [1]
