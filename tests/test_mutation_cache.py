"""All mutations of a client: reading them, their events, filters, defaults, collection, and what is refused."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator

import pytest

from querykit import Cause, MutationSpec, QueryClient, WrongThread, mutation_options
from tests.fetches import Gate, settled

pytestmark = pytest.mark.virtual_time

KEY = ("pods", "prod")


@pytest.fixture
async def client() -> AsyncIterator[QueryClient]:
    async with QueryClient() as client:
        yield client


async def refused():
    raise LookupError("no")


async def some(client):
    """One of each status, and one without a key."""
    await client.mutate(lambda: 1, key=("pods", "a"))
    with pytest.raises(LookupError):
        await client.mutate(refused, key=("pods", "b"))
    gate = Gate()
    client.mutate(gate, key=("nodes",))
    await client.mutate(lambda: 1)
    await settled()
    return gate


class TestReading:
    async def test_it_is_iterated_the_oldest_first(self, client):
        gate = await some(client)
        assert [mutation.key for mutation in client.mutations] == [("pods", "a"), ("pods", "b"), ("nodes",), None]
        assert len(client.mutations) == 4
        await gate.answer(1)

    async def test_filters_mean_a_prefix_or_exactly_a_key_or_a_status_or_what_a_predicate_says(self, client):
        def keys(found):
            return [mutation.key for mutation in found]

        gate = await some(client)
        cache = client.mutations
        assert keys(cache.match(("pods",))) == [("pods", "a"), ("pods", "b")]
        assert keys(cache.match(("pods",), exact=True)) == []
        assert keys(cache.match(("pods", "b"), exact=True)) == [("pods", "b")]
        assert keys(cache.match(status="pending")) == [("nodes",)]
        assert keys(cache.match(("pods",), status="error")) == [("pods", "b")]
        assert keys(cache.match(predicate=lambda one: one.key is None)) == [None]
        assert len(cache.match()) == 4
        assert cache.find(("pods",)).key == ("pods", "a")
        assert cache.find(("x",)) is None
        await gate.answer(1)

    async def test_is_mutating_counts_the_pending_ones(self, client):
        gate = await some(client)
        assert client.is_mutating() == 1
        assert client.is_mutating(("nodes",)) == 1
        assert client.is_mutating(("pods",)) == 0
        await gate.answer(1)
        assert client.is_mutating() == 0

    @pytest.mark.parametrize(
        ("filters", "problem"),
        [
            ({"key": "pods"}, TypeError),
            ({"key": None}, TypeError),
            ({"status": None}, TypeError),
            ({"status": "done"}, ValueError),
            ({"exact": True}, TypeError),
            ({"exact": 1, "key": KEY}, TypeError),
            ({"predicate": 1}, TypeError),
            ({"stale": True}, TypeError),
        ],
        ids=repr,
    )
    async def test_a_wrong_filter_is_refused(self, client, filters, problem):
        with pytest.raises(problem):
            client.mutations.match(**filters)


class TestEvents:
    async def test_a_listener_that_raises_is_reported_and_disturbs_nobody(self, client, reported):
        seen = []
        client.mutations.subscribe(lambda event: 1 / 0)
        client.mutations.subscribe(lambda event: seen.append(event.kind))
        await client.mutate(lambda: 1, key=KEY)
        assert seen == ["added", "updated", "updated"]
        assert len(reported.take()) == 3

    async def test_one_that_left_hears_no_more_and_leaving_twice_is_fine(self, client):
        seen = []
        undo = client.mutations.subscribe(seen.append)
        undo()
        undo()
        await client.mutate(lambda: 1)
        assert seen == []

    async def test_a_listener_that_is_none_is_refused(self, client):
        with pytest.raises(TypeError):
            client.mutations.subscribe(None)

    async def test_subscribing_from_another_thread_is_refused(self, client):
        await settled()
        with pytest.raises(WrongThread):
            await asyncio.to_thread(client.mutations.subscribe, print)
        with pytest.raises(WrongThread):
            await asyncio.to_thread(client.mutations.clear)

    async def test_a_removal_is_told(self, client):
        await client.mutate(lambda: 1)
        seen = []
        client.mutations.subscribe(lambda event: seen.append((event.kind, event.cause, event.mutation.state.status)))
        client.mutations.clear()
        assert seen == [("removed", Cause.REMOVE, "idle")]


class TestCollecting:
    async def test_one_that_has_ended_goes_after_its_gc_time(self, client):
        events = []
        client.mutations.subscribe(lambda event: events.append((event.kind, event.cause)))
        await client.mutate(lambda: 1, gc_time=10)
        mutation = client.mutations.find()
        await asyncio.sleep(9)
        assert len(client.mutations) == 1
        await asyncio.sleep(3)
        assert len(client.mutations) == 0
        assert events[-1] == ("removed", Cause.EXPIRE)
        assert mutation.state.is_idle

    async def test_one_that_runs_stays(self, client):
        gate = Gate()
        client.mutate(gate, gc_time=0)
        await asyncio.sleep(60)
        assert len(client.mutations) == 1
        await gate.answer(1)
        await asyncio.sleep(2)
        assert len(client.mutations) == 0

    async def test_it_keeps_nothing_afterwards(self, client):
        class Data:
            pass

        data = Data()
        seen = weakref.ref(data)
        await client.mutate(lambda data: data, data, gc_time=1)
        del data
        await asyncio.sleep(3)
        gc.collect()
        assert seen() is None

    async def test_one_that_was_cleared_away_is_held_by_nobody(self, client):
        await client.mutate(lambda: 1)
        seen = weakref.ref(client.mutations.find())
        client.mutations.clear()
        await settled()
        gc.collect()
        assert seen() is None

    async def test_there_are_at_most_max_entries_that_have_ended(self):
        async with QueryClient(max_entries=2) as client:
            events = []
            client.mutations.subscribe(lambda event: events.append((event.kind, event.cause)))
            for number in range(5):
                await client.mutate(lambda: 1, key=(number,))
            assert [mutation.key for mutation in client.mutations] == [(3,), (4,)]
            assert events.count(("removed", Cause.EVICT)) == 3

    async def test_clearing_lets_those_that_run_run_to_their_end(self, client):
        gate = Gate()
        begun = client.mutate(gate)
        mutation = client.mutations.find()
        await settled()
        client.clear()
        assert len(client.mutations) == 0
        await gate.answer("data")
        assert await begun == "data"
        assert mutation.state.is_idle

    async def test_many_leave_nothing_behind(self, client):
        for number in range(2_000):
            client.mutate(lambda: 1, key=("k", number), scope=number % 10, gc_time=1, identity=number % 5)
        await asyncio.sleep(5)
        assert len(client.mutations) == 0
        assert len(client.cache.ledger.living) == 0
        assert client.cache.ledger._holders == {}
        assert client.mutations._scopes == {}


class TestOptions:
    async def test_defaults_merge_in_the_order_of_registration_and_the_call_wins(self):
        async with QueryClient(default_options={"mutations": {"meta": {"a": 0}, "gc_time": 7}}) as client:
            client.set_mutation_defaults(("pods",), meta={"a": 1}, scope="s")
            client.set_mutation_defaults(KEY, meta={"a": 2})
            await client.mutate(lambda: 1, key=KEY)
            await client.mutate(lambda: 1, key=KEY, meta={"a": 3})
            await client.mutate(lambda: 1)
            assert [(one.meta, one.scope, one.gc_time) for one in client.mutations] == [
                ({"a": 2}, "s", 7),
                ({"a": 3}, "s", 7),
                ({"a": 0}, None, 7),
            ]

    async def test_a_mutable_part_of_a_key_may_change_afterwards(self, client):
        part = {"a": 1}
        await client.mutate(lambda: 1, key=("pods", part))
        part["a"] = 2
        assert client.mutations.find(("pods", {"a": 1})) is not None

    @pytest.mark.parametrize(
        ("options", "problem"),
        [
            ({"key": "pods"}, TypeError),
            ({"key": None}, TypeError),
            ({"key": (bytearray(),)}, TypeError),
            ({"invalidates": [(bytearray(),)]}, TypeError),
            ({"optimistic": [((bytearray(),), len)]}, TypeError),
            ({"on_succes": print}, TypeError),
            ({"on_mutate": 1}, TypeError),
            ({"on_settled": "print"}, TypeError),
            ({"invalidates": ("pods", "prod")}, TypeError),
            ({"invalidates": "pods"}, TypeError),
            ({"invalidates": None}, TypeError),
            ({"optimistic": [KEY]}, TypeError),
            ({"optimistic": {KEY: print}}, TypeError),
            ({"optimistic": [(KEY, 1)]}, TypeError),
            ({"optimistic": [(KEY, len, 1)]}, TypeError),
            ({"optimistic": [(KEY, lambda a, b, c: a)]}, TypeError),
            ({"optimistic": [(KEY, asyncio.sleep)]}, TypeError),
            ({"optimistic": [("pods", len)]}, TypeError),
            ({"retry": -1}, ValueError),
            ({"retry_delay": "1"}, TypeError),
            ({"retry_on": [1]}, TypeError),
            ({"network_mode": "offline"}, ValueError),
            ({"gc_time": -1}, ValueError),
            ({"meta": 1}, TypeError),
            ({"identity": []}, TypeError),
        ],
        ids=[str(number) for number in range(25)],
    )
    def test_a_wrong_option_is_refused_wherever_it_is_given(self, options, problem):
        client = QueryClient()
        with pytest.raises(problem):
            client.mutate(lambda: 1, **options)
        with pytest.raises(problem):
            mutation_options(lambda: 1, **options)
        if "key" not in options:
            with pytest.raises(problem):
                client.set_mutation_defaults(KEY, **options)
            with pytest.raises(problem):
                QueryClient(default_options={"mutations": options})

    def test_the_key_is_no_default(self):
        with pytest.raises(TypeError, match="unknown mutation option 'key'"):
            QueryClient().set_mutation_defaults(KEY, key=KEY)

    @pytest.mark.parametrize(
        "fn", [1, None, lambda a, b, c: 1, lambda *, name: 1], ids=["number", "none", "three", "by name"]
    )
    def test_a_function_of_a_wrong_kind_is_refused(self, fn):
        with pytest.raises(TypeError, match="mutation"):
            QueryClient().mutate(fn)
        with pytest.raises(TypeError):
            mutation_options(fn)
        with pytest.raises(TypeError):
            QueryClient().set_mutation_defaults(KEY, fn=fn)

    @pytest.mark.parametrize("callbacks", [1, {"on_success": 1}, {"fn": print}], ids=repr)
    def test_wrong_callbacks_of_the_client_are_refused(self, callbacks):
        with pytest.raises(TypeError):
            QueryClient(mutation_callbacks=callbacks)

    @pytest.mark.parametrize("key", ["pods", None, ["pods"]], ids=repr)
    def test_a_wrong_key_is_refused_by_the_methods_of_defaults(self, key):
        with pytest.raises(TypeError):
            QueryClient().set_mutation_defaults(key, gc_time=1)
        with pytest.raises(TypeError):
            QueryClient().get_mutation_defaults(key)

    def test_a_spec_holds_the_function_and_the_options(self):
        spec = mutation_options(str.title, key=KEY)
        assert isinstance(spec, MutationSpec)
        assert (spec.fn, spec.options) == (str.title, {"key": KEY})
