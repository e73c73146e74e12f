"""Design S1 and S2 from inside: what a query function does to the key it is fetching, at each of its awaits."""

from __future__ import annotations

import asyncio

import pytest

from querykit import QueryCancelled, QueryClient, QueryCycleError
from tests.fetches import STEPS, Gate, Upstream, settled

pytestmark = pytest.mark.virtual_time

KEY = ("pods", "prod")


async def own_task(client, act):
    act()


async def child_task(client, act):
    async def child():
        act()

    await asyncio.create_task(child())


async def thread_through_the_portal(client, act):
    await asyncio.to_thread(client.portal.call, act)


async def nested_query(client, act):
    await client.query(("nested",), act_and_return(act))


async def query_nested_in_a_thread(client, act):
    await asyncio.to_thread(client.portal.call, client.query, ("nested",), act_and_return(act))


def act_and_return(act):
    async def nested():
        act()
        await asyncio.sleep(0)
        return "nested"

    return nested


INSIDE = pytest.mark.parametrize(
    "place",
    [own_task, child_task, thread_through_the_portal, nested_query, query_nested_in_a_thread],
    ids=lambda place: place.__name__,
)
AT = pytest.mark.parametrize("at", range(STEPS))
OBSERVED = pytest.mark.parametrize("observed", [False, True], ids=["unobserved", "observed"])
LOADED = pytest.mark.parametrize("loaded", [False, True], ids=["first-load", "with-data"])


class Acting(Upstream):
    """An upstream whose first call acts on its client at one of its steps."""

    def __init__(self, client, place, act, at, error=None):
        super().__init__()
        self.client, self.place, self.act, self.at = client, place, act, at
        self.first_error = error
        self.watched = False

    async def __call__(self):
        self.calls += 1
        mine = self.calls
        try:
            if self.watched:
                await settled()  # its observer and its caller are there
            for step in range(STEPS):
                if mine == 1 and step == self.at:
                    await self.place(self.client, self.act)
                await asyncio.sleep(0)
            if mine == 1 and self.first_error is not None:
                raise self.first_error
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.ended += 1
        return f"new {mine}"


class Case:
    def __init__(self, place, at, observed, loaded, act, error=None):
        self.client = QueryClient()
        self.observed, self.loaded = observed, loaded
        self.upstream = Acting(self.client, place, lambda: [act(self.client)], at, error)

    async def __aenter__(self):
        if self.loaded:
            self.client.set_query_data(KEY, "old", age=100)
        self.observation = self.client.observe(KEY, self.upstream, stale_time=50)
        if self.observed:
            self.upstream.watched = True
            await self.observation.__aenter__()
        self.caller = asyncio.create_task(self.client.query(KEY, self.upstream, stale_time=50))
        try:
            self.answer = await self.caller
        except (QueryCancelled, LookupError) as error:
            self.answer = type(error)
        while any(query.flight for query in self.client.cache):
            await asyncio.sleep(0)
        await settled()
        self.state = self.client.get_query_state(KEY)
        return self

    async def __aexit__(self, *error):
        self.observation.close()
        await self.client.aclose()


@INSIDE
@AT
@OBSERVED
@LOADED
class TestFromInside:
    async def test_S1_setting_its_own_key_is_progress_and_the_answer_follows(self, place, at, observed, loaded):
        seen = []

        def act(client):
            client.set_query_data(KEY, "half")
            seen.append((client.get_query_state(KEY).data, client.is_fetching(KEY)))

        async with Case(place, at, observed, loaded, act) as case:
            assert seen == [("half", 1)]
            assert case.answer == case.state.data == "new 1"
            assert case.upstream.cancelled == 0

    async def test_S1_an_invalidation_only_flags_its_answer(self, place, at, observed, loaded):
        async with Case(place, at, observed, loaded, lambda client: client.invalidate_queries(KEY)) as case:
            assert case.answer == case.state.data == "new 1"
            assert case.state.is_invalidated
            assert case.upstream.calls == 1
            assert case.upstream.cancelled == 0

    async def test_S1_a_refetch_is_the_running_one(self, place, at, observed, loaded):
        async with Case(place, at, observed, loaded, lambda client: client.refetch_queries(KEY)) as case:
            assert case.answer == "new 1"
            assert case.upstream.calls == 1
            assert not case.state.is_invalidated

    @pytest.mark.parametrize("how", ["remove_queries", "clear"])
    async def test_S1_removing_dooms_it_uncancelled(self, place, at, observed, loaded, how):
        if how == "clear" and place not in (own_task, child_task, thread_through_the_portal):
            how = "remove_queries"  # clear() dooms the nested one too

        def act(client):
            getattr(client, how)(*[KEY] if how == "remove_queries" else [])

        async with Case(place, at, observed, loaded, act) as case:
            assert case.answer is QueryCancelled
            assert (case.upstream.ended, case.upstream.cancelled) == (1, 0)
            assert (case.state is None) is not observed
            if observed:
                assert (case.state.status, case.state.fetch_status) == ("pending", "idle")

    async def test_S1_cancelling_dooms_it_and_keeps_what_there_is(self, place, at, observed, loaded):
        async with Case(place, at, observed, loaded, lambda client: client.cancel_queries(KEY)) as case:
            assert case.answer is QueryCancelled
            assert (case.upstream.ended, case.upstream.cancelled) == (1, 0)
            assert case.state.data == ("old" if loaded else None)
            assert case.state.fetch_status == "idle"

    async def test_S1_resetting_dooms_it_and_begins_anew_where_observed(self, place, at, observed, loaded):
        async with Case(place, at, observed, loaded, lambda client: client.reset_queries(KEY)) as case:
            assert case.answer is QueryCancelled
            assert case.upstream.cancelled == 0
            assert case.state.data == ("new 2" if observed else None)

    async def test_S1_forgetting_dooms_it(self, place, at, observed, loaded):
        def act(client):
            client.forget("user")

        client_options = {"identity": "user"}
        case = Case(place, at, observed, loaded, act)
        case.client.set_query_defaults(KEY, **client_options)
        async with case:
            assert case.answer is QueryCancelled
            assert case.upstream.cancelled == 0
            assert (case.state is None) is not observed

    async def test_S1_closing_the_client_leaves_it_to_end(self, place, at, observed, loaded):
        closing = []

        def act(client):
            closing.append(asyncio.ensure_future(client.aclose()))

        async with Case(place, at, observed, loaded, act) as case:
            await closing[0]
            assert case.answer is QueryCancelled
            assert case.upstream.cancelled == 0
            nested = place in (nested_query, query_nested_in_a_thread)  # what it waited for was closed as well
            assert case.upstream.ended == (0 if nested else 1)

    async def test_S1_the_callers_of_a_doomed_one_get_its_own_error(self, place, at, observed, loaded):
        def act(client):
            client.remove_queries(KEY)

        async with Case(place, at, observed, loaded, act, LookupError("its own")) as case:
            assert case.answer is LookupError
            assert case.upstream.calls == 1


async def test_S1_a_doomed_fetch_is_not_retried():
    """Not even where it is doomed while it waits for the retry."""
    calls = 0

    async with QueryClient() as client:

        async def child():
            await asyncio.sleep(5)
            client.remove_queries(KEY)

        async def fn():
            nonlocal calls
            calls += 1
            children.append(asyncio.create_task(child()))
            raise ConnectionError

        children = []
        with pytest.raises(QueryCancelled):
            await client.query(KEY, fn, retry=1, retry_delay=10)
        assert calls == 1
        assert len(client.cache) == 0


async def test_S1_a_doomed_fetch_that_fails_is_not_retried():
    calls = 0

    async with QueryClient() as client:

        async def fn():
            nonlocal calls
            calls += 1
            client.remove_queries(KEY)
            raise ConnectionError("its own")

        with pytest.raises(ConnectionError, match="its own"):
            await client.query(KEY, fn, retry=3, retry_delay=0)
        assert calls == 1


async def test_S1_what_a_child_does_after_the_answer_is_outside():
    gate = Gate()

    async with QueryClient() as client:

        async def child():
            await asyncio.sleep(1)
            client.remove_queries(KEY)

        async def fn():
            if not gate.calls:
                children.append(asyncio.create_task(child()))
                gate.waiting.append(asyncio.get_running_loop().create_future())
                return 1
            return await gate()

        children = []
        assert await client.query(KEY, fn) == 1
        second = asyncio.create_task(client.query(KEY, fn))
        await asyncio.sleep(2)
        with pytest.raises(QueryCancelled):
            await second
        assert gate.cancelled == 1


class TestCircles:
    """S1: a wait that would close a circle of flights raises, with the keys."""

    async def test_a_query_that_asks_for_itself(self):
        async with QueryClient() as client:
            with pytest.raises(QueryCycleError) as caught:
                await client.query(("a",), lambda: client.query(("a",), lambda: 1), retry=3)
            assert caught.value.keys == (("a",), ("a",))
            assert "('a',)" in str(caught.value)

    async def test_a_query_that_asks_for_itself_through_others(self):
        async with QueryClient() as client:

            async def a():
                return await client.query(("b",), b)

            async def b():
                return await asyncio.create_task(client.query(("c",), c))

            async def c():
                return await asyncio.to_thread(client.portal.call, client.query, ("a",), a)

            with pytest.raises(QueryCycleError) as caught:
                await client.query(("a",), a)
            assert caught.value.keys == (("c",), ("a",), ("b",), ("c",))

    @pytest.mark.parametrize("method", ["refetch_queries", "invalidate_queries"])
    async def test_one_that_asks_for_who_waits_for_what_a_method_returned(self, method):
        """The wait is part of the circle as one in `query` is; without a circle it simply ends."""
        async with QueryClient() as client:
            again = []

            async def a():
                options = {"refetch_type": "all"} if method == "invalidate_queries" else {}
                await getattr(client, method)(("b",), throw_on_error=True, **options)
                return client.get_query_data(("b",))

            async def b():
                await asyncio.sleep(0)
                if again:
                    await client.query(("a",), a)
                return "b"

            await client.query(("b",), b)
            assert await client.query(("a",), a) == "b"
            again.append(True)
            with pytest.raises(QueryCycleError) as caught:
                await client.query(("a",), a)
            assert caught.value.keys == (("b",), ("a",), ("b",))

    async def test_waiting_for_what_a_method_returned(self):
        async with QueryClient() as client:

            async def a():
                return await client.query(("b",), b, stale_time=0)

            async def b():
                await client.refetch_queries(("a",))
                return "b"

            with pytest.raises(QueryCycleError) as caught:
                await client.query(("a",), a)
            assert caught.value.keys == (("b",), ("a",), ("b",))

    async def test_a_refetch_of_its_own_key_that_is_awaited(self):
        async with QueryClient() as client:

            async def fn():
                await client.refetch_queries(("a",))

            with pytest.raises(QueryCycleError):
                await client.query(("a",), fn)

    async def test_an_awaited_refetch_whose_flight_was_doomed_meanwhile(self):
        async with QueryClient() as client:

            async def fn():
                refetched = client.refetch_queries(("a",))
                client.remove_queries(("a",))
                await refetched

            with pytest.raises(QueryCycleError):
                await client.query(("a",), fn)

    async def test_an_awaited_invalidation_of_its_own_key_only_flags(self):
        async with QueryClient() as client:

            async def fn():
                await client.invalidate_queries(("a",), refetch_type="all")
                return 1

            assert await client.query(("a",), fn) == 1
            assert client.get_query_state(("a",)).is_invalidated

    async def test_a_prefetch_that_would_close_it_does_nothing(self):
        async with QueryClient() as client:

            async def a():
                return await client.query(("b",), b)

            async def b():
                await client.prefetch(("a",), a)
                return "b"

            assert await client.query(("a",), a) == "b"
            assert client.stats().fetches == 2

    async def test_a_prefetch_awaited_when_it_has_come_to_close_one_does_nothing(self):
        async with QueryClient() as client:
            prefetched = []

            async def a():
                await asyncio.sleep(1)
                return await client.query(("b",), b)

            async def b():
                await prefetched[0]
                return "b"

            prefetched.append(client.prefetch(("a",), a))
            assert await client.query(("a",), a) == "b"

    async def test_two_that_wait_for_the_same_third_are_no_circle(self):
        async with QueryClient() as client:

            async def c():
                await asyncio.sleep(1)
                return "c"

            async def a():
                return await client.query(("c",), c, stale_time=9)

            async def b():
                return await client.query(("a",), a, stale_time=9) + await client.query(("c",), c, stale_time=9)

            assert await asyncio.gather(client.query(("a",), a), client.query(("b",), b)) == ["c", "cc"]

    async def test_one_that_was_answered_no_longer_waits(self):
        async with QueryClient() as client:
            gate = Gate()

            async def a():
                await client.query(("b",), gate)
                await asyncio.sleep(5)
                return "a"

            first = asyncio.create_task(client.query(("a",), a))
            await settled()

            def begin_again(event):
                if event.query.key == ("b",) and event.cause == "success" and client.stats().fetches == 2:
                    begun.append(client.prefetch(("b",), lambda: client.query(("a",), a)))

            begun = []
            with client.cache.subscribe(begin_again):
                await gate.answer("b")
            assert await first == "a"
            assert client.get_query_data(("b",)) == "a"


class TestWritesToOtherKeys:
    """S2: what a query function sets under another key counts as begun with its flight."""

    OTHER = ("pod", "web")

    @pytest.mark.parametrize("known", [False, True], ids=["absent", "present"])
    @pytest.mark.parametrize("event", ["nothing", "invalidate", "invalidate all", "set", "remove", "clear", "reset"])
    async def test_it_is_stale_or_refused(self, known, event):
        async with QueryClient() as client:
            gate = Gate()

            async def fn():
                await gate()
                client.set_query_data(self.OTHER, "from the list")
                return []

            if known:
                client.set_query_data(self.OTHER, "old")
            caller = asyncio.create_task(client.query(KEY, fn))
            await settled()
            match event:
                case "invalidate":
                    client.invalidate_queries(self.OTHER, exact=True)
                case "invalidate all":
                    client.invalidate_queries(("pod",))
                case "set":
                    client.set_query_data(self.OTHER, "newer")
                case "remove":
                    client.remove_queries(("pod",))
                case "clear":
                    client.remove_queries(predicate=lambda query: query.key == self.OTHER)
                    client.remove_queries(self.OTHER)
                case "reset":
                    client.reset_queries(self.OTHER)
            await gate.answer(None)
            await caller
            state = client.get_query_state(self.OTHER)
            match event:
                case "nothing":
                    assert (state.data, state.is_invalidated) == ("from the list", False)
                case "invalidate" | "invalidate all":
                    assert (state.data, state.is_invalidated) == ("from the list", True)
                case "set":
                    assert (state.data, state.is_invalidated) == ("newer", False)
                case "reset" if not known:
                    assert state.data == "from the list"
                case _:
                    assert state is None or not state.has_data

    async def test_it_does_not_end_a_younger_fetch_of_that_key(self):
        async with QueryClient() as client:
            list_gate, gate = Gate(), Gate()

            async def fn():
                await list_gate()
                client.set_query_data(self.OTHER, "older")

            listed = asyncio.create_task(client.query(KEY, fn))
            await settled()
            younger = asyncio.create_task(client.query(self.OTHER, gate))
            await settled()
            await list_gate.answer(None)
            await listed
            assert await younger == "older"  # begun after the last invalidation before he asked
            assert gate.cancelled == 1  # nobody waits for it any more

    async def test_it_ends_an_older_fetch_of_that_key(self):
        async with QueryClient() as client:
            list_gate, gate = Gate(), Gate()

            async def fn():
                await list_gate()
                client.set_query_data(self.OTHER, "newer")

            older = asyncio.create_task(client.query(self.OTHER, gate))
            await settled()
            listed = asyncio.create_task(client.query(KEY, fn))
            await settled()
            await list_gate.answer(None)
            await listed
            assert (await older, gate.cancelled) == ("newer", 1)

    async def test_a_later_fetch_has_answered_meanwhile(self):
        async with QueryClient() as client:
            gate = Gate()

            async def fn():
                await gate()
                client.set_query_data(self.OTHER, "older")

            listed = asyncio.create_task(client.query(KEY, fn))
            await settled()
            await client.query(self.OTHER, lambda: "fetched")
            await gate.answer(None)
            await listed
            assert client.get_query_data(self.OTHER) == "fetched"

    async def test_one_who_asked_after_an_invalidation_is_not_answered_by_it(self):
        async with QueryClient() as client:
            list_gate, gate = Gate(), Gate()

            async def fn():
                await list_gate()
                client.set_query_data(self.OTHER, "older")

            listed = asyncio.create_task(client.query(KEY, fn))
            await settled()
            client.invalidate_queries(self.OTHER)
            late = asyncio.create_task(client.query(self.OTHER, gate))
            await settled()
            await list_gate.answer(None)
            await listed
            assert not late.done()
            await gate.answer("fetched")
            assert await late == "fetched"


async def test_a_plain_loop_callback_is_outside():
    """S1: it carries the function's context, and is not the function."""
    async with QueryClient() as client:
        gate = Gate()

        async def fn():
            asyncio.get_running_loop().call_soon(client.remove_queries, KEY)
            return await gate()

        with pytest.raises(QueryCancelled):
            await client.query(KEY, fn)
        await settled()
        assert gate.cancelled == 1
