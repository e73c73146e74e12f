"""S3 from inside of a function, S1's dooming: a 401 that logs out, plain callbacks, and who is told what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from querykit import QueryCancelled, QueryClient, use_identity
from tests.identities import A, Held, names_of, raises, returns


class Unauthorized(Exception):
    pass


@pytest.fixture
async def client() -> AsyncIterator[QueryClient]:
    async with QueryClient() as client:
        yield client


class TestUnauthorized:
    """A 401 inside a query function logs out without killing itself; the original error reaches the callers."""

    @pytest.fixture
    def unauthorized(self, client):
        self.went_on = False

        async def fn():
            use_identity(A)
            await asyncio.sleep(0)
            client.forget(A)
            await asyncio.sleep(0)
            self.went_on = True
            raise Unauthorized("401")

        return fn

    async def test_S3_the_function_goes_on_and_its_callers_get_its_error(self, client, unauthorized):
        asking = [asyncio.create_task(client.query(("k",), unauthorized)) for _ in range(3)]
        results = await asyncio.gather(*asking, return_exceptions=True)
        assert [str(result) for result in results] == ["401"] * 3
        assert self.went_on
        assert client.get_query_state(("k",)) is None

    @pytest.mark.parametrize("named_before", [False, True])
    async def test_S3_through_composites(self, client, unauthorized, named_before):
        async def middle():
            if named_before:
                use_identity(A)
            return await client.query(("low",), unauthorized)

        async def high():
            return await client.query(("middle",), middle)

        with pytest.raises(Unauthorized):
            await client.query(("high",), high)
        assert self.went_on
        assert client.get_queries_data() == []
        assert all(query.error is None for query in client.cache)

    async def test_S3_from_a_child_task_or_a_thread(self, client):
        async def child():
            client.forget(A)

        async def fn(way):
            use_identity(A)
            await way()
            raise Unauthorized("401")

        ways = (
            lambda: asyncio.create_task(child()),
            lambda: asyncio.to_thread(client.portal.call, client.forget, A),
            child,
        )
        for way in ways:
            with pytest.raises(Unauthorized):
                await client.query(("k",), lambda way=way: fn(way))

    async def test_S3_a_value_is_dropped_all_the_same(self, client):
        async def fn():
            use_identity(A)
            client.forget(A)
            return "old"

        with pytest.raises(QueryCancelled, match="forgotten"):
            await client.query(("k",), fn)
        assert client.get_queries_data() == []

    async def test_S3_an_own_error_is_not_told_where_it_was_forgotten_from_outside(self, client):
        """It was computed under the old login: its callers get `QueryCancelled`."""
        held = Held(A)

        async def fn():
            try:
                await held()
            finally:
                raise Unauthorized("only ada may know")

        asking = asyncio.create_task(client.query(("k",), fn))
        await held.used.wait()
        client.forget(A)
        with pytest.raises(QueryCancelled):
            await asking

    async def test_S3_nor_where_a_thread_named_it_between(self, client):
        """A name with an old epoch dooms the fetch when it ends, whoever came late: its error is refused too."""
        began, go_on = asyncio.Event(), asyncio.Event()

        async def fn():
            began.set()
            await go_on.wait()
            raise Unauthorized("only ada may know")

        asking = asyncio.create_task(client.query(("k",), fn))
        await began.wait()
        record = client.cache.find(("k",)).flight.record
        before = client.cache.ledger.epoch
        client.forget(A)
        record.take_on({A: before})
        go_on.set()
        with pytest.raises(QueryCancelled, match="forgotten"):
            await asking
        assert client.get_query_state(("k",)).error is None


class TestPlainCallbacks:
    """A plain loop callback is outside, though it carries the record of who scheduled it."""

    async def test_S1_forgetting_from_one_cancels(self, client):
        loop = asyncio.get_running_loop()

        async def fn():
            use_identity(A)
            loop.call_soon(client.forget, A)
            await asyncio.Event().wait()

        with pytest.raises(QueryCancelled, match="forgotten"):
            await client.query(("k",), fn)

    async def test_S1_what_one_sets_is_no_progress(self, client):
        """It answers those who wait, as any caller's data does, and cancels the fetch."""
        loop = asyncio.get_running_loop()

        async def fn():
            use_identity(A)
            loop.call_soon(client.set_query_data, ("k",), "by hand")
            await asyncio.Event().wait()

        assert await client.query(("k",), fn) == "by hand"
        assert names_of(client, ("k",)).keys() == {A}

    async def test_S1_a_task_that_one_makes_is_inside_again(self, client):
        """It carries the record, and is a task: only a callback by itself is outside."""
        loop = asyncio.get_running_loop()
        tasks = []

        async def forget():
            client.forget(A)

        async def fn():
            use_identity(A)
            loop.call_soon(lambda: tasks.append(loop.create_task(forget())))
            for _ in range(5):
                await asyncio.sleep(0)
            raise Unauthorized("401")

        with pytest.raises(Unauthorized):
            await client.query(("k",), fn)


def test_S3_without_a_loop_updaters_run_with_a_record_too():
    client = QueryClient()
    client.set_query_data(("k",), 1)

    def updater(old):
        use_identity(A)
        client.set_query_data(("side",), old)
        return old + 1

    client.set_query_data(("k",), updater)
    assert names_of(client, ("k",)).keys() == names_of(client, ("side",)).keys() == {A}


class TestErrorsOfManyCallers:
    async def test_S3_one_callers_context_is_not_the_nexts(self, client):
        """The same error goes to all; what one of them was handling at the time is his own."""
        held = Held()

        async def fn():
            await held()
            raise ValueError

        async def handling():
            try:
                await raises("only ada may know")
            except ValueError:
                await client.query(("k",), fn)

        first = asyncio.create_task(handling())
        await held.used.wait()
        second = asyncio.create_task(client.query(("k",), fn))
        asyncio.get_running_loop().call_soon(held.go_on.set)
        contexts = []
        for task in (first, second):
            with pytest.raises(ValueError) as caught:
                await task
            contexts.append(caught.value.__context__)
        assert contexts[1] is None

    async def test_S3_a_remembered_error_has_no_context(self, client):
        async def fn():
            try:
                await raises(A)
            except ValueError:
                raise LookupError from None

        with pytest.raises(LookupError):
            await client.query(("k",), fn)
        error = client.get_query_state(("k",)).error
        assert (error.__context__, error.__cause__, error.__traceback__) == (None, None, None)


async def test_S3_an_event_that_a_listener_kept_shows_nothing(client):
    """A query that left the cache is blank: who kept it reads no more from it than from the cache."""
    events = []
    client.cache.subscribe(events.append)
    await client.query(("k",), returns("old", A))
    client.forget(A)
    assert {event.query.state.has_data for event in events} == {False}
    assert {event.query.data for event in events} == {events[0].query.data}
    await client.query(("k",), returns("new", A))
    assert not events[0].query.has_data
