"""The `error_time` option: for so long a failure is answered from the cache, instead of calling again."""

from __future__ import annotations

import asyncio
import traceback
from typing import Any

import pytest

from querykit import QueryCancelled, QueryClient, QueryObserver, QueryTimeout, skip, use_identity
from querykit.errors import ApiError
from tests.fetches import Gate, settled
from tests.identities import A, B, names_of

pytestmark = pytest.mark.virtual_time

KEY = ("pods", "prod")


class Away:
    """A query function that fails as long as it is told to."""

    def __init__(self, *identities: Any):
        self.calls = 0
        self.error: BaseException | None = LookupError("away")
        self.identities = identities

    async def __call__(self) -> str:
        self.calls += 1
        for identity in self.identities:
            use_identity(identity)
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return f"data {self.calls}"


@pytest.fixture
async def client():
    async with QueryClient() as client:
        yield client


@pytest.fixture
def away():
    return Away()


async def failed(client: QueryClient, fn: Any, error_time: float = 10, **options: Any) -> BaseException:
    """What a call raises."""
    with pytest.raises((LookupError, QueryCancelled)) as caught:
        await client.query(KEY, fn, error_time=error_time, **options)
    return caught.value


# Asking


async def test_for_so_long_the_error_is_raised_again_and_the_function_not_called(client, away):
    first = await failed(client, away)
    await asyncio.sleep(9.9)
    again = await failed(client, away)
    assert (type(again), again.args, away.calls) == (LookupError, first.args, 1)
    await asyncio.sleep(0.1)
    await failed(client, away)
    assert away.calls == 2


async def test_the_time_counts_from_the_failure_that_came_last(client, away):
    await failed(client, away)
    await asyncio.sleep(10)
    await failed(client, away)
    await asyncio.sleep(9.9)
    await failed(client, away)
    assert away.calls == 2


async def test_many_callers_call_once(client, away):
    for _ in range(3):
        outcomes = await asyncio.gather(*(failed(client, away) for _ in range(50)))
        assert {str(error) for error in outcomes} == {"away"}
    assert away.calls == 1
    assert (client.stats().hits, client.stats().misses, client.stats().failures) == (100, 50, 1)


async def test_by_default_each_caller_calls(client, away):
    for _ in range(3):
        with pytest.raises(LookupError):
            await client.query(KEY, away)
    assert away.calls == 3


async def test_each_caller_says_for_how_long_a_failure_is_answer_enough_to_him(client, away):
    await failed(client, away, error_time=0)
    await asyncio.sleep(5)
    await failed(client, away, error_time=6)
    assert away.calls == 1
    await failed(client, away, error_time=5)
    assert away.calls == 2


async def test_it_may_be_a_default(client, away):
    client.set_query_defaults(("pods",), error_time=10)
    for _ in range(2):
        with pytest.raises(LookupError):
            await client.query(KEY, away)
    assert away.calls == 1
    with pytest.raises(LookupError):
        await client.query(KEY)  # with the function given before
    assert away.calls == 1


async def test_a_success_ends_it(client, away):
    await failed(client, away)
    away.error = None
    await asyncio.sleep(10)
    assert await client.query(KEY, away, error_time=10) == "data 2"
    assert await client.query(KEY, away, error_time=10) == "data 3"


async def test_a_timeout_is_a_failure_too(client):
    gate = Gate()
    for _ in range(2):
        with pytest.raises(QueryTimeout):
            await client.query(KEY, gate, timeout=1, error_time=10, retry=0)
    assert gate.calls == 1


async def test_what_is_remembered_comes_after_all_retries(client, away):
    away.error = ConnectionError("away")
    for _ in range(3):
        with pytest.raises(ConnectionError):
            await client.query(KEY, away, retry=2, retry_delay=1, error_time=10)
    assert away.calls == 3


async def test_prefetch_and_query_agree(client, away):
    await client.prefetch(KEY, away, error_time=10)
    await client.prefetch(KEY, away, error_time=10)
    await failed(client, away)
    assert away.calls == 1
    await asyncio.sleep(10)
    await client.prefetch(KEY, away, error_time=10)
    assert away.calls == 2


async def test_without_a_function_there_is_nothing_to_remember_for(client, away):
    await failed(client, away)
    with pytest.raises(LookupError):  # MissingQueryFunction would say that it was never called
        await client.query(KEY, error_time=10)
    async with client.observe(KEY, skip, error_time=10) as results:
        assert results.result.is_error


# The error that is raised


async def test_each_caller_gets_a_copy_with_his_own_traceback(client, away):
    away.error = ApiError("away", status=404, reason="NotFound")
    copies = []
    for _ in range(50):
        with pytest.raises(ApiError) as caught:
            await client.query(KEY, away, error_time=10)
        copies.append(caught.value)
    assert len({id(error) for error in copies}) == 50
    assert {(error.status, error.reason, str(error)) for error in copies} == {(404, "NotFound", str(away.error))}
    depths = [len(traceback.extract_tb(error.__traceback__)) for error in copies[1:]]
    assert max(depths) == min(depths) <= 4
    kept = client.get_query_state(KEY).error
    assert kept.__traceback__ is kept.__context__ is None


async def test_what_a_caller_does_to_his_copy_is_his_own_affair(client, away):
    await failed(client, away)
    error = await failed(client, away)
    error.args = ("changed",)
    error.add_note("noted")
    again = await failed(client, away)
    assert again.args == ("away",)
    assert not hasattr(again, "__notes__")


# What ends the memory


@pytest.mark.parametrize("how", ["invalidate", "prefix", "tags", "reset", "remove", "clear", "forget"])
async def test_after_these_the_function_is_called(client, how):
    away = Away(A)
    await failed(client, away, tags=["t"])
    act = {
        "invalidate": lambda: client.invalidate_queries(KEY, exact=True),
        "prefix": lambda: client.invalidate_queries(("pods",)),
        "tags": lambda: client.invalidate_queries(tags=["t"]),
        "reset": lambda: client.reset_queries(KEY),
        "remove": lambda: client.remove_queries(KEY),
        "clear": client.clear,
        "forget": lambda: client.forget(A),
    }
    act[how]()
    await failed(client, away)
    assert away.calls == 2


async def test_data_that_is_set_is_the_newer_answer(client, away):
    await failed(client, away)
    client.set_query_data(KEY, "set")
    assert await client.query(KEY, away, error_time=10, stale_time=5) == "set"
    away.error = None
    await asyncio.sleep(5)
    assert await client.query(KEY, away, error_time=10, stale_time=5) == "data 2"


async def test_forgetting_another_identity_does_not_end_it(client):
    away = Away(A)
    await failed(client, away)
    client.forget(B)
    await failed(client, away)
    assert away.calls == 1


async def test_S2_a_failure_of_a_fetch_that_began_before_an_invalidation_is_not_remembered(client):
    gate = Gate()
    caller = asyncio.ensure_future(failed(client, gate, retry=0))
    await settled()
    client.invalidate_queries(KEY)
    await gate.answer(LookupError("away"))
    await caller
    caller = asyncio.ensure_future(client.query(KEY, gate, error_time=10))
    await settled()
    await gate.answer("data")
    assert await caller == "data"


@pytest.mark.parametrize("observed", [True, False])
async def test_refetching_calls_the_function(client, away, observed):
    await failed(client, away)
    observer = QueryObserver(client, KEY, away, error_time=10)
    if observed:
        observer.subscribe(lambda result: None)
    await client.refetch_queries(KEY)
    assert away.calls == 2
    await observer.refetch()
    assert away.calls == 3
    client.invalidate_queries(KEY)
    await settled()
    assert away.calls == (4 if observed else 3)
    observer.close()


# Old data beside the error


async def test_stale_if_error_gives_the_old_data_and_calls_nothing(client, away):
    client.set_query_data(KEY, "old")
    await asyncio.sleep(5)
    assert await client.query(KEY, away, error_time=10, stale_if_error=9) == "old"
    assert await client.query(KEY, away, error_time=10, stale_if_error=9) == "old"
    assert away.calls == 1
    await asyncio.sleep(5)
    await failed(client, away, stale_if_error=9)
    await failed(client, away)
    assert away.calls == 1


async def test_swr_gives_the_stale_data_and_fetches_nothing_behind_it(client, away):
    client.set_query_data(KEY, "old")
    for _ in range(3):
        assert await client.query(KEY, away, swr=True, error_time=10) == "old"
        await settled()
    assert away.calls == 1
    await asyncio.sleep(10)
    assert await client.query(KEY, away, swr=True, error_time=10) == "old"
    await settled()
    assert away.calls == 2


async def test_swr_without_data_raises_what_is_remembered(client, away):
    await failed(client, away)
    await failed(client, away, swr=True)
    assert away.calls == 1


async def test_static_data_is_fresh_whatever_happened(client, away):
    client.set_query_data(KEY, "old")
    await client.prefetch(KEY, away, error_time=10)
    assert await client.query(KEY, away, stale_time="static", error_time=10) == "old"


# Observers


@pytest.mark.parametrize("refetch_on_mount", [True, "always"])
@pytest.mark.parametrize("has_data", [True, False])
async def test_an_observer_that_comes_does_not_fetch(client, away, refetch_on_mount, has_data):
    if has_data:
        client.set_query_data(KEY, "old")
    await client.prefetch(KEY, away, error_time=10)
    options = {"error_time": 10, "refetch_on_mount": refetch_on_mount}
    async with client.observe(KEY, away, **options) as results:
        await settled()
        assert (results.result.status, str(results.result.error), away.calls) == ("error", "away", 1)
        assert results.result.data == ("old" if has_data else None)
    await asyncio.sleep(10)
    async with client.observe(KEY, away, **options):
        await settled()
        assert away.calls == 2


async def test_an_observer_that_changes_to_the_key_does_not_fetch(client, away):
    await failed(client, away)
    observer = QueryObserver(client, ("other",), lambda: "other")
    with observer:
        observer.set_options(KEY, away, error_time=10)
        await settled()
        assert (observer.result.is_error, away.calls) == (True, 1)
        observer.set_options(KEY, away, error_time=10, enabled=False)
        observer.set_options(KEY, away, error_time=10)
        await settled()
        assert away.calls == 1
        observer.set_options(("other",), lambda: "other")
        observer.set_options(KEY, away)
        await settled()
        assert away.calls == 2


async def test_coming_back_does_not_fetch_unless_it_always_does(client, away):
    async with client.observe(KEY, away, error_time=10) as results:
        await results.wait_for(lambda result: result.is_error)
        for source in (client.focus, client.online):
            source.set(False)
            source.set(True)
            await settled()
        assert away.calls == 1
        async with client.observe(KEY, away, error_time=10, refetch_on_focus="always"):
            client.focus.set(False)
            client.focus.set(True)
            await settled()
            assert away.calls == 2


async def test_an_interval_goes_on_and_finds_out_when_it_is_over(client, away):
    async with client.observe(KEY, away, error_time=60, refetch_interval=5) as results:
        await results.wait_for(lambda result: result.is_error)
        away.error = None
        await results.wait_for(lambda result: result.is_success, timeout=6)
        assert await client.query(KEY, away, error_time=60, stale_time=1) == "data 2"


# Being kept


@pytest.mark.parametrize("gc_time", [0, 1])
async def test_S7_it_is_kept_for_its_time_and_not_much_longer(client, away, gc_time):
    await failed(client, away, gc_time=gc_time)
    await asyncio.sleep(9)
    await failed(client, away, gc_time=gc_time)
    assert away.calls == 1
    await asyncio.sleep(25)
    assert len(client.cache) == 0


async def test_S7_it_is_kept_for_who_asks_with_a_longer_time_later(client, away):
    await failed(client, away, error_time=0, gc_time=1)
    await failed(client, away, error_time=20, gc_time=1)
    await asyncio.sleep(15)
    await failed(client, away, error_time=20, gc_time=1)
    assert away.calls == 1


async def test_without_it_a_gc_time_of_0_is_as_before(client, away):
    await failed(client, away, error_time=0, gc_time=0)
    await asyncio.sleep(1)
    assert len(client.cache) == 0


# Identities, and what is no failure


async def test_S3_who_is_answered_from_memory_takes_on_its_identities(client):
    away = Away(A)

    async def reader() -> str:
        with pytest.raises(LookupError):
            await client.query(KEY, away, error_time=10)
        return "read"

    await failed(client, away)
    await client.query(("reader",), reader)
    assert (away.calls, set(names_of(client, ("reader",)))) == (1, {A})
    client.forget(A)
    assert client.get_query_data(("reader",)) is None


async def test_S3_old_data_from_memory_spreads_too(client):
    away = Away(B)
    client.set_query_data(KEY, "old", identity=A)
    await client.prefetch(KEY, away, error_time=10)

    async def reader() -> str:
        return await client.query(KEY, away, error_time=10, stale_if_error=60)

    assert await client.query(("reader",), reader) == "old"
    assert (away.calls, set(names_of(client, ("reader",)))) == (1, {A, B})


async def test_S3_what_was_remembered_of_a_forgotten_identity_is_not_raised_where_it_is_parked(client):
    away = Away(A)
    async with client.observe(KEY, away, error_time=10) as results:
        await results.wait_for(lambda result: result.is_error)
        client.forget(A)
        assert (results.result.is_pending, results.result.error) == (True, None)
        away.error = None
        assert await client.query(KEY, away, error_time=10) == "data 2"


async def test_a_fetch_that_was_cancelled_has_not_failed(client):
    gate = Gate()
    caller = asyncio.ensure_future(failed(client, gate))
    await settled()
    client.cancel_queries(KEY)
    assert isinstance(await caller, QueryCancelled)
    caller = asyncio.ensure_future(client.query(KEY, gate, error_time=10))
    await settled()
    await gate.answer("data")
    assert await caller == "data"


@pytest.mark.parametrize("error", [asyncio.CancelledError(), QueryCancelled(("other",))], ids=["own", "read"])
async def test_a_function_that_was_cancelled_inside_has_not_failed_either(client, away, error):
    away.error = error
    assert isinstance(await failed(client, away), QueryCancelled)
    away.error = None
    assert await client.query(KEY, away, error_time=10) == "data 2"


async def test_who_waits_no_more_leaves_no_failure(client):
    gate = Gate()
    caller = asyncio.ensure_future(client.query(KEY, gate, error_time=10))
    await settled()
    caller.cancel()
    await settled()
    assert client.get_query_state(KEY).error is None
