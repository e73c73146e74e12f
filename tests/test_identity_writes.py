"""S3, writing: to which identities data belongs that is set, added to, or carried from client to client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from querykit import QueryCancelled, QueryClient, QueryContext, QuerykitError, skip, use_identity
from tests.identities import A, B, names_of, raises, returns


@pytest.fixture
async def client() -> AsyncIterator[QueryClient]:
    async with QueryClient() as client:
        yield client


class TestWriting:
    """A plain value gets the running record's identities, an updater adds, old data adds, else a fetch replaces."""

    async def test_S3_a_plain_value_gets_the_running_records(self, client):
        client.set_query_data(("k",), 0, identity=B)

        async def fn():
            use_identity(A)
            client.set_query_data(("k",), 1)

        await client.query(("parent",), fn)
        assert names_of(client, ("k",)) == names_of(client, ("parent",))

    async def test_S3_an_updater_adds_to_the_entrys(self, client):
        client.set_query_data(("k",), 0, identity=B)

        async def fn():
            use_identity(A)
            client.set_query_data(("k",), lambda old: old + 1)

        await client.query(("parent",), fn)
        assert names_of(client, ("k",)).keys() == {A, B}

    async def test_S3_an_updater_adds_what_it_uses_itself(self, client):
        client.set_query_data(("k",), 0, identity=B)
        client.set_query_data(("k",), lambda old: use_identity(A))
        assert names_of(client, ("k",)).keys() == {A, B}

    async def test_S3_an_updater_adds_what_it_reads(self, client):
        client.set_query_data(("other",), 5, identity=A)
        client.set_query_data(("k",), 0)
        client.set_queries_data(("k",), updater=lambda old: old + client.get_query_data(("other",)))
        assert names_of(client, ("k",)) == names_of(client, ("other",))

    async def test_S3_an_updater_keeps_the_earlier_epoch(self, client):
        client.set_query_data(("k",), 0, identity=A)
        before = names_of(client, ("k",))
        client.set_query_data(("k",), lambda old: use_identity(A), identity=A)
        assert names_of(client, ("k",)) == before

    async def test_S3_a_value_set_by_hand_belongs_to_the_identity_given(self, client):
        client.set_query_data(("k",), 0, identity=A)
        assert names_of(client, ("k",)).keys() == {A}
        client.set_query_data(("k",), 1)
        assert names_of(client, ("k",)) == {}

    async def test_S3_a_value_set_by_hand_belongs_to_the_keys_declared_identity(self, client):
        """`identity=` is said of a key's data, however it comes; the design is silent, this is the safe side."""
        client.set_query_defaults(("declared",), identity=A)
        client.set_query_data(("declared",), 0)
        await client.query(("asked",), returns(1), identity=B)
        client.set_query_data(("asked",), 0)
        assert names_of(client, ("declared",)).keys() == {A}
        assert names_of(client, ("asked",)).keys() == {B}

    async def test_S3_a_fetch_that_read_no_old_data_replaces(self, client):
        await client.query(("k",), returns(1, A))
        await client.query(("k",), returns(2, B))
        assert names_of(client, ("k",)).keys() == {B}

    async def test_S3_a_reader_of_previous_data_adds(self, client):
        await client.query(("k",), returns([1], A))

        async def fn(ctx: QueryContext[list[int]]):
            use_identity(B)
            return [*(ctx.previous_data or ()), 2]

        await client.query(("k",), fn)
        assert names_of(client, ("k",)).keys() == {A, B}

    async def test_S3_a_304_adds(self, client):
        """A 304 keeps the very same object, which came under another login perhaps."""
        body = object()

        async def fn(ctx: QueryContext[object]):
            use_identity(B if ctx.validators else A)
            ctx.new_validators = '"etag"'
            return ctx.previous_data if ctx.validators else body

        await client.query(("k",), fn)
        assert await client.query(("k",), fn) is body
        assert names_of(client, ("k",)).keys() == {A, B}

    async def test_S3_who_only_asks_for_validators_adds(self, client):
        """They came with the data: whoever sends them may get an answer about it."""
        await client.query(("k",), returns(1, A))

        async def fn(ctx: QueryContext[int]):
            return ctx.validators is None

        await client.query(("k",), fn)
        assert names_of(client, ("k",)).keys() == {A}

    async def test_S3_an_error_adds_to_the_data_beside_it(self, client):
        """An entry goes with any of its identities: those of its data and of its error."""
        await client.query(("k",), returns(1, A))
        with pytest.raises(ValueError):
            await client.query(("k",), lambda: raises(B))
        assert names_of(client, ("k",)).keys() == {A, B}

    async def test_S3_progress_belongs_to_what_was_used_so_far(self, client):
        shown = []

        async def fn():
            use_identity(A)
            client.set_query_data(("k",), "half")
            shown.append(names_of(client, ("k",)).keys())
            use_identity(B)
            return "whole"

        await client.query(("k",), fn)
        assert shown == [{A}]
        assert names_of(client, ("k",)).keys() == {A, B}

    async def test_S3_a_plain_callbacks_write_gets_the_record_it_carries(self, client):
        """It is outside of the flight, and what it writes comes from inside: the safe side."""

        async def fn():
            use_identity(A)
            done = asyncio.Event()

            def callback():
                client.set_query_data(("k",), "late")
                done.set()

            asyncio.get_running_loop().call_soon(callback)
            await done.wait()

        await client.query(("parent",), fn)
        assert names_of(client, ("k",)).keys() == {A}

    async def test_S3_what_a_thread_writes_gets_the_record(self, client):
        def work():
            use_identity(A)
            client.portal.call(client.set_query_data, ("k",), 1)

        await client.query(("parent",), lambda: asyncio.to_thread(work))
        assert names_of(client, ("k",)).keys() == {A}


class TestInitialData:
    async def test_S3_it_belongs_to_the_identity_option(self, client):
        await client.query(("k",), returns(2), initial_data=1, stale_time=60, identity=A)
        assert names_of(client, ("k",)).keys() == {A}

    async def test_S3_a_callable_runs_with_a_record(self, client):
        await client.query(("k",), returns(2), initial_data=lambda: use_identity(A), stale_time=60)
        assert names_of(client, ("k",)).keys() == {A}

    async def test_S3_a_callable_takes_on_what_it_reads(self, client):
        await client.query(("list",), returns([1], A))
        first = lambda: client.get_query_data(("list",))[0]  # noqa: E731
        await client.query(("item", 1), returns(2), initial_data=first, stale_time=60)
        assert names_of(client, ("item", 1)) == names_of(client, ("list",))

    async def test_S3_a_value_given_by_a_function_gets_its_record(self, client):
        """It is a plain value that is set."""

        async def fn():
            use_identity(A)
            return await client.query(("item",), returns(2), initial_data=1, stale_time=60)

        await client.query(("list",), fn)
        assert names_of(client, ("item",)) == names_of(client, ("list",))


class TestTwoClients:
    """Identities spread from one client to a function of another; their epochs cannot be compared."""

    @pytest.fixture
    async def other(self) -> AsyncIterator[QueryClient]:
        async with QueryClient() as client:
            yield client

    @pytest.mark.parametrize("cached", [True, False], ids=["cached", "fetched"])
    async def test_S3_a_function_takes_on_what_it_reads_of_another_client(self, client, other, cached):
        if cached:
            await other.query(("k",), returns(1, A))
        await client.query(("parent",), lambda: other.query(("k",), returns(1, A), stale_time=60))
        assert names_of(client, ("parent",)).keys() == {A}

    async def test_S3_what_it_reads_there_it_has_used_since_it_began(self, client, other):
        """The other client's function may have used the credential before this client forgot it."""
        used, go_on = asyncio.Event(), asyncio.Event()

        async def there():
            use_identity(A)
            used.set()
            await go_on.wait()
            return "old"

        asking = asyncio.create_task(client.query(("parent",), lambda: other.query(("k",), there)))
        await used.wait()
        client.forget(A)
        go_on.set()
        with pytest.raises(QueryCancelled):
            await asking
        assert client.get_query_data(("parent",)) is None

    async def test_S3_what_a_function_sets_in_another_client_gets_its_identities(self, client, other):
        async def fn():
            use_identity(A)
            other.set_query_data(("k",), "mine")

        await client.query(("parent",), fn)
        assert names_of(other, ("k",)).keys() == {A}
        other.forget(A)
        assert len(other.cache) == 0

    async def test_S3_a_doomed_function_writes_nothing_in_another_client(self, client, other):
        go_on = asyncio.Event()

        async def late():
            await go_on.wait()
            other.set_query_data(("k",), "late")
            await other.query(("i",), skip, initial_data="late")

        children = []

        async def fn():
            use_identity(A)
            children.append(asyncio.create_task(late()))

        await client.query(("parent",), fn)
        client.forget(A)
        go_on.set()
        with pytest.raises(QuerykitError):
            await children[0]
        assert other.get_queries_data() == []

    async def test_S3_an_updater_there_adds_what_it_reads_to_both(self, client, other):
        other.set_query_data(("k",), 1, identity=A)
        await client.query(("parent",), lambda: other.set_query_data(("k",), lambda old: use_identity(B)))
        assert names_of(other, ("k",)).keys() == {A, B}
        assert names_of(client, ("parent",)).keys() == {A, B}

    async def test_S3_one_clients_flight_is_not_inside_the_others(self, client, other):
        """S12: what a function does in another client is done there from outside."""
        began = asyncio.Event()

        async def there():
            began.set()
            await asyncio.Event().wait()

        async def here():
            asking = asyncio.create_task(other.query(("k",), there))
            await began.wait()
            other.remove_queries(("k",))
            with pytest.raises(QueryCancelled):
                await asking
            return "went on"

        assert await client.query(("parent",), here) == "went on"

    async def test_S3_what_another_client_still_holds_of_a_forgotten_login_is_refused_here_and_parked(self, client):
        """The other client was not told; what it gives counts as used since the function began."""
        read = asyncio.Event()
        async with QueryClient() as other:
            other.set_query_data(("me",), "old", identity=A)

            async def fn():
                await read.wait()
                return [other.get_query_data(("me",))]

            async with client.observe(("k",), fn) as results:
                await anext(results)
                client.forget(A)
                read.set()
                while client.is_fetching():
                    await asyncio.sleep(0)
                assert (results.result.status, results.result.has_data) == ("pending", False)
                await client.invalidate_queries(("k",))
                assert client.is_fetching() == 0

    async def test_S3_a_child_task_that_outlived_its_fetch_is_told_that_what_it_waits_for_was_forgotten(self, client):
        children, used = [], asyncio.Event()

        async def parent():
            children.append(asyncio.create_task(client.query(("child",), child)))
            return "done"

        async def child():
            use_identity(A)
            used.set()
            await asyncio.Event().wait()

        assert await client.query(("parent",), parent, stale_time=60) == "done"
        await used.wait()
        client.forget(A)
        with pytest.raises(QueryCancelled):
            await children[0]
        assert client.get_query_data(("parent",)) == "done"
