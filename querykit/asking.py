"""The client's methods that ask for the data of one key: `query`, `prefetch` and `observe`."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar, Unpack, cast, overload

from querykit.cache import QueryCache
from querykit.calls import Call, begin
from querykit.checks import Seconds
from querykit.context import AsyncFn, Fn, PlainFn
from querykit.core import Core
from querykit.errors import QueryCancelled, kept
from querykit.flight import Waiter
from querykit.infinite import InfiniteOptions, as_infinite_options
from querykit.infinite_observer import InfiniteObservation, InfiniteQueryObserver
from querykit.keys import QueryKey
from querykit.observation import Observation, Results
from querykit.observer import QueryObserver
from querykit.observers import QueriesObserver
from querykit.options import ObserverOptions, Options, QueryOptions
from querykit.pending import Pending
from querykit.query import Query
from querykit.result import QueryResult
from querykit.state import UNSET, Skip, skip

__all__ = ["AskingMethods"]

T = TypeVar("T")
R = TypeVar("R")


class AskingMethods:
    """What asks for data, and fetches it where it is not fresh.

    Attributes:
        cache: all queries of this client.
    """

    core: Core
    cache: QueryCache
    _entries: dict[Any, Query]
    _now: Callable[[], float]

    @overload
    async def query(self, key: Options[object, R], *, swr: bool = ...) -> R: ...
    @overload
    async def query(
        self, key: QueryKey, fn: Skip = ..., *, swr: bool = ..., **options: Unpack[QueryOptions]
    ) -> Any: ...
    @overload
    async def query(
        self, key: QueryKey, fn: AsyncFn[T] | Skip, *, swr: bool = ..., **options: Unpack[QueryOptions]
    ) -> T: ...
    @overload
    async def query(
        self, key: QueryKey, fn: PlainFn[T] | Skip, *, swr: bool = ..., **options: Unpack[QueryOptions]
    ) -> T: ...
    async def query(
        self, key: Any, fn: Any = UNSET, *, stale_time: Any = UNSET, swr: bool = False, **options: Any
    ) -> Any:
        """Return the data of a key: from the cache if it is fresh, else fetched, once for all who ask meanwhile.

        Args:
            key: a tuple, or what `query_options` returns.
            fn: the query function: async or not, without argument or with one `QueryContext`. One that is not
                async runs in the event loop: let one that blocks run by `asyncio.to_thread`. Without it the
                default function is used, or the one given for this key before.
            stale_time: the age in seconds from which on data is fetched anew; 0 by default.
            swr: return stale data at once and fetch behind it.
            options: see `QueryOptions`.

        Returns:
            The data, the very object that is in the cache.

        Raises:
            TypeError: the key, `fn` or an option is of a wrong type.
            ValueError: an option's value is impossible.
            MissingQueryFunction: there is neither data nor a function.
            QueryCancelled: the fetch was cancelled, or the query removed, meanwhile.
            QueryTimeout: it took longer than `timeout`.
            QueryCycleError: the function that calls this would wait for itself.
            Exception: what the function raised, after its retries.

        Example:
            >>> from querykit.client import QueryClient
            >>> import asyncio
            >>> async def main() -> list[str]:
            ...     async with QueryClient() as client:
            ...         return await client.query(("pods", "prod"), lambda: ["web"], stale_time=30, retry=1)
            >>> asyncio.run(main())
            ['web']
        """
        try:
            query: Query = self._entries[key]
            fresh_for: Any = query.defaults.stale_time if stale_time is UNSET else stale_time
            if self._now() - query.valid_at < fresh_for and not query.ambiguous:
                self.core.hits += 1
                query.touched = True
                if query.identities or query.layers is not None:
                    query.spread()
                return query.data
        except (KeyError, TypeError):  # no such key as it stands, or a stale time that is no number of seconds
            pass
        if stale_time is not UNSET:
            options["stale_time"] = stale_time
        call = self.core.call(key, fn, options)
        data = await self._ask(call, swr=swr)
        return data if call.selector is None else call.selector(data)

    async def _ask(self, call: Call, *, swr: bool) -> Any:
        waiter = None
        with self.cache.delivery:
            query, source = self.core.prepared(call)
            fresh = query.is_fresh_by(call.options, self._now())
            hit = fresh or (query.has_data and (swr or call.fn is skip))
            failed = source is not None and query.remembers_error(call.options.error_time, self._now())
            if hit or failed:
                self.core.hits += 1
                query.touched = True
                if source is not None and not (fresh or failed):
                    begin(query, source, self.cache.ledger)
            elif source is not None:
                self.core.misses += 1
                waiter = query.ask(source, self.cache.ledger.current())
            query.settle_down()
        if waiter is not None:
            return await self._answer(query, waiter, call.options.stale_if_error)
        if failed and not hit:
            return self._old_data_or_error(query, call.options.stale_if_error)
        if not hit:
            raise call.missing()
        return query.read()  # last, since whoever was told of the fetch may have forgotten the data

    async def _answer(self, query: Query, waiter: Waiter, stale_if_error: float | None) -> Any:
        try:
            await waiter.wait()
        finally:
            query.leave(waiter)
        try:
            return waiter.take(query)
        except QueryCancelled:
            raise
        except Exception:
            if self._may_stand_in(query, stale_if_error):
                return query.read()
            raise

    def _old_data_or_error(self, query: Query, stale_if_error: float | None) -> Any:
        """Answer from the memory of a failed fetch."""
        if query.error is None or self._may_stand_in(query, stale_if_error):
            return query.read()
        query.spread()
        raise kept(query.error)  # a copy: the one that is kept must not gather this caller's traceback

    def _may_stand_in(self, query: Query, stale_if_error: float | None) -> bool:
        return stale_if_error is not None and query.has_data and self._now() - query.updated_at <= stale_if_error

    @overload
    def prefetch(self, key: Options[object, object]) -> Pending: ...
    @overload
    def prefetch(self, key: QueryKey, fn: Fn[Any] | Skip = ..., **options: Unpack[QueryOptions]) -> Pending: ...
    def prefetch(self, key: Any, fn: Any = UNSET, **options: Any) -> Pending:
        """Fetch a key that is not fresh, beginning now; awaiting what this returns ends with the fetch.

        A fetch that fails raises nothing here: its error is on the query's state. Where waiting would close a
        circle of queries this does nothing.

        Args:
            key: a tuple, or what `query_options` returns.
            fn: the query function.
            options: see `QueryOptions`.

        Raises:
            TypeError: the key, `fn` or an option is of a wrong type.
            ValueError: an option's value is impossible.
            MissingQueryFunction: there is neither fresh data nor a function.
        """
        call = self.core.call(key, fn, options)
        ledger = self.cache.ledger
        if call.fn is skip:
            return Pending(ledger)
        self.core.runtime.check()
        self.core.runtime.bound_loop()
        waiter = None
        with self.cache.delivery:
            query, source = self.core.prepared(call)
            fresh = query.is_fresh_by(call.options, self._now())
            if fresh or query.remembers_error(call.options.error_time, self._now()):
                query.touched = True
            elif source is not None:
                waiter = begin(query, source, ledger)
            query.settle_down()
        if not fresh and source is None:
            raise call.missing()
        return Pending(ledger, [] if waiter is None else [(query, waiter)], never_raises=True)

    @overload
    def observe(self, key: InfiniteOptions[Any, Any, R]) -> InfiniteObservation[R]: ...
    @overload
    def observe(self, key: Options[object, R]) -> Observation[R]: ...
    @overload
    def observe(self, key: QueryKey, fn: Skip = ..., **options: Unpack[ObserverOptions]) -> Observation[Any]: ...
    @overload
    def observe(self, key: QueryKey, fn: AsyncFn[T] | Skip, **options: Unpack[ObserverOptions]) -> Observation[T]: ...
    @overload
    def observe(self, key: QueryKey, fn: PlainFn[T] | Skip, **options: Unpack[ObserverOptions]) -> Observation[T]: ...
    def observe(self, key: Any, fn: Any = UNSET, **options: Any) -> Observation[Any]:
        """Follow a key: iterate over its results, the present one first, then one after each change.

        While it is open the query is active: it is fetched when it is not fresh, and again when invalidated.
        A slow reader gets the newest result, never a queue of old ones.

        Args:
            key: a tuple, or what `query_options` or `infinite_query_options` returns.
            fn: the query function; without one, what others do to the key is followed.
            options: see `ObserverOptions`.

        Example:
            >>> from querykit.client import QueryClient
            >>> import asyncio
            >>> async def main() -> None:
            ...     async with QueryClient() as client, client.observe(("me",), lambda: "ada") as results:
            ...         async for result in results:
            ...             print(result.status, result.data)
            ...             if result.is_success:
            ...                 break
            >>> asyncio.run(main())
            pending None
            success ada
        """
        if isinstance(key, InfiniteOptions):
            return InfiniteObservation(
                InfiniteQueryObserver(self, as_infinite_options(cast("object", key), fn, options))
            )
        return Observation(QueryObserver(self, key, fn, **options))

    @overload
    def observe_many(
        self, queries: Iterable[Options[Any, T]], *, combine: None = ...
    ) -> Results[tuple[QueryResult[T], ...]]: ...
    @overload
    def observe_many(
        self, queries: Iterable[Options[Any, T]], *, combine: Callable[[tuple[QueryResult[T], ...]], R]
    ) -> Results[R]: ...
    def observe_many(
        self, queries: Iterable[Options[Any, Any]], *, combine: Callable[[Any], Any] | None = None
    ) -> Results[Any]:
        """Follow many keys: iterate over the tuples of their results, or over what `combine` makes of them.

        Args:
            queries: what `query_options` returns, one for each query.
            combine: makes the result of the tuple of results; see `QueriesObserver`.

        Example:
            >>> import asyncio
            >>> from querykit.client import QueryClient
            >>> from functools import partial
            >>> from querykit.options import query_options
            >>> async def main() -> None:
            ...     names = [query_options((name,), partial(str.upper, name)) for name in "ab"]
            ...     joined = lambda results: "".join(each.data or "?" for each in results)
            ...     async with QueryClient() as client, client.observe_many(names, combine=joined) as words:
            ...         async for word in words:
            ...             print(word)
            ...             if "?" not in word:
            ...                 break
            >>> asyncio.run(main())
            ??
            AB
        """
        return Results(QueriesObserver(self, queries, combine=combine))

    @overload
    async def wait_for(
        self,
        key: Options[object, R],
        predicate: Callable[[QueryResult[R]], object],
        *,
        timeout: Seconds | None = ...,
    ) -> QueryResult[R]: ...
    @overload
    async def wait_for(
        self, key: QueryKey, predicate: Callable[[QueryResult[Any]], object], *, timeout: Seconds | None = ...
    ) -> QueryResult[Any]: ...
    async def wait_for(
        self, key: Any, predicate: Callable[[QueryResult[Any]], object], *, timeout: Seconds | None = None
    ) -> QueryResult[Any]:
        """Observe a key until a result is as wanted, and return that result: the present one, or a later one.

        Args:
            key: a tuple, or what `query_options` returns.
            predicate: takes a `QueryResult`.
            timeout: for how many seconds to wait; None for ever.

        Raises:
            QueryTimeout: no such result came in time.
            ClientClosed: the client was closed meanwhile.
            Exception: what `predicate` raised.

        Example:
            >>> import asyncio
            >>> from querykit.client import QueryClient
            >>> async def main() -> str:
            ...     async with QueryClient() as client:
            ...         client.set_query_data(("phase",), "Running")
            ...         result = await client.wait_for(("phase",), lambda result: result.data == "Running")
            ...         return result.data
            >>> asyncio.run(main())
            'Running'
        """
        observer: QueryObserver[Any] = QueryObserver(self, key)
        with observer:
            return await observer.wait_for(predicate, timeout)
