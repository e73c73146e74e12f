"""S3, forgetting: what goes, and what is refused afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from querykit import Cause, QueryCancelled, QueryClient, QuerykitError, query_options, skip, use_identity
from tests.identities import A, B, Held, raises, returns


@pytest.fixture
async def client() -> AsyncIterator[QueryClient]:
    async with QueryClient() as client:
        yield client


class TestWhatGoes:
    async def test_S3_an_entry_goes_with_any_of_its_identities(self, client):
        await client.query(("both",), returns(1, A, B))
        await client.query(("b",), returns(1, B))
        client.forget(A)
        assert client.get_query_state(("both",)) is None
        assert client.get_query_data(("b",)) == 1

    async def test_S3_it_goes_before_the_call_returns_and_is_told_of(self, client):
        await client.query(("k",), returns(1, A))
        events = []
        with client.cache.subscribe(lambda event: events.append((event.kind, event.cause, event.query.state.has_data))):
            pending = client.forget(A)
            assert events == [("removed", Cause.FORGET, False)]
        await pending

    async def test_S3_nobody_is_told_before_all_of_it_is_gone(self, client):
        """A listener who hears of the first entry must not find the second: it could hand it on."""
        for number in range(10):
            await client.query(("k", number), returns(number, A))
        seen = []
        with client.cache.subscribe(lambda event: seen.append(client.get_queries_data())):
            client.forget(A)
        assert seen == [[]] * 10

    async def test_S3_a_remembered_error_goes(self, client):
        with pytest.raises(ValueError):
            await client.query(("k",), lambda: raises(A))
        client.forget(A)
        assert client.get_query_state(("k",)) is None

    async def test_S3_data_goes_with_the_identity_of_the_error_beside_it(self, client):
        await client.query(("k",), returns(1, A))
        with pytest.raises(ValueError):
            await client.query(("k",), lambda: raises(B))
        client.forget(B)
        assert client.get_query_state(("k",)) is None

    @pytest.mark.virtual_time
    async def test_S3_the_reason_of_a_failed_attempt_goes(self, client):
        """Also where its fetch was cancelled since, and the entry has neither data nor error."""
        failed = asyncio.Event()

        async def fn():
            use_identity(A)
            failed.set()
            raise ConnectionError("only ada may know")

        asking = asyncio.create_task(client.query(("k",), fn, retry_delay=60))
        await failed.wait()
        await asyncio.sleep(1)
        client.cancel_queries(("k",))
        with pytest.raises(QueryCancelled):
            await asking
        assert "ada" in str(client.get_query_state(("k",)).fetch_failure_reason)
        client.forget(A)
        assert client.get_query_state(("k",)) is None

    async def test_S3_a_running_fetch_that_used_it_goes(self, client):
        fn = Held(A)
        asking = asyncio.create_task(client.query(("k",), fn))
        await fn.used.wait()
        client.forget(A)
        assert client.is_fetching() == 0
        with pytest.raises(QueryCancelled, match="forgotten"):
            await asking
        assert len(client.cache) == 0

    async def test_S3_a_running_fetch_goes_with_its_entry(self, client):
        """Whatever it has named itself."""
        await client.query(("k",), returns(1, A))
        fn = Held()
        asking = asyncio.create_task(client.query(("k",), fn))
        await fn.used.wait()
        client.forget(A)
        with pytest.raises(QueryCancelled, match="forgotten"):
            await asking
        assert len(client.cache) == 0

    async def test_S3_one_that_named_nothing_yet_counts_if_it_names_the_new_credential(self, client):
        """On an entry of no identity: what it did so far was under none."""
        began, go_on = asyncio.Event(), asyncio.Event()

        async def fn():
            began.set()
            await go_on.wait()
            use_identity(A)
            return "new"

        asking = asyncio.create_task(client.query(("k",), fn))
        await began.wait()
        client.forget(A)
        go_on.set()
        assert await asking == "new"
        client.forget(A)
        assert len(client.cache) == 0

    async def test_S3_the_first_use_counts_not_the_last(self, client):
        """It used the old credential, and the new one: its value is of both."""
        first, go_on = asyncio.Event(), asyncio.Event()

        async def fn():
            with pytest.raises(asyncio.CancelledError):
                use_identity(A)
                first.set()
                await go_on.wait()
            use_identity(A)
            client.set_query_data(("mixed",), "old and new")
            return "old and new"

        asking = asyncio.create_task(client.query(("k",), fn))
        await first.wait()
        client.forget(A)
        with pytest.raises(QueryCancelled):
            await asking
        for _ in range(5):
            await asyncio.sleep(0)
        assert client.get_queries_data() == []

    async def test_S3_an_answer_that_was_not_yet_taken_goes(self, client):
        fn = Held(A)
        asking = asyncio.create_task(client.query(("k",), fn))
        await fn.used.wait()
        query = client.cache.find(("k",))
        fn.go_on.set()
        while not query.has_data:
            await asyncio.sleep(0)
        client.forget(A)
        with pytest.raises(QueryCancelled):
            await asking

    async def test_S3_an_error_that_was_not_yet_taken_goes(self, client):
        held = Held(A)

        async def fn():
            await held()
            raise ValueError("only ada may know")

        asking = asyncio.create_task(client.query(("k",), fn))
        pending = None
        await held.used.wait()
        query = client.cache.find(("k",))
        pending = client.refetch_queries(("k",), throw_on_error=True)
        held.go_on.set()
        while query.error is None:
            await asyncio.sleep(0)
        client.forget(A)
        with pytest.raises(QueryCancelled, match="forgotten"):
            await asking
        with pytest.raises(QueryCancelled, match="forgotten"):
            await pending

    async def test_S3_what_a_select_made_goes(self, client):
        """Of the entry's data, or of what it read itself: it is made anew, and the observer is woken for it."""
        client.set_query_data(("rights",), "ada's", identity=A)
        selected = query_options(("k",), returns("data")).select(
            lambda data: (data, client.get_query_data(("rights",), "nobody's"))
        )
        async with client.observe(selected) as results:
            seen = []
            async for result in results:
                seen.append(result.data)
                if result.data == ("data", "ada's"):
                    client.forget(A)
                if result.data == ("data", "nobody's"):
                    break
        assert seen == [None, ("data", "ada's"), ("data", "nobody's")]

    async def test_S3_a_select_that_forgets_what_it_read_has_no_value(self, client):
        client.set_query_data(("rights",), "ada's", identity=A)

        def select(data):
            rights = client.get_query_data(("rights",))
            client.forget(A)
            return rights

        async with client.observe(query_options(("k",), returns(1)).select(select)) as results:
            await client.query(("k",), returns(1))
            result = results.result  # made anew, of nobody's rights
            assert (result.status, result.has_data, result.data) == ("success", True, None)

    async def test_S3_an_unknown_identity_is_nobodys(self, client):
        await client.query(("k",), returns(1, A))
        await client.forget(B)
        await client.forget(B, restart=True)
        assert client.get_query_data(("k",)) == 1

    async def test_S3_it_needs_no_running_loop_and_no_open_client(self):
        client = QueryClient()
        async with client:
            await client.query(("k",), returns(1, A))
        client.forget(A)
        await client.forget(A, restart=True)


def test_S3_what_was_set_before_there_is_a_loop_goes_too():
    client = QueryClient()
    client.set_query_data(("k",), 1, identity=A)
    client.forget(A)
    assert client.get_query_data(("k",)) is None


class TestWhatIsRefused:
    """A record whose epoch for an identity is older than its stamp is doomed: its value and its writes are refused."""

    WAYS = ("a child task", "a thread", "a plain callback", "a callback of a thread")

    @pytest.mark.parametrize("way", WAYS)
    async def test_S3_a_late_write_from(self, client, way):
        """The fetch has ended long ago, its answer with it: what works on for it carries its record."""
        loop = asyncio.get_running_loop()
        go_on, done = asyncio.Event(), asyncio.Event()

        def write():
            client.set_query_data(("late",), "late")
            client.set_query_data(("there",), "late")
            client.set_query_data(("there",), lambda old: "late")
            client.set_queries_data(("there",), updater=lambda old: "late")
            loop.call_soon_threadsafe(done.set)

        async def child():
            await go_on.wait()
            if way == "a thread":
                await asyncio.to_thread(client.portal.call, write)
            elif way == "a plain callback":
                loop.call_soon(write)
            elif way == "a callback of a thread":
                await asyncio.to_thread(loop.call_soon_threadsafe, write)
            else:
                write()

        children = []

        async def fn():
            use_identity(A)
            children.append(asyncio.create_task(child()))
            return "value"

        await client.query(("k",), fn)
        client.forget(A)
        client.set_query_data(("there",), "new")
        go_on.set()
        await asyncio.gather(*children)
        await done.wait()
        assert client.get_queries_data() == [(("there",), "new")]

    async def test_S3_a_late_write_of_a_fetch_that_went_with_its_entry(self, client):
        """It named nothing, but its entry's data was there for it to use: the safe side."""
        await client.query(("k",), returns(1, A))
        began = asyncio.Event()

        async def fn():
            began.set()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.Event().wait()
            client.set_query_data(("k",), "late")
            client.set_query_data(("another",), "late")
            return "late"

        asking = asyncio.create_task(client.query(("k",), fn))
        await began.wait()
        client.forget(A)
        with pytest.raises(QueryCancelled):
            await asking
        await asyncio.sleep(0)
        assert client.get_queries_data() == []

    async def test_S3_initial_data_from_a_doomed_function(self, client):
        go_on = asyncio.Event()

        async def child():
            await go_on.wait()
            await client.query(("late",), skip, initial_data="late")

        children = []

        async def fn():
            use_identity(A)
            children.append(asyncio.create_task(child()))

        await client.query(("k",), fn)
        client.forget(A)
        go_on.set()
        with pytest.raises(QuerykitError):
            await children[0]
        assert client.get_queries_data() == []

    async def test_S3_initial_data_whose_callable_forgets_what_it_used(self, client):
        def initial():
            use_identity(A)
            client.forget(A)
            return "old"

        assert await client.query(("k",), returns("new"), initial_data=initial, stale_time=60) == "new"

    async def test_S3_an_updater_that_forgets_what_it_updates(self, client):
        client.set_query_data(("k",), 1, identity=A)
        client.set_query_data(("k",), lambda old: client.forget(A) and old)
        assert client.get_query_data(("k",)) is None

    async def test_S3_a_write_is_refused_where_telling_of_the_new_entry_forgets(self, client):
        """Whoever hears of the new entry may log out: it goes again before the call returns."""

        async def fn():
            use_identity(A)
            await asyncio.sleep(0)  # an eager task is told of after its first step
            with client.cache.subscribe(lambda event: event.query.key == ("new",) and client.forget(A)):
                client.set_query_data(("new",), "old")
            return client.get_query_data(("new",))

        with pytest.raises(QueryCancelled):
            await client.query(("k",), fn)
        assert client.get_queries_data() == []

    async def test_S3_stale_data_is_not_returned_where_telling_of_the_refresh_forgets(self, client):
        """`swr` returns the old data, unless beginning the refresh has made it somebody else's."""
        await client.query(("k",), returns("old", A))
        forgetful = client.cache.subscribe(lambda event: event.cause is Cause.FETCH and client.forget(A))
        with forgetful, pytest.raises(QueryCancelled):
            await client.query(("k",), returns("new"), swr=True)

    async def test_S3_a_doomed_fetch_is_not_retried(self, client):
        calls = []

        async def fn():
            calls.append(1)
            use_identity(A)
            client.forget(A)
            raise ConnectionError("401")

        with pytest.raises(ConnectionError, match="401"):
            await client.query(("k",), fn, retry=3, retry_delay=0)
        assert calls == [1]

    async def test_S3_what_is_computed_afterwards_is_welcome(self, client):
        await client.query(("k",), returns("old", A))
        client.forget(A)
        assert await client.query(("k",), returns("new", A)) == "new"
        client.set_query_data(("set",), 1, identity=A)
        assert client.get_query_data(("set",)) == 1
