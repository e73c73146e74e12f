"""`client.infinite_query`: pages by parameters that follow from one another, fetched as one."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from querykit import InfiniteData, QueryClient, QueryContext, infinite_query_options, query_options, skip, use_identity
from querykit.sharing import share
from tests.fetches import settled
from tests.pages import KEY, Book, editions, numbers

pytestmark = pytest.mark.virtual_time


class TestFetching:
    async def test_the_first_page_is_fetched_by_the_initial_parameter(self):
        book = Book()
        async with QueryClient() as client:
            data = await client.infinite_query(KEY, book, initial_page_param=3)
            assert data == InfiniteData(([3, 1],), (3,))
            assert client.get_query_data(KEY) is data

    async def test_None_may_be_the_initial_parameter(self):
        async with QueryClient() as client:
            data = await client.infinite_query(KEY, lambda ctx: [ctx.page_param], initial_page_param=None)
            assert data == InfiniteData(([None],), (None,))

    async def test_a_page_function_may_be_plain(self):
        async with QueryClient() as client:
            data = await client.infinite_query(KEY, lambda ctx: str(ctx.page_param), initial_page_param=1)
            assert data.pages == ("1",)

    async def test_it_gets_the_context_of_its_query(self):
        seen = []

        async def page(ctx: QueryContext[Any]) -> int:
            seen.append((ctx.query_key, ctx.meta, ctx.page_param, ctx.direction, ctx.previous_data))
            return 1

        async with QueryClient() as client:
            await client.infinite_query(KEY, page, initial_page_param="a", meta={"why": "test"})
        assert seen == [(KEY, {"why": "test"}, "a", None, None)]

    async def test_several_pages_are_fetched_at_first_if_asked_for(self):
        book = Book()
        async with QueryClient() as client:
            data = await client.infinite_query(book.options(pages=3))
            assert numbers(data) == book.asked == [0, 1, 2]

    async def test_it_ends_sooner_where_there_are_fewer(self):
        book = Book(last=1)
        async with QueryClient() as client:
            assert numbers(await client.infinite_query(book.options(pages=3))) == [0, 1]

    async def test_the_rules_get_the_page_at_the_end_and_all_of_the_data(self):
        seen = []

        def after(page: list[int], data: InfiniteData[list[int], int]) -> int:
            seen.append((page[0], numbers(data)))
            return page[0] + 1

        async with QueryClient() as client:
            await client.infinite_query(Book().options(pages=3, get_next_page_param=after))
        assert seen == [(0, [0]), (1, [0, 1])]

    async def test_fresh_pages_are_answered_from_the_cache_however_many_they_are(self):
        book = Book()
        async with QueryClient() as client:
            options = book.options(stale_time=10)
            first = await client.infinite_query(options)
            assert await client.infinite_query(book.options(stale_time=10, pages=3)) is first
            assert await client.query(options) is first
            await asyncio.sleep(10)
            assert numbers(await client.infinite_query(book.options(stale_time=10, pages=3))) == [0, 1, 2]

    async def test_stale_pages_may_be_answered_while_others_are_fetched_behind_them(self):
        book = Book()
        async with QueryClient() as client:
            first = await client.infinite_query(book.options())
            book.edition = 2
            assert await client.infinite_query(book.options(), swr=True) is first
            await settled()
            assert editions(client.get_query_data(KEY)) == [2]

    async def test_callers_at_a_time_share_the_fetch_of_all_pages(self):
        book = Book()
        async with QueryClient() as client:
            calls = [client.infinite_query(book.options(pages=2)) for _ in range(50)]
            answers = await asyncio.gather(*calls)
        assert book.asked == [0, 1]
        assert all(answer is answers[0] for answer in answers)

    async def test_a_caller_may_see_the_pages_through_a_selector(self):
        async with QueryClient() as client:
            options = Book().options(pages=2).select(numbers)
            assert await client.infinite_query(options) == [0, 1]
            assert await client.infinite_query(options.select(sum)) == 1
            assert numbers(client.get_query_data(options)) == [0, 1]

    async def test_pages_are_prefetched(self):
        book = Book()
        async with QueryClient() as client:
            await client.prefetch(book.options(pages=2))
            assert numbers(client.get_query_data(KEY)) == [0, 1]
            client.prefetch(book.options(stale_time=9))
            await settled()
            assert book.asked == [0, 1]

    async def test_skip_fetches_nothing(self):
        async with QueryClient() as client:
            options = infinite_query_options(KEY, skip, initial_page_param=0)
            client.set_query_data(options, InfiniteData(("set",), (0,)))
            assert (await client.infinite_query(options)).pages == ("set",)

    async def test_a_page_that_can_be_read_only_once_is_refused(self):
        async with QueryClient() as client:
            with pytest.raises(TypeError, match="generator cannot be the data"):
                await client.infinite_query(KEY, lambda ctx: (n for n in "ab"), initial_page_param=0)

    async def test_freshness_by_http_is_that_of_the_page_that_is_fresh_for_the_shortest_time(self):
        ages = {0: 30.0, 1: 10.0, 2: 20.0, 3: None}

        async def page(ctx: QueryContext[Any]) -> int:
            ctx.stale_time = ages[ctx.page_param]
            ctx.new_validators = '"of one page"'
            return ctx.page_param

        async with QueryClient() as client:
            for pages, learned in (1, 30.0), (2, 10.0), (3, 10.0), (4, 0.0):
                await client.infinite_query(
                    (pages,), page, initial_page_param=0, get_next_page_param=lambda page, data: page + 1, pages=pages
                )
                query = client.cache.find((pages,))
                assert query is not None
                assert (query.learned, query.validators) == (learned, None)


class TestRefetching:
    async def test_trap_23_every_page_is_asked_for_one_after_another_from_the_first(self):
        book = Book()
        async with QueryClient() as client:
            await client.infinite_query(book.options(2, pages=3))
            book.edition, book.held = 2, True
            asking = asyncio.create_task(client.infinite_query(book.options()))
            await settled()
            for asked in [2], [2, 3], [2, 3, 4]:
                assert book.asked[3:] == asked
                assert editions(client.get_query_data(KEY)) == [1, 1, 1], "nothing is shown before all have come"
                await book.step()
            assert editions(await asking) == [2, 2, 2]

    async def test_trap_23_each_parameter_follows_from_the_fresh_page_before(self):
        step = 10

        async def page(ctx: QueryContext[Any]) -> int:
            return ctx.page_param + step

        async with QueryClient() as client:
            options = infinite_query_options(
                KEY, page, initial_page_param=0, get_next_page_param=lambda page, data: page, pages=3
            )
            assert (await client.infinite_query(options)).page_params == (0, 10, 20)
            step = 5
            assert (await client.infinite_query(options)).page_params == (0, 5, 10)

    async def test_trap_23_it_ends_sooner_where_there_are_fewer_now(self):
        book = Book()
        async with QueryClient() as client:
            await client.infinite_query(book.options(pages=4))
            book.last = 1
            assert numbers(await client.infinite_query(book.options())) == [0, 1]

    async def test_trap_23_a_failed_page_leaves_all_as_they_were(self):
        book = Book()
        async with QueryClient() as client:
            old = await client.infinite_query(book.options(pages=3))
            book.edition = 2
            book.errors[2] = [LookupError("gone")]
            with pytest.raises(LookupError):
                await client.infinite_query(book.options())
            assert client.get_query_data(KEY) is old

    async def test_trap_23_a_retry_resumes_at_the_page_that_failed(self):
        book = Book()
        book.errors[1] = [ConnectionError(), ConnectionError()]
        async with QueryClient() as client:
            data = await client.infinite_query(book.options(pages=3, retry_delay=1))
            assert book.took() == [0, 1, 1, 1, 2]
            assert numbers(data) == [0, 1, 2]
            book.errors[2] = [ConnectionError()]
            await client.infinite_query(book.options(retry_delay=1))
            assert book.took() == [0, 1, 2, 2]

    async def test_a_later_fetch_begins_with_the_first_page_again(self):
        book = Book()
        book.errors[1] = [LookupError()]
        async with QueryClient() as client:
            with pytest.raises(LookupError):
                await client.infinite_query(book.options(pages=2))
            await client.infinite_query(book.options(pages=2))
        assert book.asked == [0, 1, 0, 1]

    async def test_a_rule_that_raises_fails_the_fetch(self):
        def after(page: Any, data: Any) -> int:
            raise LookupError("no rule")

        async with QueryClient() as client:
            with pytest.raises(LookupError, match="no rule"):
                await client.infinite_query(Book().options(pages=2, get_next_page_param=after))

    async def test_without_a_rule_each_page_is_asked_for_with_the_parameter_it_had(self):
        book = Book()
        async with QueryClient() as client:
            options = infinite_query_options(KEY, book, initial_page_param=0)
            client.set_query_data(KEY, InfiniteData(([7, 0], [5, 0]), (7, 5)))
            assert numbers(await client.infinite_query(options)) == book.asked == [7, 5]

    async def test_no_more_than_max_pages_are_kept(self):
        book = Book()
        async with QueryClient() as client:
            await client.infinite_query(book.options(pages=3, max_pages=3))
            assert numbers(await client.infinite_query(book.options(max_pages=2))) == [1, 2], "5.108: also when shrunk"

    async def test_an_empty_set_of_pages_is_filled_from_the_beginning(self):
        book = Book()
        async with QueryClient() as client:
            client.set_query_data(KEY, InfiniteData((), ()), age=1)
            assert numbers(await client.infinite_query(book.options(2, refetch_pages=[0]))) == [2]

    async def test_other_data_under_the_key_is_an_error(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, ["a"], age=1)
            with pytest.raises(TypeError, match="no InfiniteData but a list"):
                await client.infinite_query(Book().options())


class TestSomePages:
    @pytest.mark.parametrize(
        ("chosen", "asked"),
        [
            ([0], [0]),
            ({2, 0}, [0, 2]),
            ([-1], [3]),
            ([7], []),
            (lambda page, index, data: index == 1 and page == [1, 1] and len(data.pages) == 4, [1]),
        ],
        ids=["first", "two", "last", "none", "callable"],
    )
    async def test_only_these_are_asked_for_again_with_their_own_parameters(self, chosen, asked):
        book = Book()
        async with QueryClient() as client:
            await client.infinite_query(book.options(pages=4))
            book.took()
            book.edition = 2
            data = await client.infinite_query(book.options(refetch_pages=chosen))
            assert book.asked == asked
            assert numbers(data) == [0, 1, 2, 3]
            assert editions(data) == [2 if number in asked else 1 for number in range(4)]

    async def test_all_are_fetched_at_first(self):
        book = Book()
        async with QueryClient() as client:
            assert numbers(await client.infinite_query(book.options(pages=2, refetch_pages=[0]))) == [0, 1]

    async def test_a_retry_resumes_at_the_page_that_failed(self):
        book = Book()
        async with QueryClient() as client:
            await client.infinite_query(book.options(pages=3))
            book.took()
            book.errors[2] = [ConnectionError()]
            await client.infinite_query(book.options(refetch_pages=[0, 2], retry_delay=1))
            assert book.asked == [0, 2, 2]

    async def test_a_callable_that_raises_fails_the_fetch(self):
        async with QueryClient() as client:
            await client.infinite_query(Book().options())
            with pytest.raises(ZeroDivisionError):
                await client.infinite_query(Book().options(refetch_pages=lambda page, index, data: 1 // 0))

    async def test_an_invalidation_is_answered_by_them(self):
        book = Book()
        options = book.options(pages=2, refetch_pages=[0], stale_time=9)
        async with QueryClient() as client, client.observe(options) as results:
            await settled()
            book.took()
            await client.invalidate_queries(KEY)
            assert book.asked == [0]
            assert not results.result.is_stale


class TestSetting:
    async def test_pages_may_be_set_and_updated_by_hand(self):
        async with QueryClient() as client:
            options = Book().options(stale_time=9)
            client.set_query_data(options, InfiniteData(([4, 0],), (4,)))

            def with_one_more(data: InfiniteData[Any, Any]) -> InfiniteData[Any, Any]:
                return InfiniteData((*data.pages, [5, 0]), (*data.page_params, 5))

            client.set_query_data(options, with_one_more)
            assert numbers(await client.infinite_query(options)) == [4, 5]

    async def test_a_page_needs_its_parameter(self):
        with pytest.raises(ValueError, match="not 1 for 2 pages"):
            InfiniteData(("a", "b"), (0,))

    async def test_pages_are_equal_by_value(self):
        assert InfiniteData(([1],), (0,)) == InfiniteData(([1],), (0,)) != InfiniteData(([2],), (0,))


class TestSharing:
    async def test_trap_16_pages_that_are_equal_keep_their_identity(self):
        book = Book()
        async with QueryClient() as client:
            old = await client.infinite_query(book.options(pages=3))
            book.edition = 2
            await client.infinite_query(book.options(refetch_pages=[1]))
            new = client.get_query_data(KEY)
            assert new is not old
            assert [page is was for page, was in zip(new.pages, old.pages, strict=True)] == [True, False, True]

    async def test_trap_16_all_of_it_does_if_nothing_has_changed(self):
        async with QueryClient() as client:
            old = await client.infinite_query(Book().options(pages=3))
            assert await client.infinite_query(Book().options()) is old

    async def test_trap_16_parameters_may_be_tuples(self):
        async def page(ctx: QueryContext[Any]) -> list[str]:
            return ["a"]

        async with QueryClient() as client:
            options = infinite_query_options(
                KEY,
                page,
                initial_page_param=("c", 0),
                get_next_page_param=lambda page, data: ("c", len(data.pages)),
                pages=3,
            )
            old = await client.infinite_query(options)
            assert await client.infinite_query(options) is old

    def test_data_of_another_length_shares_what_it_can(self):
        old = InfiniteData(([1], [2]), (0, 1))
        new = share(old, InfiniteData(([1],), (0,)))
        assert isinstance(new, InfiniteData)
        assert new == InfiniteData(([1],), (0,))
        assert new.pages[0] is old.pages[0]
        assert share([1], (1,)) == (1,)

    async def test_it_may_be_turned_off(self):
        async with QueryClient() as client:
            old = await client.infinite_query(Book().options())
            assert await client.infinite_query(Book().options(structural_sharing=False)) is not old


class TestWrongOptions:
    @pytest.mark.parametrize(
        ("options", "error", "says"),
        [
            ({"pages": 0}, ValueError, "pages is 1 or more pages, not 0"),
            ({"pages": -1}, ValueError, "not -1"),
            ({"pages": True}, TypeError, "pages is a number of pages, not True"),
            ({"pages": 1.5}, TypeError, "not 1.5"),
            ({"pages": 2}, TypeError, "pages=2 needs get_next_page_param"),
            ({"max_pages": 0}, ValueError, "max_pages is 1 or more"),
            ({"max_pages": math.inf}, TypeError, "max_pages is a number"),
            ({"pages": 3, "max_pages": 2}, ValueError, "no more than max_pages, which is 2, not 3"),
            ({"get_next_page_param": 1}, TypeError, "get_next_page_param is a callable"),
            ({"get_previous_page_param": "p"}, TypeError, "get_previous_page_param is a callable"),
            ({"refetch_pages": 0}, TypeError, "refetch_pages is a list of indexes or a callable"),
            ({"refetch_pages": "01"}, TypeError, "not '01'"),
            ({"refetch_pages": [True]}, TypeError, "not \\[True\\]"),
            ({"stale_time": "soon"}, ValueError, "stale_time"),
            ({"page": 1}, TypeError, "unknown query option 'page'"),
        ],
    )
    def test_an_impossible_option_is_refused(self, options, error, says):
        with pytest.raises(error, match=says):
            infinite_query_options(KEY, Book(), initial_page_param=0, **options)

    async def test_the_initial_parameter_may_not_be_missing(self):
        async with QueryClient() as client:
            with pytest.raises(TypeError, match="no initial_page_param"):
                await client.infinite_query(KEY, Book())
            assert len(client.cache) == 0

    async def test_the_function_may_not_be_missing(self):
        async with QueryClient() as client:
            with pytest.raises(TypeError, match="no page function: pass fn"):
                await client.infinite_query(KEY, initial_page_param=0)

    @pytest.mark.parametrize("fn", [lambda: 1, lambda a, b: 1, 3, dict], ids=["none", "two", "number", "builtin"])
    def test_a_page_function_takes_the_context(self, fn):
        with pytest.raises(TypeError, match=r"page function takes one|needs 2 by position|is callable"):
            infinite_query_options(KEY, fn, initial_page_param=0)

    @pytest.mark.parametrize("key", ["logs", None, ["logs"]])
    def test_a_key_is_a_tuple(self, key):
        with pytest.raises(TypeError, match="tuple"):
            infinite_query_options(key, Book(), initial_page_param=0)

    async def test_options_of_an_infinite_query_are_given_alone(self):
        async with QueryClient() as client:
            with pytest.raises(TypeError, match="give them alone"):
                await client.infinite_query(Book().options(), Book())
            with pytest.raises(TypeError, match="give them alone"):
                await client.infinite_query(Book().options(), pages=2)
            with pytest.raises(TypeError, match="give them alone"):
                client.observe(Book().options(), stale_time=2)

    async def test_options_of_a_plain_query_are_refused(self):
        async with QueryClient() as client:
            with pytest.raises(TypeError, match="plain query"):
                await client.infinite_query(query_options(KEY, lambda: 1))

    def test_a_selector_is_callable(self):
        with pytest.raises(TypeError, match="select takes a callable"):
            Book().options().select(1)


class TestIdentities:
    @staticmethod
    async def named(ctx: QueryContext[Any]) -> Any:
        use_identity(("cluster", ctx.page_param))
        return ctx.page_param

    def options(self, **options: Any) -> Any:
        return infinite_query_options(
            KEY, self.named, initial_page_param=0, get_next_page_param=lambda page, data: page + 1, **options
        )

    @pytest.mark.parametrize("identity", [0, 1])
    async def test_S3_pages_belong_to_the_identities_of_each_of_them(self, identity):
        async with QueryClient() as client:
            await client.infinite_query(self.options(pages=2))
            await client.forget(("cluster", identity))
            assert client.get_query_data(KEY) is None

    async def test_S3_pages_asked_for_again_belong_to_those_of_the_old_ones_too(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, InfiniteData(("old", "old"), (7, 8)), age=1, identity="before")
            await client.infinite_query(self.options(refetch_pages=[0]))
            await client.forget("before")
            assert client.get_query_data(KEY) is None

    async def test_S3_first_pages_belong_to_their_own_alone(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, InfiniteData(("old",), (0,)), identity="before")
            client.remove_queries(KEY)
            await client.infinite_query(self.options())
            await client.forget("before")
            assert client.get_query_data(KEY) is not None
