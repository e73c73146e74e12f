"""The client's methods that ask for the data of one key: `query`, `prefetch` and `observe`."""

from collections.abc import Callable
from typing import Any, TypeVar, Unpack, overload

from querykit.cache import QueryCache
from querykit.calls import Call, Mounting, begin, make_call
from querykit.context import AsyncFn, Fn, PlainFn
from querykit.errors import QueryCancelled
from querykit.flight import Source, Waiter
from querykit.keys import QueryKey
from querykit.observer import Observation
from querykit.options import Defaults, Options, QueryOptions
from querykit.pending import Pending
from querykit.query import Query, initial_data
from querykit.runtime import Runtime
from querykit.state import UNSET, Skip, skip

__all__ = ["AskingMethods"]

T = TypeVar("T")
R = TypeVar("R")


class AskingMethods:
    """What asks for data, and fetches it where it is not fresh.

    Attributes:
        cache: all queries of this client.
    """

    cache: QueryCache
    _runtime: Runtime
    _defaults: Defaults
    _entries: dict[Any, Query]
    _now: Callable[[], float]
    _hits: int
    _misses: int

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
                self._hits += 1
                query.touched = True
                if query.identities:
                    query.spread()
                return query.data
        except (KeyError, TypeError):  # no such key as it stands, or a stale time that is no number of seconds
            pass
        if stale_time is not UNSET:
            options["stale_time"] = stale_time
        call = make_call(self._defaults, key, fn, options)
        data = await self._ask(call, swr=swr)
        return data if call.selector is None else call.selector(data)

    async def _ask(self, call: Call, *, swr: bool) -> Any:
        waiter = None
        with self.cache.delivery:
            query, source = self._prepared(call)
            fresh = query.is_fresh(call.options.stale_time, self._now())
            hit = fresh or (query.has_data and (swr or call.fn is skip))
            if hit:
                self._hits += 1
                query.touched = True
                if not fresh and source is not None:
                    begin(query, source, self.cache.ledger)
            elif source is not None:
                self._misses += 1
                waiter = query.ask(source, self.cache.ledger.current())
            query.settle_down()
        if waiter is not None:
            return await self._answer(query, waiter, call.options.stale_if_error)
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
            age = self._now() - query.updated_at
            if stale_if_error is not None and query.has_data and age <= stale_if_error:
                return query.read()
            raise

    def _prepared(self, call: Call) -> tuple[Query, Source | None]:
        """Return the query of a call, made if need be, and with what to fetch it; raise before anything changes."""
        self._runtime.check()
        source = call.source(self._entries.get(call.frozen))
        if source is None and call.frozen not in self._entries and call.options.initial_data is UNSET:
            raise call.missing()
        return self._built(call), source

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
        call = make_call(self._defaults, key, fn, options)
        ledger = self.cache.ledger
        if call.fn is skip:
            return Pending(ledger)
        self._runtime.check()
        self._runtime.bound_loop()
        waiter = None
        with self.cache.delivery:
            query, source = self._prepared(call)
            fresh = query.is_fresh(call.options.stale_time, self._now())
            if fresh:
                query.touched = True
            elif source is not None:
                waiter = begin(query, source, ledger)
            query.settle_down()
        if not fresh and source is None:
            raise call.missing()
        return Pending(ledger, [] if waiter is None else [(query, waiter)], never_raises=True)

    @overload
    def observe(self, key: Options[object, R]) -> Observation[R]: ...
    @overload
    def observe(self, key: QueryKey, fn: Skip = ..., **options: Unpack[QueryOptions]) -> Observation[Any]: ...
    @overload
    def observe(self, key: QueryKey, fn: AsyncFn[T] | Skip, **options: Unpack[QueryOptions]) -> Observation[T]: ...
    @overload
    def observe(self, key: QueryKey, fn: PlainFn[T] | Skip, **options: Unpack[QueryOptions]) -> Observation[T]: ...
    def observe(self, key: Any, fn: Any = UNSET, **options: Any) -> Observation[Any]:
        """Follow a key: iterate over its results, the present one first, then one after each change.

        While it is open the query is active: it is fetched when it is not fresh, and again when invalidated.
        A slow reader gets the newest result, never a queue of old ones.

        Args:
            key: a tuple, or what `query_options` returns.
            fn: the query function; without one, what others do to the key is followed.
            options: see `QueryOptions`.

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
        call = make_call(self._defaults, key, fn, options)
        mounting = Mounting(self._runtime, self.cache, call, self._built)
        return Observation(mounting, call.options.stale_time, call.selector)

    def _built(self, call: Call) -> Query:
        query = self._entries.get(call.frozen)
        initial = None
        if query is None or not query.has_data:  # before anything is made: it may raise, or use this client
            initial = initial_data(call.options, self.cache.ledger, call.key)
            query = self._entries.get(call.frozen)
        if query is None:
            query = self.cache.build(call.key, call.frozen, self._defaults.resolve(call.frozen, {}))
            query.gc_time = 0.0  # the default counts only for who gives no other
        query.gc_time = max(query.gc_time, call.options.gc_time)
        if call.options.tags != query.tags:
            self.cache.tag(query, query.tags | call.options.tags)
        query.start_with(initial, call.options)
        return query
