"""Infinite queries: the function that fetches their pages, and their options as one value."""

import math
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field, replace
from inspect import isawaitable
from typing import Any, Final, Generic, TypeVar, Unpack, cast, overload

from querykit.callables import called
from querykit.context import PerFetch, QueryContext
from querykit.fetching import refuse_unusable
from querykit.flight import takes_context
from querykit.keys import QueryKey, check_key
from querykit.options import ObserverOptions, Options, QueryOptions, check_fn, check_options
from querykit.pages import InfiniteData
from querykit.state import NO_DATA, UNSET, Direction, Skip, skip

__all__ = ["InfiniteObserverOptions", "InfiniteOptions", "InfiniteQueryOptions", "infinite_query_options"]

Page = TypeVar("Page")
Param = TypeVar("Param")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")

AsyncPageFn = Callable[[QueryContext[Any]], Awaitable[Page]]
PlainPageFn = Callable[[QueryContext[Any]], Page]
PageFn = AsyncPageFn[Page] | PlainPageFn[Page]
# The page is untyped here: else mypy takes the result for Any where the rule is a lambda that does not look at it.
ParamRule = Callable[[Any, InfiniteData[Any, Param]], Param | None]
RefetchPages = Collection[int] | Callable[[Any, int, Any], bool]

_NO_PAGES: Final[InfiniteData[Any, Any]] = InfiniteData((), ())


class InfiniteQueryOptions(QueryOptions, total=False):
    """The options of an infinite query, beside the rules for its parameters.

    Attributes:
        pages: how many pages a first fetch gets, if there are so many.
        max_pages: how many pages are kept: one more at an end drops one at the other; None for all.
        refetch_pages: which pages each later fetch asks for anew: their indexes, where negative ones count from
            the end, or a callable `(page, index, data) -> bool`; None for all.
    """

    pages: int
    max_pages: int | None
    refetch_pages: RefetchPages | None


class InfiniteObserverOptions(InfiniteQueryOptions, ObserverOptions, total=False):
    """The options of an observer of an infinite query: see `InfiniteQueryOptions` and `ObserverOptions`."""


@dataclass(frozen=True, slots=True, eq=False)
class Paging:
    """How an infinite query is paged: see `infinite_query_options`."""

    initial_page_param: Any
    get_next_page_param: ParamRule[Any] | None
    get_previous_page_param: ParamRule[Any] | None
    pages: int = 1
    max_pages: int | None = None
    refetch_pages: RefetchPages | None = None

    def rule(self, direction: Direction) -> ParamRule[Any] | None:
        """Return what gives the parameter of one page more."""
        return self.get_next_page_param if direction == "forward" else self.get_previous_page_param

    def param(self, data: InfiniteData[Any, Any], direction: Direction) -> Any:
        """Return the parameter of one page more, or None where there is none."""
        rule = self.rule(direction)
        if rule is None or not data.pages:
            return None
        return rule(data.pages[-1 if direction == "forward" else 0], data)

    def added(
        self, data: InfiniteData[Any, Any], page: object, param: object, direction: Direction
    ) -> InfiniteData[Any, Any]:
        """Return the data with one page more, and those at the other end dropped that are too many."""
        kept = slice(-(self.max_pages or 0), None) if direction == "forward" else slice(self.max_pages)
        if direction == "forward":
            return InfiniteData((*data.pages, page)[kept], (*data.page_params, param)[kept])
        return InfiniteData((page, *data.pages)[kept], (param, *data.page_params)[kept])

    def chosen(self, data: InfiniteData[Any, Any]) -> list[int] | None:
        """Return the indexes of the pages that are to be fetched again; None for all."""
        rule, count = self.refetch_pages, len(data.pages)
        if rule is None or not count:
            return None
        if callable(rule):
            return [index for index, page in enumerate(data.pages) if rule(page, index, data)]
        return [index for index in range(count) if index in rule or index - count in rule]


class PagesFn(PerFetch):
    """The query function of an infinite query.

    Args:
        fn: fetches one page.
        paging: says which.
    """

    def __init__(self, fn: PageFn[Any], paging: Paging) -> None:
        self.fn = fn
        self.paging = paging

    def for_one_fetch(self) -> Callable[[QueryContext[Any]], Any]:
        """Return what fetches pages and, called again, goes on with the one that failed."""
        return _PagesOfOneFetch(self.fn, self.paging).fetch

    def only(self, pages: RefetchPages) -> "PagesFn":
        """Return the same for a fetch of some pages."""
        return PagesFn(self.fn, replace(self.paging, refetch_pages=pages))


class _PagesOfOneFetch:
    """The pages that one fetch has so far. Those that were there before are read when they are needed."""

    def __init__(self, fn: PageFn[Any], paging: Paging) -> None:
        self._fn = fn
        self._paging = paging
        self._new = _NO_PAGES
        self._count = 0
        self._again: dict[int, object] = {}
        self._fresh_for = math.inf

    async def fetch(self, context: QueryContext[Any]) -> InfiniteData[Any, Any]:
        """Make one attempt."""
        old, direction = pages_of(context), context.direction
        if direction is not None and old.pages:
            data = await self._one_more(context, direction)
        elif (chosen := self._paging.chosen(old)) is not None:
            data = await self._some(context, chosen)
        else:
            data = await self._all(context)
        context.stale_time = None if self._fresh_for == math.inf else self._fresh_for
        return data

    async def _one_more(self, context: QueryContext[Any], direction: Direction) -> InfiniteData[Any, Any]:
        param = self._paging.param(pages_of(context), direction)
        if param is None:
            return pages_of(context)
        page = await self._page(context, param)
        return self._paging.added(pages_of(context), page, param, direction)

    async def _some(self, context: QueryContext[Any], chosen: list[int]) -> InfiniteData[Any, Any]:
        for index in chosen:
            if index not in self._again:
                self._again[index] = await self._page(context, pages_of(context).page_params[index])
        old = pages_of(context)
        return InfiniteData(tuple(self._again.get(at, page) for at, page in enumerate(old.pages)), old.page_params)

    async def _all(self, context: QueryContext[Any]) -> InfiniteData[Any, Any]:
        paging = self._paging
        while self._count < max(paging.pages, len((old := pages_of(context)).pages)):
            if self._count == 0:
                param = old.page_params[0] if old.pages else paging.initial_page_param
            elif paging.get_next_page_param is None:  # each page then has the parameter that it had before
                param = old.page_params[self._count]
            elif (param := paging.param(self._new, "forward")) is None:
                break
            self._new = paging.added(self._new, await self._page(context, param), param, "forward")
            self._count += 1
        return self._new

    async def _page(self, context: QueryContext[Any], param: object) -> object:
        """Fetch one page, in a context of its own: what the transport knows of the whole is of no use for it."""
        own: QueryContext[Any] = QueryContext(context.client, context.query_key, context.meta, context.progress)
        own.page_param = param
        page: object = self._fn(own)
        if isawaitable(page):
            page = await page
        refuse_unusable(page, context.query_key)
        self._fresh_for = min(self._fresh_for, own.stale_time or 0.0)
        return page


def pages_of(context: QueryContext[Any]) -> InfiniteData[Any, Any]:
    """Return the pages that there are now; who reads them belongs to their identities."""
    data = context.progress.read_old()[0]
    return _NO_PAGES if data is NO_DATA else checked_pages(data, context.query_key)


def checked_pages(data: object, key: QueryKey) -> InfiniteData[Any, Any]:
    """Return data that is pages.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(data, InfiniteData):
        raise TypeError(
            f"the data of {key!r} is no InfiniteData but a {type(data).__name__}: "
            "an infinite query needs a key of its own, and what is set there is an InfiniteData"
        )
    return cast("InfiniteData[object, object]", data)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class InfiniteOptions(Options[InfiniteData[Page, Param], R_co], Generic[Page, Param, R_co]):
    """A key with its page function and options as one value: see `infinite_query_options`.

    Attributes:
        paging: how it is paged.
    """

    paging: Paging = field(kw_only=True)

    def select(self, f: Callable[[R_co], S]) -> "InfiniteOptions[Page, Param, S]":
        """Return the same query seen through `f`: the cache keeps the pages, a caller gets `f(data)`.

        Example:
            >>> logs = infinite_query_options(("logs",), lambda ctx: ["a"], initial_page_param=0)
            >>> logs.select(lambda data: len(data.pages)).key
            ('logs',)
        """
        selector = Options[InfiniteData[Page, Param], R_co].select(self, f).selector
        return InfiniteOptions(self.key, self.fn, self.options, selector, paging=self.paging)


@overload
def infinite_query_options(
    key: QueryKey,
    fn: AsyncPageFn[Page] | Skip,
    *,
    initial_page_param: Param,
    get_next_page_param: ParamRule[Param] | None = ...,
    get_previous_page_param: ParamRule[Param] | None = ...,
    **options: Unpack[InfiniteObserverOptions],
) -> InfiniteOptions[Page, Param, InfiniteData[Page, Param]]: ...
@overload
def infinite_query_options(
    key: QueryKey,
    fn: PlainPageFn[Page] | Skip,
    *,
    initial_page_param: Param,
    get_next_page_param: ParamRule[Param] | None = ...,
    get_previous_page_param: ParamRule[Param] | None = ...,
    **options: Unpack[InfiniteObserverOptions],
) -> InfiniteOptions[Page, Param, InfiniteData[Page, Param]]: ...
def infinite_query_options(
    key: QueryKey,
    fn: PageFn[Any] | Skip,
    *,
    initial_page_param: Any = UNSET,
    get_next_page_param: ParamRule[Any] | None = None,
    get_previous_page_param: ParamRule[Any] | None = None,
    pages: int = 1,
    max_pages: int | None = None,
    refetch_pages: RefetchPages | None = None,
    **options: Any,
) -> InfiniteOptions[Any, Any, Any]:
    """Put the key, the page function and the options of an infinite query into one value.

    A later fetch asks for all pages anew, one after another from the first, each by the parameter that the
    rule gives after the one before, and ends sooner if there are fewer pages now.

    Args:
        key: the query key.
        fn: fetches one page: it takes a `QueryContext`, whose `page_param` says which. It is async or not.
        initial_page_param: the parameter of the first page.
        get_next_page_param: `(last_page, data)` to the parameter of the page after it, or None if there is none.
        get_previous_page_param: the same for the page before, from the first page.
        pages: see `InfiniteQueryOptions`.
        max_pages: see `InfiniteQueryOptions`.
        refetch_pages: see `InfiniteQueryOptions`.
        options: see `ObserverOptions`.

    Raises:
        TypeError: the key, `fn`, a rule or an option is of a wrong type, or there is no `initial_page_param`.
        ValueError: an option's value is impossible.

    Example:
        >>> logs = infinite_query_options(
        ...     ("logs",),
        ...     lambda ctx: [f"line {ctx.page_param}"],
        ...     initial_page_param=0,
        ...     get_next_page_param=lambda last_page, data: len(data.pages) if len(data.pages) < 5 else None,
        ... )
        >>> logs.key
        ('logs',)
    """
    check_key(key)
    check_fn(fn)
    check_options(options)
    if initial_page_param is UNSET:
        raise TypeError(f"the infinite query {key!r} has no initial_page_param: it is what its first page is asked for")
    _check_rule(get_next_page_param, "get_next_page_param")
    _check_rule(get_previous_page_param, "get_previous_page_param")
    _check_count(pages, "pages")
    if max_pages is not None:
        _check_count(max_pages, "max_pages")
        if pages > max_pages:
            raise ValueError(f"pages is no more than max_pages, which is {max_pages}, not {pages}")
    if pages > 1 and get_next_page_param is None:
        raise TypeError(f"pages={pages} needs get_next_page_param, to say what each page after the first is asked for")
    paging = Paging(
        initial_page_param,
        get_next_page_param,
        get_previous_page_param,
        pages,
        max_pages,
        None if refetch_pages is None else check_refetch_pages(refetch_pages),
    )
    given = cast("ObserverOptions", options)
    if fn is skip:
        return InfiniteOptions(key, skip, given, paging=paging)
    if not takes_context(fn):
        raise TypeError(
            f"a page function takes one QueryContext by position, whose page_param it reads, unlike {called(fn)}"
        )
    return InfiniteOptions(key, PagesFn(fn, paging), given, paging=paging)


def as_infinite_options(key: object, fn: Any, given: dict[str, Any]) -> InfiniteOptions[Any, Any, Any]:
    """Return the options that a method was given, as one value or as arguments."""
    if isinstance(key, InfiniteOptions):
        if fn is not UNSET or given:
            raise TypeError("the options hold a page function and all options already: give them alone")
        return cast("InfiniteOptions[object, object, object]", key)
    if isinstance(key, Options):
        raise TypeError("these are options of a plain query: make those of an infinite one by infinite_query_options")
    if fn is UNSET:
        raise TypeError(f"the infinite query {key!r} has no page function: pass fn, or `skip` in its place")
    return infinite_query_options(cast("QueryKey", key), fn, **given)


def check_refetch_pages(value: object) -> Any:
    """Return which pages are fetched again: a callable, or a frozenset of indexes.

    Raises:
        TypeError: `value` is neither that nor a collection of integers.
    """
    if callable(value):
        return value
    indexes = cast("Collection[object]", value) if isinstance(value, Collection) else ["no"]
    if not all(isinstance(index, int) and not isinstance(index, bool) for index in indexes):
        raise TypeError(f"refetch_pages is a list of indexes or a callable (page, index, data) -> bool, not {value!r}")
    return frozenset(indexes)


def _check_rule(value: object, name: str) -> None:
    if value is not None and not callable(value):
        raise TypeError(f"{name} is a callable of a page and the data, or None, not {value!r}")


def _check_count(value: object, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is a number of pages, not {value!r}")
    if value < 1:
        raise ValueError(f"{name} is 1 or more pages, not {value!r}")
