"""What happens while pages are fetched: the rows of S2's table, forgetting, and any order of what users do."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from querykit import (
    InfiniteData,
    InfiniteQueryObserver,
    QueryCancelled,
    QueryClient,
    QueryContext,
    infinite_query_options,
    use_identity,
)
from tests.fetches import PLACES, settled, turns
from tests.pages import KEY, Book, editions, numbers

pytestmark = pytest.mark.virtual_time

HELD = InfiniteData(([7, 7],), (7,))


async def fetching_a_page(client: QueryClient, book: Book, turn: int) -> tuple[InfiniteQueryObserver[Any], Any]:
    """An observer of page 5 whose page 6 has been under way for some turns of the loop."""
    observer = InfiniteQueryObserver(client, book.options(5, stale_time=99))
    observer.subscribe(lambda result: None)
    await settled()
    book.took()
    book.edition = 2
    pending = observer.fetch_next_page()
    await turns(turn)
    return observer, pending


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("turn", [0, 1])
class TestWhileAPageIsFetched:
    async def test_S2_an_invalidation_has_all_fetched_anew_and_then_the_page(self, place, turn):
        book = Book()
        async with QueryClient() as client:
            observer, pending = await fetching_a_page(client, book, turn)
            place(client, lambda: client.invalidate_queries(KEY))
            await settled()
            result = await pending
            assert (numbers(result.data), editions(result.data)) == ([5, 6], [2, 2])
            assert not observer.result.is_stale

    async def test_S2_an_invalidation_that_wants_no_newer_pages_lets_it_go_on_and_all_are_stale(self, place, turn):
        book = Book()
        async with QueryClient() as client:
            _, pending = await fetching_a_page(client, book, turn)
            place(client, lambda: client.invalidate_queries(KEY, refetch_type="none"))
            await settled()
            result = await pending
            assert (editions(result.data), result.is_invalidated, book.took()) == ([1, 2], True, [6])

    async def test_S2_setting_the_pages_ends_it(self, place, turn):
        book = Book()
        async with QueryClient() as client:
            _, pending = await fetching_a_page(client, book, turn)
            place(client, lambda: client.set_query_data(KEY, HELD))
            await settled()
            result = await pending
            assert (result.data, result.is_fetching, result.is_stale) == (HELD, False, False)

    @pytest.mark.parametrize("how", ["remove_queries", "clear", "forget"])
    async def test_S2_removing_ends_it_and_leaves_a_blank_entry(self, place, turn, how):
        book = Book()
        async with QueryClient() as client:
            observer = InfiniteQueryObserver(client, book.options(5, identity="me"))
            with observer:
                await settled()
                pending = observer.fetch_next_page(throw_on_error=True)
                await turns(turn)
                act = {
                    "remove_queries": lambda: client.remove_queries(KEY),
                    "clear": client.clear,
                    "forget": lambda: client.forget("me"),
                }
                place(client, act[how])
                await settled()
                with pytest.raises(QueryCancelled):
                    await pending
                result = observer.result
                assert (result.is_pending, result.data, result.has_next_page) == (True, None, False)
                assert not result.is_fetching

    async def test_S2_a_reset_begins_with_the_first_page(self, place, turn):
        book = Book()
        async with QueryClient() as client:
            observer, pending = await fetching_a_page(client, book, turn)
            place(client, lambda: client.reset_queries(KEY))
            await settled()
            assert numbers((await pending).data) == [5]
            assert (editions(observer.result.data), observer.result.is_fetching) == ([2], False)
            assert (book.asked[-1], book.asked.count(5)) == (5, 1)

    async def test_S2_cancelling_leaves_the_pages_as_they_are(self, place, turn):
        book = Book()
        async with QueryClient() as client:
            _, pending = await fetching_a_page(client, book, turn)
            place(client, lambda: client.cancel_queries(KEY))
            await settled()
            result = await pending
            assert (numbers(result.data), result.is_fetching, result.is_stale) == ([5], False, False)

    async def test_S2_a_refetch_has_all_fetched_anew_and_then_the_page(self, place, turn):
        book = Book()
        async with QueryClient() as client:
            _, pending = await fetching_a_page(client, book, turn)
            place(client, lambda: client.refetch_queries(KEY))
            await settled()
            assert editions((await pending).data) == [2, 2]


class TestWhilePagesAreFetched:
    async def test_S2_steady_invalidation_does_not_starve_a_page_more(self):
        book = Book()
        async with QueryClient() as client:
            _, pending = await fetching_a_page(client, book, 1)
            for _ in range(12):
                client.invalidate_queries(KEY)
                await turns(3)
            assert numbers(client.get_query_data(KEY)) == [5, 6]
            assert (await pending).is_success

    async def test_S2_a_page_of_before_an_invalidation_makes_nothing_fresh(self):
        book = Book()
        async with QueryClient() as client:
            observer = InfiniteQueryObserver(client, book.options(5, stale_time=99, enabled=False))
            await observer.refetch()
            client.invalidate_queries(KEY)
            await observer.fetch_next_page()
            assert client.get_query_state(KEY).is_invalidated
            book.edition = 2
            assert editions(await client.infinite_query(book.options(5, stale_time=99))) == [2, 2]

    async def test_S2_who_asks_for_all_is_not_answered_by_a_page_more(self):
        book = Book()
        async with QueryClient() as client:
            _, pending = await fetching_a_page(client, book, 1)
            assert editions(await client.infinite_query(book.options(5))) == [2, 2]
            assert book.took() == [6, 5, 6]
            assert (await pending).is_success

    async def test_S2_who_waits_gets_his_turn_in_the_order_of_asking(self):
        book = Book()
        async with QueryClient() as client:
            observer, _ = await fetching_a_page(client, book, 1)
            refetching = observer.refetch()
            previous = observer.fetch_previous_page()
            some = observer.refetch(refetch_pages=[0])
            await settled()
            assert [numbers((await each).data) for each in (refetching, previous, some)] == [[4, 5, 6]] * 3
            assert book.took() == [6, 5, 6, 4, 4]

    async def test_S3_what_waits_goes_when_the_pages_are_forgotten(self):
        book = Book(held=True)
        async with QueryClient() as client:
            observer = InfiniteQueryObserver(client, book.options(5, identity="me"))
            with observer:
                await book.step()
                observer.refetch()
                waiting = [observer.fetch_next_page(), observer.fetch_previous_page()]
                await settled()
                client.forget("me")
                await book.let_go()
                assert [(await each).is_pending for each in waiting] == [True, True]
                assert book.took() == [5, 5], "nothing fetches what is parked"
                assert numbers((await observer.fetch_next_page()).data) == [5], "but for who asks for it"

    async def test_S3_a_page_of_a_forgotten_identity_is_not_added(self):
        gate = asyncio.Event()

        async def page(ctx: QueryContext[Any]) -> int:
            if ctx.page_param:
                use_identity("other")
                await gate.wait()
            return ctx.page_param

        async with QueryClient() as client:
            options = infinite_query_options(
                KEY, page, initial_page_param=0, get_next_page_param=lambda page, data: page + 1
            )
            async with client.observe(options) as results:
                await settled()
                pending = results.observer.fetch_next_page()
                await settled()
                client.forget("other")
                gate.set()
                await settled()
                assert (await pending).is_pending, "the entry goes with its fetch"

    async def test_S1_from_inside_a_page_nothing_is_waited_for(self):
        book = Book()
        async with QueryClient() as client:
            observer = InfiniteQueryObserver(client, book.options())

            async def page(ctx: QueryContext[Any]) -> list[int]:
                if ctx.direction is not None:
                    assert numbers((await observer.fetch_previous_page()).data) == [0]
                    assert numbers((await observer.refetch(refetch_pages=[0])).data) == [0]
                return [ctx.page_param, 1]

            observer.set_options(book.options(get_previous_page_param=lambda page, data: -1))
            observer.set_options(
                infinite_query_options(
                    KEY,
                    page,
                    initial_page_param=0,
                    get_next_page_param=book.after,
                    get_previous_page_param=lambda page, data: page[0] - 1,
                )
            )
            with observer:
                await settled()
                assert numbers((await observer.fetch_next_page()).data) == [0, 1]

    async def test_S2_pages_set_from_inside_are_what_a_page_more_is_added_to(self):
        async def page(ctx: QueryContext[Any]) -> str:
            if ctx.direction is not None:
                ctx.client.set_query_data(KEY, lambda data: InfiniteData(("set", *data.pages), (9, *data.page_params)))
            return "fetched"

        async with QueryClient() as client:
            options = infinite_query_options(KEY, page, initial_page_param=0, get_next_page_param=lambda page, data: 1)
            async with client.observe(options) as results:
                await settled()
                result = await results.observer.fetch_next_page()
                assert result.data == InfiniteData(("set", "fetched", "fetched"), (9, 0, 1))

    async def test_closing_the_client_ends_it(self):
        book = Book(held=True)
        client = QueryClient()
        observer = InfiniteQueryObserver(client, book.options())
        observer.subscribe(lambda result: None)
        await book.step()
        observer.fetch_next_page()
        await settled()
        await client.aclose()
        assert book.cancelled == 1

    async def test_the_last_observer_that_leaves_lets_a_page_more_end(self):
        book = Book(held=True)
        async with QueryClient() as client:
            observer = InfiniteQueryObserver(client, book.options())
            with observer:
                await book.step()
                observer.fetch_next_page()
                await settled()
            await book.let_go()
            assert numbers(client.get_query_data(KEY)) == [0, 1]


class Told(Book):
    """Each page says which were the first and the last when it was fetched, and the rules go by that."""

    async def __call__(self, ctx: QueryContext[Any]) -> list[int]:
        return [*await super().__call__(ctx), self.first, self.last]

    def after(self, page: list[int], data: Any) -> int | None:
        return page[0] + 1 if page[0] < page[3] else None

    def before(self, page: list[int], data: Any) -> int | None:
        return page[0] - 1 if page[0] > page[2] else None


class Model:
    """What the pages are by the contract: each a number, and the first and the last that there were then."""

    def __init__(self, max_pages: int | None) -> None:
        self.max_pages = max_pages or 99
        self.first, self.last = 0, 4
        self.pages: list[tuple[int, int, int]] = []

    def page(self, number: int) -> tuple[int, int, int]:
        return number, self.first, self.last

    @property
    def has_next(self) -> bool:
        return bool(self.pages) and self.pages[-1][0] < self.pages[-1][2]

    @property
    def has_previous(self) -> bool:
        return bool(self.pages) and self.pages[0][0] > self.pages[0][1]

    def next(self) -> None:
        if not self.pages:
            self.refetch()
        elif self.has_next:
            self.pages = [*self.pages, self.page(self.pages[-1][0] + 1)][-self.max_pages :]

    def previous(self) -> None:
        if not self.pages:
            self.refetch()
        elif self.has_previous:
            self.pages = [self.page(self.pages[0][0] - 1), *self.pages][: self.max_pages]

    def refetch(self) -> None:
        first, count = (self.pages[0][0], len(self.pages)) if self.pages else (2, 1)
        self.pages = [self.page(first)]
        while len(self.pages) < count and self.has_next:
            self.pages.append(self.page(self.pages[-1][0] + 1))

    def refetch_some(self) -> None:
        if not self.pages:
            self.refetch()
        self.pages[0] = self.page(self.pages[0][0])

    def remove(self) -> None:
        self.pages = []

    def grow(self) -> None:
        self.first, self.last = self.first - 1, self.last + 1

    def shrink(self) -> None:
        self.last = max(2, self.last - 2)


ACTS = ["next", "previous", "refetch", "refetch_some", "remove", "grow", "shrink"]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(ACTS), max_size=14), st.one_of(st.none(), st.integers(1, 3)), st.booleans())
def test_any_order_of_fetches_leaves_the_pages_of_the_model(acts, max_pages, twice):
    asyncio.run(any_order(acts, max_pages, calls=1 + twice))


async def any_order(acts: list[str], max_pages: int | None, *, calls: int) -> None:
    """Each act is awaited; the fetch of a page is called for that many times, and is one."""
    model, book = Model(max_pages), Told(0, 4)
    async with QueryClient() as client:
        observer = InfiniteQueryObserver(client, book.options(2, max_pages=max_pages, enabled=False))
        fetches = {
            "next": observer.fetch_next_page,
            "previous": observer.fetch_previous_page,
            "refetch": observer.refetch,
            "refetch_some": lambda: observer.refetch(refetch_pages=[0]),
        }
        with observer:
            for act in acts:
                getattr(model, act)()
                if act == "remove":
                    client.remove_queries(KEY)
                elif act in fetches:
                    for each in [fetches[act]() for _ in range(calls)]:
                        await each
                book.first, book.last = model.first, model.last
                result = observer.result
                pages = [] if result.data is None else result.data.pages
                assert [(page[0], *page[2:]) for page in pages] == model.pages
                assert numbers(result.data) == [page[0] for page in model.pages]
                assert (result.has_next_page, result.has_previous_page) == (model.has_next, model.has_previous)
                assert (result.is_fetching, result.is_error) == (False, False)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from([*ACTS[:4], "invalidate", "turn", "fail"]), max_size=14))
def test_fetches_in_any_order_at_a_time_end_and_leave_pages_that_follow_one_another(acts):
    asyncio.run(at_a_time(acts))


async def at_a_time(acts: list[str]) -> None:
    book = Book(-9, 9)
    async with QueryClient() as client:
        observer = InfiniteQueryObserver(client, book.options(retry=0))
        with observer:
            await settled()
            pending = []
            for act in acts:
                if act == "invalidate":
                    pending.append(client.invalidate_queries(KEY))
                elif act == "turn":
                    await turns(2)
                elif act == "fail":
                    book.errors[len(book.asked) % 3] = [LookupError()]
                elif act == "refetch_some":
                    pending.append(observer.refetch(refetch_pages=[-1]))
                else:
                    name = {"next": "fetch_next_page", "previous": "fetch_previous_page"}.get(act, act)
                    pending.append(getattr(observer, name)())
            book.edition = 2
            async with asyncio.timeout(5):
                for each in pending:
                    await each
                await observer.refetch()
            result = observer.result
            assert numbers(result.data) == list(range(result.data.page_params[0], result.data.page_params[-1] + 1))
            assert not result.is_fetching


class TestLeaks:
    async def test_pages_that_were_dropped_are_held_by_nobody(self):
        class Held(list[int]):
            pass

        seen: list[weakref.ref[Held]] = []

        def page(ctx: QueryContext[Any]) -> Held:
            made = Held([ctx.page_param])
            seen.append(weakref.ref(made))
            return made

        async with QueryClient() as client:
            options = infinite_query_options(
                KEY, page, initial_page_param=0, get_next_page_param=lambda page, data: page[0] + 1, max_pages=1
            )
            async with client.observe(options) as results:
                await settled()
                for _ in range(3):
                    await results.observer.fetch_next_page()
                await settled()
                gc.collect()
                assert [ref() is None for ref in seen] == [True, True, True, False]
            client.clear()
            del results
            gc.collect()
            assert seen[-1]() is None

    @pytest.mark.parametrize("how", ["subscribed", "asked"])
    async def test_an_observer_that_was_left_is_held_by_nobody(self, how):
        async with QueryClient() as client:
            observer = InfiniteQueryObserver(client, Book().options(identity="me"))
            if how == "subscribed":
                undo = observer.subscribe(lambda result: None)
                await settled()
                undo()
            else:
                await observer.fetch_next_page()
                assert observer.result.has_next_page
            left = weakref.ref(observer)
            del observer
            gc.collect()
            assert left() is None

    async def test_a_closed_observer_holds_no_pages(self):
        async with QueryClient() as client:
            observer = InfiniteQueryObserver(client, Book().options())
            with observer:
                await observer.fetch_next_page()
                page = observer.result.data
            client.clear()
            await settled()
            gc.collect()
            assert [each for each in gc.get_referrers(page) if isinstance(each, dict | tuple)] == []
