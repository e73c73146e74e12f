"""S3, parking: observed keys that were forgotten are pending and idle until a new login, or until someone asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from querykit import QueryCancelled, QueryClient, query_options, use_identity
from tests.identities import A, B, returns, until_settled

KEY = ("k",)


@pytest.fixture
async def client() -> AsyncIterator[QueryClient]:
    async with QueryClient() as client:
        yield client


class Login:
    """A query function that answers with the login of the moment, and counts its calls."""

    def __init__(self, *identities):
        self.identities = identities or (A,)
        self.who = "old"
        self.calls = 0

    async def __call__(self):
        self.calls += 1
        for identity in self.identities:
            use_identity(identity)
        who = self.who
        await asyncio.sleep(0)
        return who


async def turns(count=10):
    for _ in range(count):
        await asyncio.sleep(0)


async def settled(results):
    return [result async for result in until_settled(results)][-1]


def assert_parked(client, results, key=KEY):
    assert (results.result.status, results.result.fetch_status) == ("pending", "idle")
    assert not results.result.has_data
    assert client.get_query_data(key) is None
    assert client.is_fetching(key) == 0


class TestWhatIsParked:
    async def test_S3_observed_keys_are_pending_and_idle(self, client):
        fn = Login()
        async with client.observe(KEY, fn) as results:
            assert (await settled(results)).data == "old"
            client.forget(A)
            assert_parked(client, results)
            await turns()
            assert_parked(client, results)
            assert fn.calls == 1

    async def test_S3_the_observer_is_told(self, client):
        fn = Login()
        async with client.observe(KEY, fn) as results:
            await settled(results)
            client.forget(A)
            assert (await anext(results)).is_pending

    async def test_S3_observed_keys_whose_fetch_was_forgotten(self, client):
        fn = Login()
        async with client.observe(KEY, fn) as results:
            await turns(1)
            client.forget(A)
            await turns()
            assert_parked(client, results)
            assert fn.calls == 1

    async def test_S3_unobserved_ones_vanish(self, client):
        fn = Login()
        await client.query(KEY, fn)
        client.forget(A)
        assert len(client.cache) == 0
        async with client.observe(KEY, fn) as results:  # no more parked than a key that never was
            assert (await settled(results)).is_success

    async def test_S3_a_parent_of_what_was_forgotten_is_parked_too(self, client):
        """It read the child's data, so that it goes with it."""
        child = Login()
        async with client.observe(("parent",), lambda: client.query(("child",), child)) as results:
            assert (await settled(results)).data == "old"
            client.forget(A)
            assert_parked(client, results, ("parent",))

    async def test_S3_a_parent_that_waits_for_what_was_forgotten_is_parked_too(self, client):
        """It is told that the child was cancelled, which takes on its identities: its fallback is refused."""
        used = asyncio.Event()

        async def child():
            use_identity(A)
            used.set()
            await asyncio.Event().wait()

        async def parent():
            try:
                return await client.query(("child",), child)
            except Exception:
                return "fallback"

        async with client.observe(("parent",), parent) as results:
            await used.wait()
            client.forget(A)
            await turns()
            assert_parked(client, results, ("parent",))

    async def test_S3_a_parent_that_waits_goes_at_once(self, client):
        """A new login may follow at once: it must find the parent, also two levels up and without observers."""
        fn, began = Login(), asyncio.Event()

        async def child():
            began.set()
            return await fn()

        async def middle():
            return await client.query(("child",), child)

        asking = asyncio.create_task(client.query(("other",), middle))
        async with client.observe(("high",), lambda: client.query(("middle",), middle)) as results:
            await began.wait()
            await turns(1)
            client.forget(A)
            assert_parked(client, results, ("high",))
            assert [query.key for query in client.cache] == [("high",)]
            fn.who = "new"
            await client.forget(A, restart=True)
            assert results.result.data == "new"
        with pytest.raises(QueryCancelled, match="forgotten"):
            await asking


async def invalidate(client, results):
    client.invalidate_queries(KEY)


async def invalidate_all(client, results):
    client.invalidate_queries(KEY, refetch_type="all")


async def refetch(client, results):
    client.refetch_queries()


async def reset(client, results):
    client.reset_queries(KEY)


async def cancel(client, results):
    client.cancel_queries(KEY)


async def remove(client, results):
    client.remove_queries(KEY)


async def remove_and_refetch(client, results):
    client.remove_queries(KEY)
    client.refetch_queries(KEY)
    client.reset_queries(KEY)


async def mount(client, results):
    async with client.observe(KEY) as more:
        await turns()
        assert_parked(client, more)


async def restart_another(client, results):
    await client.forget(B, restart=True)


async def forget_again(client, results):
    client.forget(A)


async def query_with_skip(client, results):
    assert client.get_query_data(KEY) is None
    client.get_query_state(KEY)


QUIET = (
    invalidate, invalidate_all, refetch, reset, cancel, remove, remove_and_refetch, mount, restart_another,
    forget_again, query_with_skip,
)  # fmt: skip


@pytest.mark.parametrize("what", QUIET, ids=lambda what: what.__name__)
async def test_S3_nothing_fetches_a_parked_key(client, what):
    """No mount, invalidation, refetch or reset; removing keeps the parking."""
    fn = Login()
    async with client.observe(KEY, fn) as results:
        await settled(results)
        client.forget(A)
        await what(client, results)
        await turns()
        assert_parked(client, results)
        assert fn.calls == 1
        fn.who = "new"
        await client.forget(A, restart=True)
        assert results.result.data == "new"


async def prefetch(client, results, fn):
    await client.prefetch(KEY, fn)


async def query(client, results, fn):
    await client.query(KEY, fn)


async def refetch_observation(client, results, fn):
    await results.refetch()


@pytest.mark.parametrize("ask", [prefetch, query, refetch_observation], ids=lambda ask: ask.__name__)
async def test_S3_asking_for_a_parked_key_ends_the_parking(client, ask):
    """Until someone asks for that key: `query`, `prefetch` or the observer's `refetch`."""
    fn = Login()
    async with client.observe(KEY, fn) as results:
        await settled(results)
        client.forget(A)
        fn.who = "new"
        await ask(client, results, fn)
        assert results.result.data == "new"
        await client.invalidate_queries(KEY)
        assert fn.calls == 3


class TestRestart:
    @pytest.mark.parametrize("forgotten", [A, B])
    @pytest.mark.parametrize("renewed", [A, B])
    async def test_S3_any_of_its_identities_ends_the_parking(self, client, forgotten, renewed):
        fn = Login(A, B)
        async with client.observe(KEY, fn) as results:
            await settled(results)
            client.forget(forgotten)
            fn.who = "new"
            await client.forget(renewed, restart=True)
            assert results.result.data == "new"

    async def test_S3_what_was_parked_twice_is_known_by_all(self, client):
        fn = Login(A)
        async with client.observe(KEY, fn) as results:
            await settled(results)
            client.forget(A)
            client.set_query_data(KEY, "by hand", identity=B)
            client.forget(B)
            assert_parked(client, results)
            await client.forget(A, restart=True)
            assert results.result.data == "old"

    async def test_S3_it_forgets_as_well(self, client):
        """What was fetched between the two, with whichever credential, is not kept."""
        fn = Login()
        async with client.observe(KEY, fn) as results:
            await settled(results)
            fn.who = "new"
            pending = client.forget(A, restart=True)
            assert results.result.status == "pending"
            assert results.result.is_fetching
            await pending
            assert results.result.data == "new"

    async def test_S3_what_is_no_longer_observed_is_not_fetched(self, client):
        fn = Login()
        async with client.observe(KEY, fn) as results:
            await settled(results)
            client.forget(A)
        await client.forget(A, restart=True)
        assert fn.calls == 1

    async def test_S3_what_is_observed_again_is_still_parked(self, client):
        """A mount does not end the parking, also after the last observer had left."""
        fn = Login()
        async with client.observe(KEY, fn) as results:
            await settled(results)
            client.forget(A)
        async with client.observe(KEY, fn) as results:
            await turns()
            assert_parked(client, results)

    async def test_S3_parents_and_children_are_fetched_once_each(self, client):
        child = Login()
        parent = Login()

        async def composite():
            parent.calls += 1
            return await client.query(("child",), child)

        async with client.observe(("parent",), composite) as high, client.observe(("child",), child) as low:
            await settled(high)
            await settled(low)
            calls = child.calls
            client.forget(A)
            child.who = "new"
            await client.forget(A, restart=True)
            assert (high.result.data, low.result.data) == ("new", "new")
            assert (parent.calls, child.calls) == (2, calls + 1)

    async def test_S3_a_key_that_has_no_function_stays_blank(self, client):
        async with client.observe(KEY) as results:
            client.set_query_data(KEY, 1, identity=A)
            client.forget(A)
            await client.forget(A, restart=True)
            assert_parked(client, results)

    async def test_S3_from_inside_of_the_function(self, client):
        """The doomed run goes on, for nothing; a new one begins beside it, and is the one that counts."""
        fn = Login()

        async def renews():
            who = await fn()
            if fn.who == "old":
                fn.who = "new"
                client.forget(A, restart=True)
                await turns()
            return who

        async with client.observe(KEY, renews) as results:
            await turns(20)
            assert results.result.data == "new"
            assert fn.calls == 2


class TestInitialDataAndForgetting:
    """Initial data that belongs to an identity was given before it was forgotten: it is not brought back.

    The design says that a reset applies `initial_data` again, and that nothing of a former identity survives:
    where both speak, the second counts. What a callable makes, it makes anew.
    """

    async def test_S3_a_reset_does_not_bring_it_back(self, client):
        async with client.observe(KEY, Login(), initial_data="old", stale_time=60, identity=A) as results:
            assert results.result.data == "old"
            client.forget(A)
            client.reset_queries(KEY)
            assert_parked(client, results)

    async def test_S3_a_refetch_does_not_bring_it_back(self, client):
        fn = Login()
        async with client.observe(KEY, fn, initial_data="initial", stale_time=60, identity=A) as results:
            client.forget(A)
            fn.who = "new"
            pending = results.refetch()
            assert not results.result.has_data
            await pending
            assert results.result.data == "new"

    async def test_S3_nor_does_what_a_function_gave(self, client):
        shown = []

        async def parent():
            use_identity(A)
            async with client.observe(("child",), Login(B), initial_data="old", stale_time=60) as results:
                shown.append(results.result.data)
                client.remove_queries(("child",))
                client.reset_queries(("child",))
                shown.append(results.result.data)

        await client.query(("parent",), parent)
        assert shown == ["old", None]

    async def test_S3_a_callable_makes_it_anew(self, client):
        made = []

        def initial():
            made.append(1)
            return len(made)

        async with client.observe(KEY, Login(), initial_data=initial, stale_time=60, identity=A) as results:
            assert results.result.data == 1
            client.forget(A)
            assert_parked(client, results)
            client.reset_queries(KEY)
            assert results.result.data == 2

    async def test_S3_without_an_identity_a_reset_applies_it_again(self, client):
        options = query_options(KEY, returns(2), initial_data="initial", stale_time=60)
        async with client.observe(options) as results:
            client.set_query_data(KEY, "other")
            client.reset_queries(KEY)
            assert results.result.data == "initial"
