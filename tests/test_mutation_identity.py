"""S3 and mutations: what is forgotten with an identity, and what its caller still gets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from querykit import Cause, MutationObserver, QueryCancelled, QueryClient, use_identity
from tests.fetches import Gate, settled
from tests.identities import A, B, Held, returns

pytestmark = pytest.mark.virtual_time

KEY = ("pods", "prod")


@pytest.fixture
async def client() -> AsyncIterator[QueryClient]:
    async with QueryClient() as client:
        yield client


class TestForgetting:
    async def test_S3_one_that_has_ended_goes(self, client):
        await client.mutate(returns("secret", A), key=KEY)
        await client.mutate(returns("other", B))
        mutation = client.mutations.find(KEY)
        events = []
        client.mutations.subscribe(lambda event: events.append((event.kind, event.cause, event.mutation.state.data)))
        client.forget(A)
        assert events == [("removed", Cause.FORGET, None)]
        assert len(client.mutations) == 1
        assert (mutation.state.is_idle, mutation.state.variables, mutation.state.data) == (True, None, None)

    async def test_S3_its_error_goes(self, client):
        async def fn():
            use_identity(A)
            raise LookupError("secret")

        with pytest.raises(LookupError):
            await client.mutate(fn)
        mutation = client.mutations.find()
        client.forget(A)
        assert (mutation.state.error, mutation.state.failure_reason) == (None, None)

    async def test_S3_one_that_runs_goes_and_its_caller_still_gets_the_result(self, client):
        held, log = Held(A, value="secret"), []
        begun = client.mutate(held, on_success=lambda data, v, ctx: log.append(data))
        await held.used.wait()
        mutation = client.mutations.find()
        client.forget(A)
        assert (len(client.mutations), client.is_mutating()) == (0, 0)
        held.go_on.set()
        assert await begun == "secret"
        assert log == ["secret"]
        assert mutation.state.is_idle

    async def test_S3_or_the_error(self, client):
        gate = Gate()
        begun = client.mutate(gate, identity=A, retry=3, retry_on=(LookupError,))
        await settled()
        client.forget(A)
        await gate.answer(LookupError("mine"))
        with pytest.raises(LookupError, match="mine"):
            await begun
        assert gate.calls == 1  # it is not retried

    @pytest.mark.parametrize("why", ["its turn", "on_mutate", "the network", "a retry"])
    async def test_S3_one_that_waits_for_something_does_not_run_with_the_credential_of_another(self, client, why):
        first, ran = Gate(), []

        async def fn(variables):
            ran.append(variables)
            raise ConnectionError

        async def slow(variables, ctx):
            await asyncio.sleep(5)

        client.mutate(first, scope="s")
        await settled()
        client.online.set(why != "the network")
        begun = client.mutate(
            fn,
            "ada's",
            identity=A,
            scope="s" if why == "its turn" else None,
            on_mutate=slow if why == "on_mutate" else None,
            retry=1,
            retry_delay=5,
        )
        await settled()
        ran.clear()
        client.forget(A)
        client.online.set(True)
        await first.answer(1)
        with pytest.raises(QueryCancelled, match="was forgotten"):
            await begun
        assert ran == []

    async def test_S3_its_further_writes_are_refused(self, client):
        gate = Gate()

        async def fn():
            use_identity(A)
            await gate()
            client.set_query_data(KEY, "secret")

        begun = client.mutate(fn, on_settled=lambda *a: client.set_query_data(("other",), "secret"))
        await settled()
        client.forget(A)
        await gate.answer(1)
        await begun
        assert len(client.cache) == 0

    async def test_S3_what_it_has_changed_is_invalidated_all_the_same(self, client):
        await client.query(KEY, lambda: "data")
        gate = Gate()
        begun = client.mutate(gate, identity=A, invalidates=[KEY])
        await settled()
        client.forget(A)
        await gate.answer(1)
        await begun
        assert client.get_query_state(KEY).is_invalidated

    async def test_S3_an_observer_shows_it_no_more_and_callbacks_of_the_call_do_not_come(self, client):
        gate, seen, log = Gate(), [], []
        observer = MutationObserver(client, gate, identity=A)
        with observer.subscribe(lambda state: seen.append((state.status, state.variables))):
            begun = observer.mutate("secret", on_success=lambda *a: log.append("called"))
            await settled()
            client.forget(A)
            assert observer.result.is_idle
            await gate.answer("secret")
            await begun
        assert (seen, log) == ([("pending", "secret"), ("idle", None)], [])

    async def test_S3_one_that_read_what_is_forgotten_goes(self, client):
        await client.query(KEY, returns("secret", A))
        await client.mutate(lambda: client.get_query_data(KEY))
        client.forget(A)
        assert len(client.mutations) == 0

    async def test_S3_one_that_waits_for_a_query_that_is_forgotten_goes(self, client):
        held = Held(A)
        begun = client.mutate(lambda: client.query(KEY, held))
        await held.used.wait()
        client.forget(A)
        with pytest.raises(QueryCancelled, match="forgotten"):
            await begun
        assert len(client.mutations) == 0

    async def test_S3_one_that_was_forgotten_already_may_lose_what_it_waits_for(self, client):
        held = Held(A)
        begun = client.mutate(lambda: client.query(KEY, held), identity=B)
        await held.used.wait()
        client.forget(B)
        client.forget(A)
        with pytest.raises(QueryCancelled, match="forgotten"):
            await begun

    async def test_S3_one_that_a_function_began_belongs_to_what_that_had_used(self, client):
        async def fn():
            use_identity(A)
            client.mutate(lambda secret: secret, "secret", key=KEY)

        await client.query(("q",), fn)
        await settled()
        client.forget(A)
        assert len(client.mutations) == 0

    async def test_S3_one_begun_by_what_is_doomed_runs_and_is_never_seen(self, client):
        held, ran = Held(A), []

        async def fn():
            await held()
            begun = client.mutate(ran.append, "secret", optimistic=[(("list",), lambda data: ["secret"])])
            assert len(client.mutations) == 0
            await begun

        client.set_query_data(("list",), [])
        begun = client.mutate(fn)
        await held.used.wait()
        client.forget(A)
        held.go_on.set()
        await begun
        assert ran == ["secret"]
        assert client.get_query_data(("list",)) == []

    async def test_S3_one_begun_by_a_doomed_function_of_another_client(self, client):
        async with QueryClient() as other:
            held, ran = Held(A), []

            async def fn():
                await held()
                await client.mutate(ran.append, 1)

            begun = other.mutate(fn)
            await held.used.wait()
            other.forget(A)
            held.go_on.set()
            await begun
            assert ran == [1]

    async def test_S3_one_that_takes_on_what_was_forgotten_before_goes(self, client):
        """Nobody tells it: it belongs to no identity when that is forgotten."""
        gate = Gate()

        async def inner():
            use_identity(A)
            await gate()
            return "secret"

        awaited = client.mutate(inner)
        await settled()
        client.forget(A)

        async def outer():
            return await awaited

        begun = client.mutate(outer, key=KEY)
        await settled()
        await gate.answer(1)
        assert await begun == "secret"
        assert client.mutations.find(KEY) is None

    async def test_S3_a_new_credential_may_be_used_at_once(self, client):
        client.forget(A)
        await client.mutate(returns("new", A))
        assert client.mutations.find().state.data == "new"


class TestSpreading:
    async def test_S3_who_awaits_it_takes_on_its_identities(self, client):
        await client.query(KEY, lambda: client.mutate(returns("secret", A)))
        client.forget(A)
        assert client.get_query_data(KEY) is None

    async def test_S3_who_gets_its_error_too(self, client):
        async def fn():
            use_identity(A)
            raise LookupError("secret")

        async def query():
            try:
                return await client.mutate(fn)
            except LookupError as error:
                return str(error)

        await client.query(KEY, query)
        client.forget(A)
        assert client.get_query_data(KEY) is None

    async def test_S3_who_reads_its_state_takes_on_its_identities(self, client):
        await client.mutate(returns("secret", A))
        await client.query(KEY, lambda: client.mutations.find().state.data)
        client.forget(A)
        assert client.get_query_data(KEY) is None

    async def test_S3_also_through_an_observer(self, client):
        observer = MutationObserver(client, returns("secret", A))
        await observer.mutate()
        await client.query(KEY, lambda: observer.result.data)
        client.forget(A)
        assert client.get_query_data(KEY) is None

    async def test_S3_what_it_sets_belongs_to_it(self, client):
        await client.mutate(lambda: client.set_query_data(KEY, "secret"), identity=A)
        client.forget(A)
        assert client.get_query_data(KEY) is None

    async def test_S3_a_mutations_writes_count_from_the_call(self, client):
        gate = Gate()

        async def fn():
            await gate()
            client.set_query_data(KEY, "new")

        begun = client.mutate(fn)
        await settled()
        client.set_query_data(KEY, "old")
        client.remove_queries(KEY)
        await gate.answer(1)
        await begun
        assert client.get_query_data(KEY) == "new"

    async def test_S3_threads_take_part(self, client):
        await client.mutate(lambda: asyncio.to_thread(use_identity, A))
        client.forget(A)
        assert len(client.mutations) == 0
