"""S3, naming and reading: which identities a record takes on, and an entry gets from it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import ClassVar

import pytest

from querykit import QueryCancelled, QueryClient, query_options, skip, use_identity
from tests.identities import A, B, names_of, raises, returns, until_settled


@pytest.fixture
async def client() -> AsyncIterator[QueryClient]:
    async with QueryClient() as client:
        yield client


class TestNaming:
    async def test_S3_an_entry_belongs_to_what_its_function_used(self, client):
        """Who uses a credential calls `use_identity`."""
        await client.query(("k",), returns(1, A, B))
        assert names_of(client, ("k",)).keys() == {A, B}

    async def test_S3_a_function_may_be_plain(self, client):
        await client.query(("k",), lambda: use_identity(A))
        assert names_of(client, ("k",)).keys() == {A}

    async def test_S3_a_record_keeps_the_epoch_of_the_first_use(self, client):
        """A record keeps the epoch at which it *first* named each identity."""

        async def fn():
            use_identity(A)
            client.set_query_data(("another",), 1)  # an event: the epoch rises
            use_identity(A)
            use_identity(B)

        await client.query(("k",), fn)
        names = names_of(client, ("k",))
        assert names[A] < names[B]

    async def test_S3_identity_says_it_by_hand(self, client):
        """`identity=` says it by hand, from the beginning of the fetch."""
        await client.query(("k",), returns(1, B), identity=A)
        names = names_of(client, ("k",))
        assert names.keys() == {A, B}
        assert names[A] <= names[B]

    async def test_S3_identity_may_be_a_default(self, client):
        client.set_query_defaults(("k",), identity=A)
        await client.query(("k", 1), returns(1))
        assert names_of(client, ("k", 1)).keys() == {A}

    async def test_S3_any_hashable_is_an_identity(self, client):
        """An unhashable one is a TypeError, inside of a function and outside."""
        with pytest.raises(TypeError, match="hashable"):
            use_identity(["a"])
        with pytest.raises(TypeError, match="hashable"):
            await client.query(("k",), returns(1, {}))
        with pytest.raises(TypeError, match="identity is a hashable value"):
            await client.query(("k",), returns(1), identity=[])
        with pytest.raises(TypeError, match="hashable"):
            client.forget([])

    async def test_S3_outside_of_every_function_naming_does_nothing(self, client):
        use_identity(A)
        client.set_query_data(("k",), 1)
        assert names_of(client, ("k",)) == {}

    async def test_S3_a_caller_is_not_the_function_that_he_asks_for(self, client):
        """The record is the function's own: naming before or after the call concerns nobody."""

        async def caller():
            use_identity(A)
            await client.query(("k",), returns(1))
            use_identity(A)

        await asyncio.create_task(caller())
        assert names_of(client, ("k",)) == {}

    async def test_S3_child_tasks_reach_the_record(self, client):
        """The record is mutable, so that child tasks reach it."""

        async def child():
            await asyncio.sleep(0)
            use_identity(A)

        async def fn():
            await asyncio.gather(child(), asyncio.create_task(child()))

        await client.query(("k",), fn)
        assert names_of(client, ("k",)).keys() == {A}

    async def test_S3_threads_reach_the_record(self, client):
        """The record is mutable, so that `to_thread` reaches it."""
        await client.query(("k",), lambda: asyncio.to_thread(use_identity, A))
        assert names_of(client, ("k",)).keys() == {A}

    async def test_S3_a_thread_that_runs_a_loop_of_its_own_reaches_the_record(self, client):
        async def there():
            use_identity(A)

        await client.query(("k",), lambda: asyncio.to_thread(asyncio.run, there()))
        assert names_of(client, ("k",)).keys() == {A}

    async def test_S3_a_raw_executor_does_not_reach_the_record(self, client):
        """A documented limit: raw `run_in_executor` does not spread."""
        loop = asyncio.get_running_loop()
        await client.query(("k",), lambda: loop.run_in_executor(None, use_identity, A))
        assert names_of(client, ("k",)) == {}

    async def test_S3_a_plain_loop_callback_names_for_who_scheduled_it(self, client):
        """It is outside of the flight (S1), and yet what it uses is used for the function: the safe side."""

        async def fn():
            named = asyncio.Event()
            loop = asyncio.get_running_loop()
            loop.call_soon(lambda: (use_identity(A), named.set()))
            await named.wait()

        await client.query(("k",), fn)
        assert names_of(client, ("k",)).keys() == {A}

    async def test_S3_retries_are_of_one_record(self, client):
        """What the first attempt used, the answer of the second may come from."""
        attempts = iter([A, B])

        async def fn():
            use_identity(identity := next(attempts))
            if identity == A:
                raise ConnectionError
            return 1

        await client.query(("k",), fn, retry_delay=0)
        assert names_of(client, ("k",)).keys() == {A, B}

    async def test_S3_listeners_run_outside_every_record(self, client):
        """S8: what a listener uses is not the function's doing."""
        with client.cache.subscribe(lambda event: use_identity(A)):
            await client.query(("k",), returns(1))
            await client.query(("parent",), lambda: client.query(("k", 2), returns(1)))
        assert names_of(client, ("k",)) == {}
        assert names_of(client, ("parent",)) == {}


class TestReading:
    """Reading another query, cached or not, takes on its identities with their epochs."""

    READERS: ClassVar = {
        "query": lambda client, key: client.query(key, returns(2), stale_time="static"),
        "query of a stale one": lambda client, key: client.query(key, returns(2), swr=True),
        "query with skip": lambda client, key: client.query(key, skip),
        "get_query_data": lambda client, key: client.get_query_data(key),
        "get_query_state": lambda client, key: client.get_query_state(key),
        "get_queries_data": lambda client, key: client.get_queries_data(key),
        "a query's state": lambda client, key: client.cache.find(key).state,
        "a query's data by options": lambda client, key: client.get_query_data(query_options(key, returns(2))),
        "an updater": lambda client, key: client.set_query_data(key, lambda old: old + 1),
    }

    @pytest.mark.parametrize("how", READERS)
    async def test_S3_a_reader_takes_on_what_it_reads_from_the_cache(self, client, how):
        await client.query(("child",), returns(1, A))
        read = self.READERS[how]

        async def parent():
            found = read(client, ("child",))
            return await found if asyncio.iscoroutine(found) else found

        await client.query(("parent",), parent)
        assert names_of(client, ("parent",)) == names_of(client, ("child",)) | names_of(client, ("parent",))
        assert A in names_of(client, ("parent",))

    async def test_S3_a_reader_takes_on_what_it_fetches(self, client):
        await client.query(("parent",), lambda: client.query(("child",), returns(1, A)))
        assert names_of(client, ("parent",)) == names_of(client, ("child",))

    async def test_S3_a_reader_takes_on_what_it_joins(self, client):
        used, go_on = asyncio.Event(), asyncio.Event()

        async def fn():
            use_identity(A)
            used.set()
            await go_on.wait()

        child = asyncio.create_task(client.query(("child",), fn))
        await used.wait()
        asyncio.get_running_loop().call_soon(go_on.set)
        await client.query(("parent",), lambda: client.query(("child",), returns(2)))
        await child
        assert client.stats().fetches == 2
        assert names_of(client, ("parent",)) == names_of(client, ("child",))

    async def test_S3_a_reader_takes_on_what_it_reads_in_a_child_task(self, client):
        async def parent():
            await asyncio.gather(client.query(("c", 1), returns(1, A)), client.query(("c", 2), returns(1, B)))

        await client.query(("parent",), parent)
        assert names_of(client, ("parent",)).keys() == {A, B}

    async def test_S3_a_reader_takes_on_what_it_reads_in_a_thread(self, client):
        """Reads are not thread-checked, and `to_thread` carries the record."""
        await client.query(("child",), returns(1, A))
        await client.query(("parent",), lambda: asyncio.to_thread(client.get_query_data, ("child",)))
        assert names_of(client, ("parent",)).keys() == {A}

    async def test_S3_a_reader_takes_on_what_the_portal_reads_for_its_thread(self, client):
        def work():
            return client.portal.call(client.query, ("child",), returns(1, A))

        await client.query(("parent",), lambda: asyncio.to_thread(work))
        assert names_of(client, ("parent",)).keys() == {A}

    async def test_S3_a_reader_takes_on_the_error_that_it_catches(self, client):
        """What a server refused to one login is not for the next: an error is an answer too."""

        async def parent():
            with pytest.raises(ValueError):
                await client.query(("child",), lambda: raises(A))
            return "fallback"

        await client.query(("parent",), parent)
        assert names_of(client, ("parent",)).keys() == {A}

    async def test_S3_a_reader_takes_on_a_remembered_error(self, client):
        with pytest.raises(ValueError):
            await client.query(("child",), lambda: raises(A))
        await client.query(("parent",), lambda: client.get_query_state(("child",)).error is not None)
        assert names_of(client, ("parent",)).keys() == {A}

    async def test_S3_a_reader_takes_on_what_was_cancelled_for_it(self, client):
        """Its fallback stands for data of that identity: a new login must find it again."""
        used = asyncio.Event()

        async def child():
            use_identity(A)
            used.set()
            await asyncio.Event().wait()

        async def parent():
            with pytest.raises(QueryCancelled):
                await client.query(("child",), child)
            return "fallback"

        asking = asyncio.create_task(client.query(("parent",), parent))
        await used.wait()
        client.cancel_queries(("child",))
        assert await asking == "fallback"
        assert names_of(client, ("parent",)).keys() == {A}

    async def test_S3_a_reader_takes_on_what_it_observes(self, client):
        async def parent():
            async with client.observe(("child",), returns(1, A)) as results:
                return [result.data async for result in until_settled(results)]

        assert await client.query(("parent",), parent) == [None, 1]
        assert names_of(client, ("parent",)).keys() == {A}

    async def test_S3_a_reader_takes_on_what_a_select_used(self, client):
        """`select` runs with a record of its own; who reads its value reads what it used."""
        selected = query_options(("child",), returns(1)).select(lambda data: use_identity(A))

        async def parent():
            async with client.observe(selected) as results:
                return [result.data async for result in until_settled(results)]

        await client.query(("parent",), parent)
        assert names_of(client, ("parent",)).keys() == {A}

    async def test_S3_a_reader_takes_on_what_a_failing_select_used(self, client, reported):
        def select(data):
            use_identity(A)
            raise ValueError

        async def parent():
            async with client.observe(query_options(("child",), returns(1)).select(select)) as results:
                return [result.data async for result in until_settled(results)]

        await client.query(("parent",), parent)
        assert names_of(client, ("parent",)).keys() == {A}
        assert len(reported.take()) == 1

    async def test_S3_the_select_of_a_query_runs_for_its_caller(self, client):
        selected = query_options(("child",), returns(1)).select(lambda data: use_identity(A))
        await client.query(("parent",), lambda: client.query(selected))
        assert names_of(client, ("parent",)).keys() == {A}

    async def test_S3_of_two_epochs_the_earlier_wins(self, client):
        """Who used a credential, and then reads what an earlier use of it gave, has used it since then."""
        await client.query(("child",), returns(1, A))

        async def parent():
            use_identity(A)
            client.get_query_data(("child",))
            use_identity(A)

        await client.query(("parent",), parent)
        assert names_of(client, ("parent",)) == names_of(client, ("child",))

    async def test_S3_three_levels_deep(self, client):
        async def middle():
            return await client.query(("low",), returns(1, A))

        await client.query(("high",), lambda: client.query(("middle",), middle))
        assert names_of(client, ("high",)) == names_of(client, ("middle",)) == names_of(client, ("low",))

    async def test_S3_reading_nothing_takes_on_nothing(self, client):
        async def parent():
            assert client.get_query_data(("child",)) is None
            assert client.get_query_state(("child",)) is None

        await client.query(("parent",), parent)
        assert names_of(client, ("parent",)) == {}
