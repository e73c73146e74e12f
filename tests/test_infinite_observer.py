"""`InfiniteQueryObserver`: one page more at either end, and what the result says of it."""

from __future__ import annotations

import asyncio
import gc
import weakref
from dataclasses import replace
from typing import Any

import pytest

from querykit import (
    InfiniteData,
    InfiniteQueryObserver,
    InfiniteQueryResult,
    MissingQueryFunction,
    ObserverClosed,
    QueryClient,
    QueryContext,
    QueryObserver,
    infinite_query_options,
    keep_previous_data,
    skip,
    use_identity,
)
from tests.fetches import cancelling, settled, turns
from tests.pages import KEY, Book, editions, numbers

pytestmark = pytest.mark.virtual_time


def doing(result: InfiniteQueryResult[Any]) -> set[str]:
    names = [
        "is_loading",
        "is_refetching",
        "is_fetching_next_page",
        "is_fetching_previous_page",
        "is_loading_error",
        "is_refetch_error",
        "is_fetch_next_page_error",
        "is_fetch_previous_page_error",
    ]
    return {name for name in names if getattr(result, name)}


class TestResult:
    async def test_it_says_whether_there_are_more_pages(self):
        book = Book(first=0, last=2)
        async with QueryClient() as client, client.observe(book.options(1)) as results:
            seen = []
            for fetch in (results.refetch, results.fetch_next_page, results.fetch_previous_page):
                result = await fetch()
                seen.append((numbers(result.data), result.has_previous_page, result.has_next_page))
        assert seen == [([1], True, True), ([1, 2], True, False), ([0, 1, 2], False, False)]

    async def test_it_is_one_for_infinite_queries(self):
        async with QueryClient() as client, client.observe(Book().options()) as results:
            assert isinstance(await anext(results), InfiniteQueryResult)
            assert isinstance(results.result, InfiniteQueryResult)
            assert isinstance(results.observer, InfiniteQueryObserver)
            assert isinstance(await results.wait_for(lambda result: result.has_next_page), InfiniteQueryResult)
            assert isinstance(await results.observer.wait_for(lambda result: result.data), InfiniteQueryResult)

    async def test_it_is_the_same_as_long_as_nothing_has_changed(self):
        async with QueryClient() as client, client.observe(Book().options()) as results:
            await settled()
            assert results.result is results.result

    async def test_before_there_are_pages_there_are_no_more(self):
        async with QueryClient() as client, client.observe(Book(held=True).options()) as results:
            result = results.result
            assert (result.has_next_page, result.has_previous_page, doing(result)) == (False, False, {"is_loading"})

    async def test_rules_are_not_asked_of_no_pages(self):
        def rule(page: Any, data: Any) -> int:
            raise AssertionError

        async with QueryClient() as client:
            client.set_query_data(KEY, InfiniteData((), ()))
            options = Book().options(get_next_page_param=rule, stale_time=9)
            async with client.observe(options) as results:
                assert not results.result.has_next_page

    async def test_without_rules_there_are_no_more(self):
        async with QueryClient() as client:
            options = infinite_query_options(KEY, Book(), initial_page_param=0)
            async with client.observe(options) as results:
                await settled()
                assert (results.result.has_next_page, results.result.has_previous_page) == (False, False)

    async def test_a_rule_is_asked_once_for_each_data(self):
        asked = []

        def after(page: Any, data: Any) -> int:
            asked.append(page)
            return 1

        async with QueryClient() as client:
            options = Book().options(get_next_page_param=after)
            async with client.observe(options) as results:
                await settled()
                for _ in range(3):
                    assert results.result.has_next_page
                client.invalidate_queries(KEY, refetch_type="none")
                assert len(asked) == 1

    async def test_a_rule_that_raises_is_reported_once_and_counts_as_no_more(self):
        told = []

        def after(page: Any, data: Any) -> int:
            raise ZeroDivisionError

        client = QueryClient(report=lambda message, error: told.append((message, type(error))))
        async with client, client.observe(Book().options(get_next_page_param=after)) as results:
            await settled()
            assert (results.result.has_next_page, results.result.has_previous_page) == (False, False)
            assert results.result.is_success
            ((message, kind),) = told
            assert message.startswith("get_next_page_param of ('logs',)")
            assert kind is ZeroDivisionError
            result = await results.observer.fetch_next_page()
            assert type(result.error) is ZeroDivisionError
            assert doing(result) == {"is_fetch_next_page_error"}

    async def test_a_rule_that_raises_cancelled_error_is_reported_too(self):
        told = []
        client = QueryClient(report=lambda message, error: told.append(type(error)))
        async with client, client.observe(Book().options(get_next_page_param=cancelling)) as results:
            await settled()
            assert (results.result.has_next_page, told) == (False, [asyncio.CancelledError])

    async def test_data_that_is_no_pages_is_reported_and_has_no_more(self):
        told = []
        async with QueryClient(report=lambda message, error: told.append(type(error))) as client:
            client.set_query_data(KEY, ["a"])
            async with client.observe(Book().options(stale_time=9)) as results:
                assert not results.result.has_next_page
                with pytest.raises(TypeError, match="no InfiniteData but a list"):
                    results.observer.fetch_next_page()
        assert told == [TypeError, TypeError]

    async def test_the_pages_may_be_seen_through_a_selector(self):
        async with QueryClient() as client, client.observe(Book().options(pages=2).select(numbers)) as results:
            await settled()
            assert (results.result.data, results.result.has_next_page) == ([0, 1], True)
            assert (await results.observer.fetch_next_page()).data == [0, 1, 2]

    async def test_subscribers_are_told_of_each(self):
        book = Book()
        async with QueryClient() as client:
            observer = InfiniteQueryObserver(client, KEY, book, initial_page_param=0, get_next_page_param=book.after)
            seen = []
            with observer.subscribe(lambda result: seen.append((numbers(result.data), doing(result)))):
                await settled()
                await observer.fetch_next_page()
        assert seen == [
            ([], {"is_loading"}),
            ([0], set()),
            ([0], {"is_fetching_next_page"}),
            ([0, 1], set()),
        ]

    async def test_only_the_fields_that_are_wanted_are_told(self):
        book = Book()
        async with QueryClient() as client:
            observer = InfiniteQueryObserver(client, book.options(notify_on=["has_next_page"]))
            seen = []
            book.last = 1
            with observer.subscribe(lambda result: seen.append(result.has_next_page)):
                await settled()
                await observer.fetch_next_page()
        assert seen == [True, False]

    async def test_a_plain_observer_of_the_same_sees_the_pages(self):
        async with QueryClient() as client:
            observer = QueryObserver(client, Book().options())
            with observer:
                assert numbers((await observer.wait_for(lambda result: result.is_success)).data) == [0]
                assert not isinstance(observer.result, InfiniteQueryResult)
            result = await client.wait_for(Book().options(), lambda result: result.is_success)
            assert numbers(result.data) == [0]


class TestOneMore:
    @pytest.mark.parametrize("direction", ["next", "previous"])
    async def test_it_is_added_at_its_end(self, direction):
        book = Book()
        async with QueryClient() as client, client.observe(book.options(5)) as results:
            await settled()
            book.edition = 2
            fetch = results.observer.fetch_next_page if direction == "next" else results.observer.fetch_previous_page
            result = await fetch()
            assert numbers(result.data) == ([5, 6] if direction == "next" else [4, 5])
            assert sorted(editions(result.data)) == [1, 2]

    async def test_it_begins_at_the_call_awaited_or_not(self):
        book = Book()
        async with QueryClient() as client, client.observe(book.options()) as results:
            await settled()
            results.observer.fetch_next_page()
            assert results.result.is_fetching_next_page
            await settled()
            assert numbers(results.result.data) == [0, 1]

    async def test_the_page_function_knows_the_direction(self):
        seen = []

        async def page(ctx: QueryContext[Any]) -> int:
            seen.append((ctx.page_param, ctx.direction))
            return ctx.page_param

        async with QueryClient() as client:
            options = infinite_query_options(
                KEY,
                page,
                initial_page_param=0,
                get_next_page_param=lambda page, data: page + 1,
                get_previous_page_param=lambda page, data: page - 1,
            )
            async with client.observe(options) as results:
                await settled()
                await results.observer.fetch_next_page()
                await results.observer.fetch_previous_page()
                await results.refetch()
        assert seen == [(0, None), (1, "forward"), (-1, "backward"), (-1, None), (0, None), (1, None)]

    async def test_where_there_is_none_nothing_happens(self):
        book = Book(last=0)
        async with QueryClient() as client, client.observe(book.options()) as results:
            await settled()
            before = results.result
            assert await results.observer.fetch_next_page() is before
            assert await results.observer.fetch_previous_page() is before
            assert book.asked == [0]

    async def test_where_there_turns_out_to_be_none_the_pages_stay(self):
        book = Book(held=True)
        async with QueryClient() as client, client.observe(book.options(pages=2)) as results:
            await book.let_go()
            book.held = True
            results.refetch()
            fetching = results.observer.fetch_next_page()
            book.last = 1
            await book.let_go()
            assert numbers((await fetching).data) == [0, 1]
            assert book.asked == [0, 1, 0, 1]

    async def test_before_there_are_pages_the_first_ones_are_fetched(self):
        book = Book()
        async with QueryClient() as client, client.observe(book.options()) as results:
            result = await results.observer.fetch_next_page()
            assert (numbers(result.data), book.asked) == ([0], [0])
            client.set_query_data(KEY, InfiniteData((), ()))
            first = results.observer.fetch_previous_page()
            await turns(2)
            assert numbers((await results.observer.fetch_next_page()).data) == numbers((await first).data) == [0]
            assert (book.asked, book.cancelled) == ([0, 0], 0)

    async def test_the_same_page_is_fetched_once_for_all_who_ask(self):
        book = Book()
        async with QueryClient() as client, client.observe(book.options()) as one, client.observe(KEY):
            two = InfiniteQueryObserver(client, book.options())
            await settled()
            asked = [each.fetch_next_page() for each in (one.observer, two, one.observer)]
            answers = [numbers((await each).data) for each in asked]
            assert (answers, book.asked) == ([[0, 1]] * 3, [0, 1])

    async def test_each_end_gets_its_page_one_after_the_other(self):
        book = Book()
        async with QueryClient() as client, client.observe(book.options(5)) as results:
            await settled()
            book.held = True
            both = [results.observer.fetch_next_page(), results.observer.fetch_previous_page()]
            await settled()
            assert doing(results.result) == {"is_fetching_next_page"}
            await book.step()
            assert (numbers(results.result.data), doing(results.result)) == ([5, 6], {"is_fetching_previous_page"})
            await book.let_go()
            assert [numbers((await each).data) for each in both] == [[4, 5, 6]] * 2

    @pytest.mark.parametrize(("start", "expected"), [(5, [[5, 6], [6, 7], [5, 6], [4, 5]])])
    async def test_max_pages_drops_those_at_the_other_end(self, start, expected):
        book = Book()
        async with QueryClient() as client, client.observe(book.options(start, max_pages=2)) as results:
            await settled()
            observer = results.observer
            fetches = [
                observer.fetch_next_page,
                observer.fetch_next_page,
                observer.fetch_previous_page,
                observer.fetch_previous_page,
            ]
            assert [numbers((await fetch()).data) for fetch in fetches] == expected
            book.took()
            await results.refetch()
            assert book.asked == [4, 5], "from the first page that is left"

    async def test_max_pages_holds_for_more_that_were_there(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, InfiniteData(tuple([n, 0] for n in range(5)), tuple(range(5))))
            async with client.observe(Book(first=-9).options(max_pages=2, stale_time=9)) as results:
                assert numbers((await results.observer.fetch_next_page()).data) == [4, 5]
            client.set_query_data(KEY, InfiniteData(tuple([n, 0] for n in range(5)), tuple(range(5))))
            async with client.observe(Book(first=-9).options(max_pages=2, stale_time=9)) as results:
                assert numbers((await results.observer.fetch_previous_page()).data) == [-1, 0]

    async def test_trap_16_the_pages_that_are_there_keep_their_identity(self):
        book = Book()
        async with QueryClient() as client, client.observe(book.options(5, max_pages=3)) as results:
            await settled()
            observer = results.observer
            first = results.result.data.pages[0]
            for fetch, at in (
                (observer.fetch_previous_page, 1),
                (observer.fetch_next_page, 1),
                (observer.fetch_next_page, 0),
                (observer.fetch_previous_page, 1),
            ):
                assert (await fetch()).data.pages[at] is first

    async def test_it_leaves_what_http_says_of_freshness(self):
        async def page(ctx: QueryContext[Any]) -> int:
            ctx.stale_time = 10 + ctx.page_param
            return ctx.page_param

        async with QueryClient() as client:
            options = infinite_query_options(
                KEY, page, initial_page_param=0, get_next_page_param=lambda page, data: page + 1, stale_time="http"
            )
            async with client.observe(options) as results:
                await settled()
                await asyncio.sleep(9)
                assert not (await results.observer.fetch_next_page()).is_stale
                await asyncio.sleep(1)
                assert results.result.is_stale

    async def test_a_pending_change_is_made_to_what_is_fetched_meanwhile_and_taken_back_from_it(self):
        book, gate = Book(), asyncio.Event()

        async def fail(variables: Any) -> None:
            await gate.wait()
            raise LookupError

        def without_the_first(data: InfiniteData[Any, Any]) -> InfiniteData[Any, Any]:
            return InfiniteData(data.pages[1:], data.page_params[1:])

        async with QueryClient() as client, client.observe(book.options(pages=2)) as results:
            await settled()
            mutating = asyncio.ensure_future(client.mutate(fail, None, optimistic=[(KEY, without_the_first)]))
            await settled()
            assert numbers(results.result.data) == [1]
            assert numbers((await results.observer.fetch_next_page()).data) == [1, 2]
            gate.set()
            with pytest.raises(LookupError):
                await mutating
            assert numbers(results.result.data) == [0, 1, 2]

    async def test_it_is_retried(self):
        book = Book()
        book.errors[1] = [ConnectionError()]
        async with QueryClient() as client, client.observe(book.options(retry_delay=1)) as results:
            await settled()
            assert numbers((await results.observer.fetch_next_page()).data) == [0, 1]
            assert book.asked == [0, 1, 1]

    async def test_it_leaves_the_data_as_old_as_it_was(self):
        book = Book()
        async with QueryClient() as client, client.observe(book.options(stale_time=10)) as results:
            await settled()
            await asyncio.sleep(6)
            before = results.result.data_updated_at
            result = await results.observer.fetch_next_page()
            assert (result.data_updated_at, result.is_stale) == (before, False)
            await asyncio.sleep(4)
            assert results.result.is_stale

    async def test_it_works_without_subscribers_and_where_it_is_disabled(self):
        book = Book()
        async with QueryClient() as client:
            observer = InfiniteQueryObserver(client, book.options(enabled=False))
            assert numbers((await observer.fetch_next_page()).data) == [0]
            assert numbers((await observer.fetch_next_page()).data) == [0, 1]
            with observer:
                assert numbers((await observer.fetch_next_page()).data) == [0, 1, 2]

    async def test_it_may_be_awaited_as_a_task(self):
        book = Book()
        async with QueryClient() as client, client.observe(book.options()) as results:
            await settled()
            async with asyncio.TaskGroup() as group:
                task = group.create_task(results.observer.fetch_next_page())
            assert numbers(task.result().data) == [0, 1]

    async def test_giving_up_waiting_lets_it_go_on(self):
        book = Book(held=True)
        async with QueryClient() as client, client.observe(book.options()) as results:
            await book.step()
            waiting = asyncio.ensure_future(results.observer.fetch_next_page())
            await settled()
            waiting.cancel()
            await settled()
            await book.let_go()
            assert numbers(results.result.data) == [0, 1]

    async def test_it_needs_its_rule(self):
        async with QueryClient() as client:
            options = infinite_query_options(KEY, Book(), initial_page_param=0)
            async with client.observe(options) as results:
                await settled()
                with pytest.raises(TypeError, match="give it get_next_page_param"):
                    results.observer.fetch_next_page()
                with pytest.raises(TypeError, match="give it get_previous_page_param"):
                    results.observer.fetch_previous_page()

    async def test_it_needs_a_function(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, InfiniteData(([0, 0],), (0,)))
            options = infinite_query_options(
                KEY, skip, initial_page_param=0, get_next_page_param=lambda page, data: page[0] + 1
            )
            async with client.observe(options) as results:
                assert results.result.has_next_page
                with pytest.raises(MissingQueryFunction):
                    results.observer.fetch_next_page()

    async def test_a_closed_observer_fetches_nothing(self):
        async with QueryClient() as client:
            observer = InfiniteQueryObserver(client, Book().options())
            observer.close()
            observer.close()
            for fetch in (
                observer.fetch_next_page,
                observer.fetch_previous_page,
                observer.refetch,
                lambda: observer.refetch(refetch_pages=[0]),
                lambda: observer.set_options(Book().options()),
            ):
                with pytest.raises(ObserverClosed):
                    fetch()

    def test_it_needs_a_running_loop(self):
        client = QueryClient()
        client.set_query_data(KEY, InfiniteData(([0, 0],), (0,)))
        observer = InfiniteQueryObserver(client, Book().options())
        for fetch in (observer.fetch_next_page, lambda: observer.refetch(refetch_pages=[0])):
            with pytest.raises(RuntimeError, match="running event loop"):
                fetch()


class TestErrors:
    async def test_page_errors_are_apart_from_refetch_errors(self):
        book = Book()
        async with QueryClient() as client, client.observe(book.options(5)) as results:
            await settled()
            observer = results.observer
            seen = []
            for fetch, page in (
                (observer.fetch_next_page, 6),
                (observer.fetch_previous_page, 4),
                (observer.refetch, 5),
            ):
                book.errors[page] = [LookupError(page)]
                result = await fetch()
                seen.append((doing(result), str(result.error), numbers(result.data)))
            assert seen == [
                ({"is_fetch_next_page_error"}, "6", [5]),
                ({"is_fetch_previous_page_error"}, "4", [5]),
                ({"is_refetch_error"}, "5", [5]),
            ]
            assert doing(await observer.fetch_next_page()) == set()

    async def test_a_first_fetch_that_fails_is_a_loading_error(self):
        book = Book()
        book.errors[0] = [LookupError()]
        async with QueryClient() as client, client.observe(book.options()) as results:
            await settled()
            assert doing(results.result) == {"is_loading_error"}
            assert numbers((await results.observer.fetch_next_page()).data) == [0]

    async def test_a_page_error_stays_one_while_all_are_fetched_again(self):
        book = Book()
        async with QueryClient() as client, client.observe(book.options()) as results:
            await settled()
            book.errors[1] = [LookupError()]
            await results.observer.fetch_next_page()
            book.held = True
            results.refetch()
            assert doing(results.result) == {"is_refetching", "is_fetch_next_page_error"}
            await book.let_go()
            assert doing(results.result) == set()

    async def test_it_is_raised_to_who_asks_for_that(self):
        book = Book()
        async with QueryClient() as client, client.observe(book.options()) as results:
            await settled()
            for fetch, page in (
                (results.observer.fetch_next_page, 1),
                (results.observer.refetch, 0),
                (lambda **options: results.observer.refetch(refetch_pages=[0], **options), 0),
            ):
                book.errors[page] = [LookupError(page)]
                with pytest.raises(LookupError):
                    await fetch(throw_on_error=True)

    async def test_a_page_error_is_not_remembered_for_who_asks_for_the_pages(self):
        book = Book()
        async with QueryClient() as client, client.observe(book.options(error_time=9)) as results:
            await settled()
            book.errors[1] = [LookupError()]
            await results.observer.fetch_next_page()
            assert numbers(await client.infinite_query(book.options(error_time=9))) == [0]


class TestRefetching:
    async def test_trap_23_a_page_more_does_not_end_a_refetch(self):
        book = Book()
        async with QueryClient() as client, client.observe(book.options(pages=2)) as results:
            await settled()
            book.edition, book.held = 2, True
            refetching = results.refetch()
            await settled()
            fetching = results.observer.fetch_next_page()
            await settled()
            assert (doing(results.result), book.cancelled) == ({"is_refetching"}, 0)
            await book.let_go()
            assert editions((await fetching).data) == [2, 2, 2]
            assert (await refetching).is_success
            assert book.asked == [0, 1, 0, 1, 2]

    async def test_trap_23_a_page_more_comes_though_the_refetch_fails(self):
        book = Book()
        async with QueryClient() as client, client.observe(book.options(pages=2)) as results:
            await settled()
            book.errors[1] = [LookupError()]
            results.refetch()
            assert numbers((await results.observer.fetch_next_page()).data) == [0, 1, 2]

    async def test_a_refetch_ends_the_fetch_of_a_page_which_then_begins_anew(self):
        book = Book()
        async with QueryClient() as client, client.observe(book.options()) as results:
            await settled()
            book.edition, book.held = 2, True
            fetching = results.observer.fetch_next_page()
            await settled()
            results.refetch()
            await book.let_go()
            assert editions((await fetching).data) == [2, 2]
            assert (book.asked, book.cancelled) == ([0, 1, 0, 1], 1)

    async def test_a_refetch_that_may_not_end_it_follows(self):
        book = Book()
        async with QueryClient() as client, client.observe(book.options()) as results:
            await settled()
            book.held = True
            results.observer.fetch_next_page()
            await settled()
            refetching = results.refetch(cancel_refetch=False)
            await book.let_go()
            assert numbers((await refetching).data) == [0, 1]
            assert (book.asked, book.cancelled) == ([0, 1, 0, 1], 0)

    async def test_all_pages_are_fetched_again_at_intervals(self):
        book = Book()
        async with QueryClient() as client, client.observe(book.options(pages=2, refetch_interval=10)):
            await asyncio.sleep(25)
        assert book.asked == [0, 1] * 3

    async def test_an_interval_waits_for_a_page_more(self):
        book = Book()
        async with QueryClient() as client, client.observe(book.options(refetch_interval=10)) as results:
            await asyncio.sleep(9)
            book.held = True
            results.observer.fetch_next_page()
            await asyncio.sleep(2)
            assert book.asked == [0, 1]
            await book.let_go()
            assert book.asked == [0, 1, 0, 1]


class TestRefetchingSomePages:
    async def test_these_alone_are_asked_for(self):
        book = Book()
        async with QueryClient() as client, client.observe(book.options(pages=3)) as results:
            await settled()
            book.took()
            book.edition = 2
            fetching = results.refetch(refetch_pages=[1])
            assert doing(results.result) == {"is_refetching"}
            assert editions((await fetching).data) == [1, 2, 1]
            result = await results.observer.refetch(refetch_pages=lambda page, index, data: page[1] == 1)
            assert editions(result.data) == [2, 2, 2]
            assert book.asked == [1, 0, 2]

    async def test_it_holds_for_this_once(self):
        book = Book()
        async with QueryClient() as client, client.observe(book.options(pages=3)) as results:
            await settled()
            await results.refetch(refetch_pages=[1])
            book.took()
            await client.invalidate_queries(KEY)
            assert book.asked == [0, 1, 2]

    async def test_it_leaves_the_data_as_old_and_as_invalid_as_it_was(self):
        book = Book()
        async with QueryClient() as client, client.observe(book.options(pages=3, stale_time=9)) as results:
            await settled()
            client.invalidate_queries(KEY, refetch_type="none")
            result = await results.refetch(refetch_pages=[1])
            assert (result.is_invalidated, result.is_stale) == (True, True)

    async def test_before_there_are_pages_the_first_ones_are_fetched(self):
        book = Book()
        async with QueryClient() as client, client.observe(book.options(pages=2)) as results:
            assert numbers((await results.refetch(refetch_pages=[1])).data) == [0, 1]

    async def test_one_that_runs_is_joined_if_that_is_wanted(self):
        book = Book()
        async with QueryClient() as client, client.observe(book.options(pages=3)) as results:
            await settled()
            book.took()
            for cancel, asked in (False, [1]), (True, [1, 1]):
                one = results.refetch(refetch_pages=[1])
                await asyncio.sleep(0)
                two = results.refetch(refetch_pages=[1], cancel_refetch=cancel)
                other = results.refetch(refetch_pages=[0])
                for each in one, two, other:
                    await each
                assert book.took() == [*asked, 0]

    async def test_a_failure_is_a_refetch_error(self):
        book = Book()
        async with QueryClient() as client, client.observe(book.options(pages=3)) as results:
            await settled()
            book.errors[1] = [LookupError()]
            result = await results.refetch(refetch_pages=[0, 1])
            assert (doing(result), editions(result.data)) == ({"is_refetch_error"}, [1, 1, 1])

    @pytest.mark.parametrize("pages", [1, "01", [None]])
    async def test_what_says_no_pages_is_refused(self, pages):
        async with QueryClient() as client, client.observe(Book().options()) as results:
            with pytest.raises(TypeError, match="refetch_pages"):
                results.refetch(refetch_pages=pages)


class TestOptions:
    async def test_others_may_be_set_for_another_key(self):
        one, two = Book(), Book(first=7)
        async with QueryClient() as client:
            observer = InfiniteQueryObserver(client, one.options(placeholder_data=keep_previous_data))
            with observer:
                await settled()
                observer.set_options(
                    ("others",),
                    two,
                    initial_page_param=7,
                    get_previous_page_param=two.before,
                    placeholder_data=keep_previous_data,
                )
                result = observer.result
                assert (numbers(result.data), result.is_placeholder_data, result.has_next_page) == ([0], True, False)
                await settled()
                assert numbers(observer.result.data) == [7]
                with pytest.raises(TypeError, match="give it get_next_page_param"):
                    observer.fetch_next_page()

    async def test_another_rule_is_asked_at_once(self):
        book = Book()
        async with QueryClient() as client:
            observer = InfiniteQueryObserver(client, book.options(stale_time=9))
            with observer:
                await settled()
                observer.set_options(book.options(stale_time=9, get_next_page_param=lambda page, data: None))
                assert not observer.result.has_next_page

    async def test_wrong_ones_change_nothing(self):
        async with QueryClient() as client:
            observer = InfiniteQueryObserver(client, Book().options())
            with pytest.raises(TypeError, match="no initial_page_param"):
                observer.set_options(KEY, Book())
            with pytest.raises(TypeError, match="no page function"):
                InfiniteQueryObserver(client, KEY, initial_page_param=0)
            with pytest.raises(ValueError, match="notify_on"):
                observer.set_options(KEY, Book(), initial_page_param=0, notify_on=["no such field"])
            assert numbers((await observer.refetch()).data) == [0]
            assert numbers((await observer.fetch_next_page()).data) == [0, 1]


class TestIdentities:
    @staticmethod
    async def named(ctx: QueryContext[Any]) -> Any:
        use_identity(("cluster", ctx.page_param))
        return ctx.page_param

    def options(self, **options: Any) -> Any:
        rule = options.pop("rule", lambda page, data: page + 1)
        return infinite_query_options(KEY, self.named, initial_page_param=0, get_next_page_param=rule, **options)

    @pytest.mark.parametrize("identity", [0, 1])
    async def test_S3_a_page_more_adds_its_identities(self, identity):
        async with QueryClient() as client, client.observe(self.options()) as results:
            await settled()
            await results.observer.fetch_next_page()
            await client.forget(("cluster", identity))
            assert (results.result.data, results.result.has_next_page) == (None, False)

    async def test_S3_what_a_rule_has_read_goes_with_its_identity(self):
        async with QueryClient() as client:
            client.set_query_data(("limit",), 5, identity="other")

            def rule(page: int, data: Any) -> int | None:
                return page + 1 if page < client.get_query_data(("limit",), 0) else None

            async with client.observe(self.options(rule=rule)) as results:
                await settled()
                assert results.result.has_next_page
                await client.forget("other")
                assert not results.result.has_next_page

    async def test_S3_who_reads_the_result_takes_on_what_a_rule_has_read(self):
        async with QueryClient() as client:
            client.set_query_data(("limit",), 5, identity="other")
            options = self.options(rule=lambda page, data: client.get_query_data(("limit",)))
            async with client.observe(options) as results:
                await settled()
                await client.query(("copy",), lambda: results.result.has_next_page)
                assert client.get_query_data(("copy",)) is True
                await client.forget("other")
                assert client.get_query_data(("copy",)) is None

    async def test_S3_a_rule_that_forgets_what_it_reads_says_nothing(self):
        async with QueryClient() as client:

            def rule(page: int, data: Any) -> int:
                client.forget(("cluster", 0))
                return 1

            async with client.observe(self.options(rule=rule)) as results:
                await settled()
                assert (results.result.data, results.result.has_next_page) == (None, False)

    async def test_S3_nor_does_one_that_forgets_what_it_used_elsewhere(self):
        async with QueryClient() as client:

            def rule(page: int, data: Any) -> int:
                use_identity("elsewhere")
                client.forget("elsewhere")
                return 1

            observer = InfiniteQueryObserver(client, self.options(rule=rule))
            with observer:
                await settled()
                result = observer.result
                assert (result.data.pages, result.has_next_page) == ((0,), False)

    @pytest.mark.parametrize("how", ["cleared", "forgotten"])
    async def test_S3_pages_that_are_gone_are_held_by_no_observer(self, how):
        class Page(list[int]):
            pass

        async with QueryClient() as client:
            options = infinite_query_options(
                KEY,
                lambda ctx: Page([ctx.page_param]),
                initial_page_param=0,
                get_next_page_param=lambda page, data: 1,
                identity="me",
            )
            await client.infinite_query(options)
            observer = InfiniteQueryObserver(client, replace(options, fn=skip))
            undo = observer.subscribe(lambda result: None) if how == "cleared" else None
            page = weakref.ref(observer.result.data.pages[0])
            client.clear() if how == "cleared" else client.forget("me")
            await settled()
            gc.collect()
            assert page() is None
            del undo
