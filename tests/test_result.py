"""`QueryResult`: an immutable value, the same object until something changes, with everything that follows from it."""

from __future__ import annotations

import asyncio

import pytest

from querykit import QueryClient, QueryObserver, QueryResult
from querykit.result import differ
from tests.fetches import Gate, Upstream, settled
from tests.observing import Results

pytestmark = pytest.mark.virtual_time

KEY = ("pods", "prod")
FLAGS = {name for name in dir(QueryResult) if name.startswith("is_") or name == "has_data"}


def flags(result):
    """The names of the flags that are set."""
    return {name for name in FLAGS if getattr(result, name)} - {"is_enabled"}


async def test_the_flags_of_each_step_of_a_life():
    async with QueryClient() as client:
        gate = Gate()
        observer = QueryObserver(client, KEY, gate, retry=0, stale_time=100)
        assert flags(observer.result) == {"is_pending", "is_stale"}
        with observer:
            assert flags(observer.result) == {"is_pending", "is_stale", "is_fetching", "is_loading"}
            await settled()
            await gate.answer(LookupError("no"))
            answered = {"is_fetched", "is_fetched_after_mount"}
            assert flags(observer.result) == {"is_error", "is_loading_error", "is_stale", *answered}
            refetched = observer.refetch()
            await settled()
            assert flags(observer.result) == {
                *{"is_error", "is_loading_error", "is_stale", "is_fetching", "is_refetching"},
                *answered,
            }
            await gate.answer("data")
            await refetched
            assert flags(observer.result) == {"is_success", "has_data", *answered}
            client.invalidate_queries(KEY)
            await settled()
            assert flags(observer.result) == {
                *{"is_success", "has_data", "is_invalidated", "is_stale", "is_fetching", "is_refetching"},
                *answered,
            }
            await gate.answer(LookupError("no"))
            assert flags(observer.result) == {
                *{"is_error", "has_data", "is_refetch_error", "is_invalidated", "is_stale"},
                *answered,
            }
            client.online.set(False)
            observer.refetch()
            await settled()
            assert "is_paused" in flags(observer.result)
            assert not {"is_fetching", "is_refetching", "is_loading"} & flags(observer.result)


async def test_the_fields_of_a_success_and_of_a_failure_after_it():
    async with QueryClient() as client:
        gate = Gate()
        await asyncio.sleep(3)
        with QueryObserver(client, KEY, gate, retry=0) as observer:
            await settled()
            await gate.answer("data")
            result = observer.result
            assert (result.data, result.data_updated_at, result.data_update_count) == ("data", 3, 1)
            assert (result.error, result.error_updated_at, result.error_update_count) == (None, None, 0)
            await asyncio.sleep(2)
            observer.refetch()
            await settled()
            await gate.answer(LookupError("no"))
            result = observer.result
            assert (result.data, result.data_updated_at, result.data_update_count) == ("data", 3, 1)
            assert (type(result.error), result.error_updated_at, result.error_update_count) == (LookupError, 5, 1)
            assert result.live is None


async def test_failures_are_counted_while_it_is_retried():
    async with QueryClient() as client:
        results = Results()
        with QueryObserver(client, KEY, Upstream(failures=2), retry_delay=1).subscribe(results):
            await asyncio.sleep(5)
        counts = results.of("fetch_failure_count", "status")
        assert counts == [(0, "pending"), (1, "pending"), (2, "pending"), (0, "success")]
        assert [type(error) for error in results.of("fetch_failure_reason")[1:3]] == [ConnectionError] * 2
        assert results[-1].fetch_failure_reason is None


async def test_it_cannot_be_changed():
    async with QueryClient() as client:
        result = QueryObserver(client, KEY).result
        for name in ("data", "status", "is_stale", "is_pending", "new"):
            with pytest.raises(AttributeError):
                setattr(result, name, 1)


async def test_two_of_the_same_content_are_not_equal():
    async with QueryClient() as client:
        client.set_query_data(KEY, 1)
        one, other = QueryObserver(client, KEY).result, QueryObserver(client, KEY).result
        assert isinstance(one, QueryResult)
        assert one != other
        assert not differ(one, one)


async def test_it_is_the_same_object_as_long_as_nothing_has_changed():
    async with QueryClient() as client:
        client.set_query_data(KEY, 1)
        observer = QueryObserver(client, KEY)
        before = observer.result
        assert observer.result is before
        with observer:
            assert observer.result is before
            client.set_query_data(("other",), 2)
            assert observer.result is before
            client.set_query_data(KEY, 1)
            assert observer.result is not before


async def test_equal_data_that_is_fetched_again_keeps_its_identity_and_its_time_moves():
    async with QueryClient() as client:
        with QueryObserver(client, KEY, lambda: {"a": [1, 2]}) as observer:
            await settled()
            before = observer.result
            await asyncio.sleep(1)
            after = await observer.refetch()
            assert before.data is after.data
            assert (before.data_updated_at, after.data_updated_at) == (0, 1)


class TestNotifyOn:
    async def test_trap_19_by_default_every_change_is_told(self):
        async with QueryClient() as client:
            results = Results()
            with QueryObserver(client, KEY, Upstream()).subscribe(results):
                await settled()
                client.invalidate_queries(KEY, refetch_type="none")
            assert results.of("fetch_status", "data", "is_invalidated") == [
                ("fetching", None, False),
                ("idle", "new 1", False),
                ("idle", "new 1", True),
            ]

    @pytest.mark.parametrize("names", [["data"], ("data",), {"data", "error"}], ids=["list", "tuple", "set"])
    async def test_trap_19_with_names_only_their_change_is_told(self, names):
        async with QueryClient() as client:
            results = Results()
            with QueryObserver(client, KEY, lambda: 1, notify_on=names).subscribe(results):
                await settled()
                client.invalidate_queries(KEY, refetch_type="none")
                client.set_query_data(KEY, 2)
            assert results.of("data") == [1, 2]

    async def test_trap_19_a_derived_flag_is_a_name_as_well(self):
        async with QueryClient() as client:
            results = Results()
            with QueryObserver(client, KEY, lambda: 1, notify_on=["is_success"]).subscribe(results):
                await settled()
                client.set_query_data(KEY, 2)
            assert results.of("is_success") == [True]

    async def test_trap_19_with_no_names_nothing_is_told(self):
        async with QueryClient() as client:
            results = Results()
            observer = QueryObserver(client, KEY, lambda: 1, notify_on=[])
            with observer.subscribe(results):
                await settled()
                assert (results, observer.result.data) == ([], 1)

    async def test_a_callable_decides_by_what_was_told_last_and_what_is_now(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, 100)
            results = Results()
            moved = lambda before, after: abs(after.data - before.data) > 5  # noqa: E731
            with QueryObserver(client, KEY, notify_on=moved).subscribe(results):
                for value in (103, 106, 108, 110, 112, 111):
                    client.set_query_data(KEY, value)
            assert results.of("data") == [106, 112]

    async def test_a_callable_that_raises_is_reported_and_the_result_is_told(self, reported):
        async with QueryClient() as client:
            results = Results()
            with QueryObserver(client, KEY, notify_on=lambda before, after: 1 / 0).subscribe(results):
                client.set_query_data(KEY, 1)
            assert results.of("data") == [1]
            told = reported.take()
            assert [type(each["exception"]) for each in told] == [ZeroDivisionError]
            assert "notify_on of" in told[0]["message"]

    async def test_an_observation_keeps_to_it(self):
        async with QueryClient() as client, client.observe(KEY, Upstream(), notify_on=["data"]) as results:
            assert (await anext(results)).data is None
            assert (await anext(results)).data == "new 1"
            client.invalidate_queries(KEY, refetch_type="none")
            waiting = asyncio.ensure_future(anext(results))
            await settled()
            assert not waiting.done()
            client.set_query_data(KEY, 2)
            assert (await waiting).data == 2

    async def test_what_was_read_meanwhile_is_told_all_the_same(self):
        async with QueryClient() as client:
            results = Results()
            observer = QueryObserver(client, KEY)
            with observer.subscribe(results):
                with client.batch():
                    client.set_query_data(KEY, 2)
                    assert observer.result.data == 2
                assert results.of("data") == [2]
