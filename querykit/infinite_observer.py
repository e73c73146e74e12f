"""Observing an infinite query: whether there are more pages, and how to get them."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, Final, NamedTuple, TypeAlias, TypeVar, Unpack, cast, overload

from querykit.checks import Seconds
from querykit.core import HasCore
from querykit.events import Subscription
from querykit.flight import Source, Waiter
from querykit.identity import Record, recording
from querykit.infinite import (
    AsyncPageFn,
    InfiniteObserverOptions,
    InfiniteOptions,
    PagesFn,
    Paging,
    ParamRule,
    PlainPageFn,
    RefetchPages,
    as_infinite_options,
    check_refetch_pages,
    checked_pages,
)
from querykit.keys import QueryKey
from querykit.memo import Memo
from querykit.observation import Observation
from querykit.observer import QueryObserver, Refetched
from querykit.pages import InfiniteData
from querykit.pending import Pending
from querykit.query import Query
from querykit.result import QueryResult
from querykit.state import NO_DATA, UNSET, Direction, Skip

__all__ = ["InfiniteObservation", "InfiniteQueryObserver", "InfiniteQueryResult", "PagesFetched"]

T = TypeVar("T")
Page = TypeVar("Page")
Param = TypeVar("Param")

_DIRECTIONS: Final[tuple[Direction, Direction]] = ("forward", "backward")
_RULES: Final = {"forward": "get_next_page_param", "backward": "get_previous_page_param"}


class InfiniteQueryResult(QueryResult[T], frozen=True, eq=False):
    """What an observer sees of an infinite query at one moment: see `QueryResult`."""

    has_next_page: bool
    """Whether there is a page after the last one."""
    has_previous_page: bool
    """Whether there is a page before the first one."""
    fetch_direction: Direction | None
    """Which page more is being fetched; None where none is, or where pages are fetched anew."""
    error_direction: Direction | None
    """Which page more could not be fetched, where that is what the error says."""

    @property
    def is_fetching_next_page(self) -> bool:
        """The page after the last one is being fetched."""
        return self.is_fetching and self.fetch_direction == "forward"

    @property
    def is_fetching_previous_page(self) -> bool:
        """The page before the first one is being fetched."""
        return self.is_fetching and self.fetch_direction == "backward"

    @property
    def is_fetch_next_page_error(self) -> bool:
        """The page after the last one could not be fetched."""
        return self.is_error and self.error_direction == "forward"

    @property
    def is_fetch_previous_page_error(self) -> bool:
        """The page before the first one could not be fetched."""
        return self.is_error and self.error_direction == "backward"

    @property
    def is_refetching(self) -> bool:
        """Pages are being fetched anew."""
        return self.is_fetching and not self.is_pending and self.fetch_direction is None

    @property
    def is_refetch_error(self) -> bool:
        """Pages could not be fetched anew: there are the older ones."""
        return self.is_error and self.data_updated_at is not None and self.error_direction is None


PagesFetched: TypeAlias = Refetched[InfiniteQueryResult[T]]
"""A fetch of pages that an observer has begun; awaiting it ends with the result."""


class _More(NamedTuple):
    """Whether there are pages after and before those of `data`; None where the rule raised."""

    data: object
    paging: Paging
    after: bool | None
    before: bool | None


class InfiniteQueryObserver(QueryObserver[T]):
    """Follows one infinite query while it has subscribers: see `QueryObserver`.

    Args:
        client: the client whose cache is observed.
        key: a tuple, or what `infinite_query_options` returns.
        fn: fetches one page: see `infinite_query_options`.
        initial_page_param: the parameter of the first page.
        get_next_page_param: gives the parameter of the page after the last.
        get_previous_page_param: gives that of the page before the first.
        options: see `InfiniteObserverOptions`.

    Raises:
        TypeError: the key, `fn` or an option is of a wrong type.
        ValueError: an option's value is impossible.

    Example:
        >>> import asyncio
        >>> from querykit.client import QueryClient
        >>> async def main() -> None:
        ...     async with QueryClient() as client:
        ...         rule = lambda page, data: len(data.pages) if len(data.pages) < 2 else None
        ...         lines = lambda ctx: [f"line {ctx.page_param}"]
        ...         observer = InfiniteQueryObserver(
        ...             client, ("logs",), lines, initial_page_param=0, get_next_page_param=rule
        ...         )
        ...         with observer:
        ...             result = await observer.wait_for(lambda result: result.is_success)
        ...             print(result.data.pages, result.has_next_page)
        ...             result = await observer.fetch_next_page()
        ...             print(result.data.pages, result.has_next_page)
        >>> asyncio.run(main())
        (['line 0'],) True
        (['line 0'], ['line 1']) False
    """

    _result_type: ClassVar[type[QueryResult[Any]]] = InfiniteQueryResult

    @overload
    def __init__(self, client: HasCore, key: InfiniteOptions[Any, Any, T]) -> None: ...
    @overload
    def __init__(
        self: "InfiniteQueryObserver[InfiniteData[Page, Param]]",
        client: HasCore,
        key: QueryKey,
        fn: AsyncPageFn[Page] | Skip,
        *,
        initial_page_param: Param,
        get_next_page_param: ParamRule[Param] | None = ...,
        get_previous_page_param: ParamRule[Param] | None = ...,
        **options: Unpack[InfiniteObserverOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: "InfiniteQueryObserver[InfiniteData[Page, Param]]",
        client: HasCore,
        key: QueryKey,
        fn: PlainPageFn[Page] | Skip,
        *,
        initial_page_param: Param,
        get_next_page_param: ParamRule[Param] | None = ...,
        get_previous_page_param: ParamRule[Param] | None = ...,
        **options: Unpack[InfiniteObserverOptions],
    ) -> None: ...
    def __init__(self, client: HasCore, key: Any, fn: Any = UNSET, **options: Any) -> None:
        given = as_infinite_options(key, fn, options)
        super().__init__(client, given)
        self._paging = given.paging
        self._more: Memo[_More] = Memo(self._core.cache.ledger, self._forgotten)

    def set_options(self, key: Any, fn: Any = UNSET, **options: Any) -> None:
        """Observe with these options from now on, and with no others; the key may be another one."""
        given = as_infinite_options(key, fn, options)
        self._refuse_closed()
        call = self._core.call(given, UNSET, {})
        before, self._paging = self._paging, given.paging
        try:
            self._set_call(call)
        except BaseException:
            self._paging = before
            raise

    @property
    def result(self) -> InfiniteQueryResult[T]:
        """The result of this moment: see `QueryObserver.result`."""
        result = super().result
        self._more.spread()
        return cast("InfiniteQueryResult[T]", result)

    def subscribe(self, callback: Callable[[InfiniteQueryResult[T]], object]) -> Subscription:
        """Call `callback` with each new result from now on: see `QueryObserver.subscribe`."""
        return self.follow(cast("Callable[[QueryResult[T]], object]", callback))

    async def wait_for(
        self, predicate: Callable[[InfiniteQueryResult[T]], object], timeout: Seconds | None = None
    ) -> InfiniteQueryResult[T]:
        """Return the first result for which `predicate` holds: see `QueryObserver.wait_for`."""
        result = await super().wait_for(cast("Callable[[QueryResult[T]], object]", predicate), timeout)
        return cast("InfiniteQueryResult[T]", result)

    def fetch_next_page(self, *, throw_on_error: bool = False) -> PagesFetched[T]:
        """Fetch the page after the last one, beginning now; awaiting what this returns ends with the result.

        What fetches that page already is joined; any other fetch of the query ends first. Where there is no such
        page nothing happens, and before there are any pages, the first ones are fetched.

        Args:
            throw_on_error: whether awaiting raises the error of the fetch.

        Raises:
            TypeError: there is no `get_next_page_param`.
            MissingQueryFunction: there is no function to fetch with.
        """
        return self._fetch_page("forward", throw_on_error=throw_on_error)

    def fetch_previous_page(self, *, throw_on_error: bool = False) -> PagesFetched[T]:
        """Fetch the page before the first one: see `fetch_next_page`."""
        return self._fetch_page("backward", throw_on_error=throw_on_error)

    def refetch(
        self, *, cancel_refetch: bool = True, throw_on_error: bool = False, refetch_pages: RefetchPages | None = None
    ) -> PagesFetched[T]:
        """Fetch pages anew now, even if disabled; awaiting what this returns ends with the result.

        Args:
            cancel_refetch: False joins a running fetch of the same that is not out of date.
            throw_on_error: whether awaiting raises the error of the fetch.
            refetch_pages: which pages alone to fetch, once: see `InfiniteQueryOptions`. What else runs ends first,
                and the data is as old afterwards as it was, since the other pages are. By default, what the option
                `refetch_pages` says.

        Raises:
            TypeError: `refetch_pages` is of a wrong type.
            MissingQueryFunction: there is no function to fetch with.
        """
        if refetch_pages is None:
            return self._fetch_all(cancel=cancel_refetch, throw_on_error=throw_on_error)
        pages = check_refetch_pages(refetch_pages)
        self._refuse_closed()
        self._core.runtime.bound_loop()
        query, source = self._askable()
        if not query.has_data:
            return self._fetch_all(cancel=cancel_refetch, throw_on_error=throw_on_error)
        only = replace(source, fn=cast("PagesFn", source.fn).only(pages), portion=pages)
        return self._fetch_portion(query, only, join=not cancel_refetch, throw_on_error=throw_on_error)

    def emptied(self) -> None:
        """The query's data is gone, and what was made of it."""
        self._more.drop()
        super().emptied()

    def _fetch_all(self, *, cancel: bool, throw_on_error: bool) -> PagesFetched[T]:
        fetched = super().refetch(cancel_refetch=cancel, throw_on_error=throw_on_error)
        return cast("PagesFetched[T]", fetched)

    def _fetch_page(self, direction: Direction, *, throw_on_error: bool) -> PagesFetched[T]:
        self._refuse_closed()
        self._core.runtime.bound_loop()
        if self._paging.rule(direction) is None:
            raise TypeError(f"{self!r} knows no page more: give it {_RULES[direction]}")
        query, source = self._askable()
        if not query.has_data or not checked_pages(query.base, query.key).pages:
            return self._fetch_all(cancel=False, throw_on_error=throw_on_error)
        more = self._look_for_more(query)
        if (more.after if direction == "forward" else more.before) is False:
            return self._fetched(query, None, throw_on_error=throw_on_error)
        return self._fetch_portion(query, replace(source, portion=direction), join=True, throw_on_error=throw_on_error)

    def _fetch_portion(self, query: Query, source: Source, *, join: bool, throw_on_error: bool) -> PagesFetched[T]:
        with self._core.cache.delivery:
            waiter = query.fetch_portion(source, self._core.cache.ledger.current(), join=join)
        return self._fetched(query, waiter, throw_on_error=throw_on_error)

    def _fetched(self, query: Query, waiter: Waiter | None, *, throw_on_error: bool) -> PagesFetched[T]:
        awaits = [] if waiter is None else [(query, waiter)]
        return Refetched(lambda: self.result, Pending(self._core.cache.ledger, awaits, throw_on_error=throw_on_error))

    def _refetched(self, query: Query, waiter: Waiter | None, *, throw_on_error: bool) -> PagesFetched[T]:
        return self._fetched(query, waiter, throw_on_error=throw_on_error)

    def _detach(self) -> None:
        super()._detach()
        self._more.drop()

    def _result_of(self, query: Query, fields: tuple[Any, ...]) -> QueryResult[T]:
        more = self._look_for_more(query)
        fields = (*fields, bool(more.after), bool(more.before), query.direction, query.error_direction)
        return InfiniteQueryResult(*fields)

    def _look_for_more(self, query: Query) -> _More:
        """Return whether there are more pages; the rules are asked once for each data object."""
        known, data, paging = self._more.value, query.base, self._paging
        if known is not None and known.data is data and known.paging is paging:
            return known
        if data is NO_DATA:
            return _More(data, paging, False, False)
        record = Record(self._core.cache.ledger)
        record.take_on(query.identities)
        after, before = (self._has(record, query.key, data, direction) for direction in _DIRECTIONS)
        if record.is_doomed:
            return _More(data, paging, False, False)
        more = _More(data, paging, after, before)
        self._more.keep(more, record.names)
        return more

    def _has(self, record: Record, key: QueryKey, data: object, direction: Direction) -> bool | None:
        try:
            with recording(record):
                return self._paging.param(checked_pages(data, key), direction) is not None
        except (Exception, asyncio.CancelledError) as error:
            what = f"{_RULES[direction]} of {key!r}: {self._paging.rule(direction)!r}"
            self._core.runtime.report(f"{what} raised {type(error).__name__}", error)
            return None


class InfiniteObservation(Observation[T]):
    """Follows an infinite query: see `QueryClient.observe`.

    Attributes:
        observer: the `InfiniteQueryObserver` that it reads.
    """

    observer: InfiniteQueryObserver[T]

    def __init__(self, observer: InfiniteQueryObserver[T]) -> None:
        super().__init__(observer)
        self.observer = observer

    async def __anext__(self) -> InfiniteQueryResult[T]:
        """Return the newest result: the first at once, each further one after a change."""
        return cast("InfiniteQueryResult[T]", await super().__anext__())

    @property
    def result(self) -> InfiniteQueryResult[T]:
        """The result of this moment: see `Observation.result`."""
        return cast("InfiniteQueryResult[T]", super().result)

    def fetch_next_page(self, *, throw_on_error: bool = False) -> PagesFetched[T]:
        """Fetch the page after the last one: see `InfiniteQueryObserver.fetch_next_page`."""
        return self.observer.fetch_next_page(throw_on_error=throw_on_error)

    def fetch_previous_page(self, *, throw_on_error: bool = False) -> PagesFetched[T]:
        """Fetch the page before the first one: see `InfiniteQueryObserver.fetch_next_page`."""
        return self.observer.fetch_previous_page(throw_on_error=throw_on_error)

    def refetch(
        self, *, cancel_refetch: bool = True, throw_on_error: bool = False, refetch_pages: RefetchPages | None = None
    ) -> PagesFetched[T]:
        """Fetch pages anew now: see `InfiniteQueryObserver.refetch`."""
        return self.observer.refetch(
            cancel_refetch=cancel_refetch, throw_on_error=throw_on_error, refetch_pages=refetch_pages
        )

    async def wait_for(
        self, predicate: Callable[[InfiniteQueryResult[T]], object], timeout: Seconds | None = None
    ) -> InfiniteQueryResult[T]:
        """Return the first result for which `predicate` holds: see `QueryObserver.wait_for`."""
        return await self.observer.wait_for(predicate, timeout)
