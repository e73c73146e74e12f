"""Design S2's table: what happens to a fetch, placed at every turn of the loop while it runs, from many places."""

from __future__ import annotations

import asyncio
import functools
import inspect
from contextlib import AsyncExitStack

import pytest

from querykit import QueryCancelled, QueryClient
from tests.fetches import PLACES, Upstream, in_a_cache_listener, in_a_loop_callback, outside, settled, turns

pytestmark = pytest.mark.virtual_time

KEY = ("pods", "prod")
WHEN = range(12)  # turns of the loop: before the first await, at each, in the retry, answered, woken, after
SOMEWHERE = pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
OBSERVED = pytest.mark.parametrize("observed", [False, True], ids=["unobserved", "observed"])
LOADED = pytest.mark.parametrize("loaded", [False, True], ids=["first-load", "with-data"])


def anytime(tests):
    """Run a test, or all tests of a class, at each turn of the loop in which a fetch can be."""
    if isinstance(tests, type):
        for name, test in list(vars(tests).items()):
            if name.startswith("test_"):
                setattr(tests, name, anytime(test))
        return tests

    @functools.wraps(tests)
    async def at_each(*args, **kwargs):
        for when in WHEN:
            try:
                await tests(*args, when=when, **kwargs)
            except BaseException as error:
                error.add_note(f"at turn {when} of the loop")
                raise

    signature = inspect.signature(tests)
    kept = [each for each in signature.parameters.values() if each.name != "when"]
    at_each.__signature__ = signature.replace(parameters=kept)
    return at_each


class Running:
    """A fetch with one caller, stopped after some turns of the loop."""

    def __init__(self, observed: bool, loaded: bool, failures: int = 1) -> None:
        self.client = QueryClient()
        self.upstream = Upstream(failures=failures)
        self.observed = observed
        self.loaded = loaded
        self.results = []

    async def __aenter__(self):
        self.stack = AsyncExitStack()
        await self.stack.enter_async_context(self.client)
        self.options = {"retry_delay": 0, "retry": 3}
        if self.loaded:
            self.client.set_query_data(KEY, "old", age=100)
        self.caller = asyncio.create_task(self.client.query(KEY, self.upstream, stale_time=50, **self.options))
        await asyncio.sleep(0)  # the caller has asked
        if self.observed:
            watch = self.client.observe(KEY, self.upstream, stale_time=50, **self.options)
            self.observation = await self.stack.enter_async_context(watch)
        return self

    async def __aexit__(self, *error):
        self.caller.cancel()
        await self.stack.aclose()

    async def happens(self, when, place, act):
        """Do it after some turns, from that place; note what there was just before."""

        def note_and_act():
            self.note()
            act()

        await turns(when)
        place(self.client, note_and_act)
        if place is in_a_loop_callback:
            await turns()

    def note(self):
        self.state = self.client.get_query_state(KEY)
        self.runs = self.state.fetch_status == "fetching"
        self.waits = not self.caller.done()
        self.fetches = self.client.stats().fetches

    async def answer(self):
        try:
            return await self.caller
        except QueryCancelled:
            return "cancelled"
        finally:
            await settled()

    def after(self):
        return self.client.get_query_state(KEY)

    def begun(self):
        return self.client.stats().fetches - self.fetches


@anytime
@SOMEWHERE
@LOADED
class TestInvalidate:
    """S2 rows 1 and 2."""

    async def test_an_observed_fetch_is_begun_anew_and_answers_its_callers(self, when, place, loaded):
        async with Running(True, loaded) as fetch:
            await fetch.happens(when, place, lambda: fetch.client.invalidate_queries(KEY))
            answer = await fetch.answer()
            state = fetch.after()
            assert fetch.begun() == 1
            assert state.data == f"new {fetch.upstream.calls}"
            assert not state.is_invalidated
            if fetch.runs:
                assert answer == state.data

    async def test_an_unobserved_fetch_goes_on_and_its_answer_is_stale(self, when, place, loaded):
        async with Running(False, loaded) as fetch:
            await fetch.happens(when, place, lambda: fetch.client.invalidate_queries(KEY))
            assert await fetch.answer() == "new 2"
            assert fetch.begun() == 0
            assert fetch.upstream.cancelled == 0
            assert fetch.after().is_invalidated
            assert fetch.after().data == "new 2"

    async def test_a_caller_who_asks_after_it_has_the_fetch_begun_anew(self, when, place, loaded):
        async with Running(False, loaded) as fetch:
            await fetch.happens(when, place, lambda: fetch.client.invalidate_queries(KEY))
            late = await fetch.client.query(KEY, fetch.upstream, stale_time=50, **fetch.options)
            answer = await fetch.answer()
            assert fetch.begun() == 1
            assert late == fetch.after().data == f"new {fetch.upstream.calls}"
            assert answer in ("new 2", late)
            assert not fetch.after().is_invalidated

    async def test_with_cancel_refetch_false_it_is_left_to_end_and_one_more_follows(self, when, place, loaded):
        async with Running(True, loaded) as fetch:
            await fetch.happens(when, place, lambda: fetch.client.invalidate_queries(KEY, cancel_refetch=False))
            assert await fetch.answer() == "new 2"
            await settled()
            assert fetch.upstream.cancelled == 0
            assert fetch.begun() == 1
            assert fetch.after().data == "new 3"
            assert not fetch.after().is_invalidated

    async def test_with_refetch_type_none_an_observed_fetch_goes_on(self, when, place, loaded):
        async with Running(True, loaded) as fetch:
            await fetch.happens(when, place, lambda: fetch.client.invalidate_queries(KEY, refetch_type="none"))
            assert await fetch.answer() == "new 2"
            assert fetch.begun() == 0
            assert fetch.after().is_invalidated

    async def test_with_refetch_type_all_an_unobserved_fetch_is_begun_anew(self, when, place, loaded):
        async with Running(False, loaded) as fetch:
            await fetch.happens(when, place, lambda: fetch.client.invalidate_queries(KEY, refetch_type="all"))
            await fetch.answer()
            assert fetch.begun() == 1
            assert not fetch.after().is_invalidated


@anytime
@SOMEWHERE
@OBSERVED
@LOADED
class TestRefetch:
    """S2 row 3."""

    async def test_a_first_load_is_joined_and_another_fetch_begun_anew(self, when, place, observed, loaded):
        async with Running(observed, loaded) as fetch:
            await fetch.happens(when, place, lambda: fetch.client.refetch_queries(KEY))
            joined = fetch.runs and not fetch.state.has_data
            answer = await fetch.answer()
            assert fetch.begun() == (0 if joined else 1)
            if fetch.runs:
                assert answer == fetch.after().data
            assert not fetch.after().is_invalidated

    async def test_with_cancel_refetch_false_a_fetch_is_joined(self, when, place, observed, loaded):
        async with Running(observed, loaded) as fetch:
            await fetch.happens(when, place, lambda: fetch.client.refetch_queries(KEY, cancel_refetch=False))
            assert await fetch.answer() == "new 2"
            assert fetch.upstream.cancelled == 0


@anytime
@SOMEWHERE
@OBSERVED
@LOADED
class TestSet:
    """S2 row 4."""

    async def test_what_was_set_stands_and_goes_to_who_waits(self, when, place, observed, loaded):
        async with Running(observed, loaded) as fetch:
            await fetch.happens(when, place, lambda: fetch.client.set_query_data(KEY, "set", age=7))
            answer = await fetch.answer()
            state = fetch.after()
            assert state.data == "set"
            assert state.data_updated_at == asyncio.get_running_loop().time() - 7
            assert not state.is_invalidated
            assert fetch.begun() == 0
            assert answer == ("set" if fetch.waits else "new 2")
            assert answer in ("set", "new 2")
            if observed:
                assert fetch.observation.result.data == "set"


@anytime
@SOMEWHERE
@OBSERVED
@LOADED
class TestEnds:
    """S2 rows 5 to 9."""

    @pytest.mark.parametrize("how", ["remove_queries", "clear"])
    async def test_removal_leaves_nothing_or_a_blank_entry(self, when, place, observed, loaded, how):
        async with Running(observed, loaded) as fetch:
            seen = []

            def act():
                getattr(fetch.client, how)()
                if observed and place is not in_a_cache_listener:  # it is told after the removal
                    seen.append(fetch.observation.result)

            await fetch.happens(when, place, act)
            answer = await fetch.answer()
            assert answer == ("cancelled" if fetch.waits else "new 2")
            assert fetch.begun() == 0
            state = fetch.after()
            assert (state is None) is not observed
            for result in seen:
                assert (result.status, result.fetch_status, result.data) == ("pending", "idle", None)

    async def test_a_forgotten_identity_empties_and_parks(self, when, place, observed, loaded):
        async with Running(observed, loaded) as fetch:
            fetch.client.set_query_defaults(KEY, identity="user")
            await fetch.client.cancel_queries(KEY)
            await settled()
            fetch.caller.exception()
            if loaded:
                fetch.client.set_query_data(KEY, "old", age=100, identity="user")
            else:
                fetch.client.remove_queries(KEY)
            fetch.upstream.calls = 0
            fetch.caller = asyncio.create_task(
                fetch.client.query(KEY, fetch.upstream, stale_time=50, identity="user", **fetch.options)
            )
            await asyncio.sleep(0)
            await fetch.happens(when, place, lambda: fetch.client.forget("user"))
            answer = await fetch.answer()
            assert answer == ("cancelled" if fetch.waits else "new 2")
            fetch.client.invalidate_queries(KEY, refetch_type="all")
            fetch.client.refetch_queries(KEY)
            await settled()
            assert fetch.begun() == 0
            state = fetch.after()
            assert (state is None) is not observed
            if observed:
                assert (state.status, state.fetch_status) == ("pending", "idle")
                fetch.client.forget("user", restart=True)
                await settled()
                assert fetch.after().has_data

    async def test_a_reset_begins_anew_where_observed(self, when, place, observed, loaded):
        async with Running(observed, loaded) as fetch:
            await fetch.happens(when, place, lambda: fetch.client.reset_queries(KEY))
            answer = await fetch.answer()
            state = fetch.after()
            assert fetch.begun() == (1 if observed else 0)
            if observed:
                assert state.data == f"new {fetch.upstream.calls}"
                assert state.data_update_count == 1
                if fetch.waits:
                    assert answer == state.data
            else:
                assert (state.status, state.fetch_status, state.data) == ("pending", "idle", None)
                assert answer == ("cancelled" if fetch.waits else "new 2")

    async def test_cancelling_leaves_everything_as_it_stands(self, when, place, observed, loaded):
        async with Running(observed, loaded) as fetch:
            await fetch.happens(when, place, lambda: fetch.client.cancel_queries(KEY))
            answer = await fetch.answer()
            state = fetch.after()
            assert state.fetch_status == "idle"
            assert fetch.begun() == 0
            if fetch.runs:
                assert answer == ("old" if loaded else "cancelled")
                assert state.data == fetch.state.data
                assert state.data_update_count == fetch.state.data_update_count
                assert state.error is fetch.state.error
                assert state.is_invalidated is fetch.state.is_invalidated
            elif not fetch.runs:
                assert answer == state.data == "new 2"

    async def test_closing_the_client_ends_all(self, when, place, observed, loaded):
        async with Running(observed, loaded) as fetch:
            closing = []

            async def close():
                fetch.note()  # a task begins a turn later
                await fetch.client.aclose()

            await fetch.happens(when, place, lambda: closing.append(asyncio.ensure_future(close())))
            answer = await fetch.answer()
            await closing[0]
            assert answer == ("cancelled" if fetch.waits else "new 2")
            assert fetch.begun() == 0
            assert len(fetch.client.cache) == 0
            if observed:
                assert [result async for result in fetch.observation] == []


@anytime
@pytest.mark.parametrize("event", ["invalidate", "set", "remove", "reset", "cancel", "refetch", "none"])
async def test_S2_a_late_answer_never_replaces_newer_data(when, event):
    """S2: whatever happened, an answer to the first call is no longer fresh unless nothing happened."""
    async with Running(True, True, failures=0) as fetch:
        acts = {
            "invalidate": lambda: fetch.client.invalidate_queries(KEY),
            "set": lambda: fetch.client.set_query_data(KEY, "set"),
            "remove": lambda: fetch.client.remove_queries(KEY),
            "reset": lambda: fetch.client.reset_queries(KEY),
            "cancel": lambda: fetch.client.cancel_queries(KEY),
            "refetch": lambda: fetch.client.refetch_queries(KEY),
            "none": lambda: None,
        }
        await fetch.happens(when, outside, acts[event])
        await fetch.answer()
        expected = {"set": "set", "remove": None, "none": "new 1"}
        last = f"new {fetch.upstream.calls}"
        if event == "cancel":
            expected["cancel"] = fetch.state.data if fetch.runs else "new 1"
        assert fetch.client.get_query_data(KEY) == expected.get(event, last)
