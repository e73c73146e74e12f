"""Observing one query: a result for each change, and the fetches that an observer wants."""

import asyncio
import math
from collections.abc import Callable
from typing import Any, TypeVar, Unpack, overload

from querykit.checks import Seconds, optional_seconds
from querykit.context import AsyncFn, PlainFn
from querykit.core import HasCore, core_of
from querykit.errors import ClientClosed, ObserverClosed, QueryTimeout
from querykit.events import Subscription
from querykit.flight import Waiter
from querykit.follower import Follower
from querykit.keys import QueryKey
from querykit.options import ObserverOptions, Options
from querykit.pending import Begun, Pending
from querykit.query import Query
from querykit.result import QueryResult
from querykit.runtime import Life
from querykit.state import UNSET, Skip, skip

__all__ = ["QueryObserver", "Refetched", "keep_previous_data"]

T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)


def keep_previous_data(previous_data: T, previous_query: Query | None) -> T | Skip:
    """Show, as `placeholder_data`, what the observer showed before its key changed."""
    return skip if previous_query is None else previous_data


class Refetched(Begun[R_co]):
    """A refetch that an observer has begun; awaiting it ends with the result."""

    __slots__ = ("_pending", "_result")

    def __init__(self, result: Callable[[], R_co], pending: Pending) -> None:
        super().__init__()
        self._result = result
        self._pending = pending

    async def _ended(self) -> R_co:
        await self._pending
        return self._result()


class QueryObserver(Follower[T]):
    """Follows one query while it has subscribers: it fetches for them, and tells them of each new result.

    Use it with `with` to let it live for a block, whether anybody subscribes or not.

    Args:
        client: the client whose cache is observed.
        key: a tuple, or what `query_options` returns.
        fn: the query function; without one, what others do to the key is followed.
        options: see `ObserverOptions`.

    Raises:
        TypeError: the key, `fn` or an option is of a wrong type.
        ValueError: an option's value is impossible.

    Example:
        >>> import asyncio
        >>> from querykit.client import QueryClient
        >>> async def main() -> None:
        ...     async with QueryClient() as client:
        ...         observer = QueryObserver(client, ("me",), lambda: "ada", stale_time=30)
        ...         with observer.subscribe(lambda result: print(result.status, result.data)):
        ...             await observer.wait_for(lambda result: result.is_success)
        >>> asyncio.run(main())
        pending None
        success ada
    """

    @overload
    def __init__(self, client: HasCore, key: Options[object, T]) -> None: ...
    @overload
    def __init__(
        self: "QueryObserver[Any]", client: HasCore, key: QueryKey, fn: Skip = ..., **options: Unpack[ObserverOptions]
    ) -> None: ...
    @overload
    def __init__(
        self, client: HasCore, key: QueryKey, fn: AsyncFn[T] | Skip, **options: Unpack[ObserverOptions]
    ) -> None: ...
    @overload
    def __init__(
        self, client: HasCore, key: QueryKey, fn: PlainFn[T] | Skip, **options: Unpack[ObserverOptions]
    ) -> None: ...
    def __init__(self, client: HasCore, key: Any, fn: Any = UNSET, **options: Any) -> None:
        core = core_of(client)
        super().__init__(core, core.call(key, fn, options))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._call.key!r}, {len(self._subscribers)} subscribers>"

    # What its users ask

    @property
    def query(self) -> Query:
        """The query that is observed; it is made if it is not in the cache."""
        self._refuse_if_closed()
        return self._looked_at()

    @property
    def result(self) -> QueryResult[T]:
        """The result of this moment: the same object as long as nothing has changed.

        Raises:
            ObserverClosed: the observer was closed.
            ClientClosed: the client was closed.
        """
        self._refuse_if_closed()
        result = self._read()
        self._looked_at().spread()
        self._view.spread()
        return result

    def subscribe(self, callback: Callable[[QueryResult[T]], object]) -> Subscription:
        """Call `callback` with each new result from now on; the first subscription may fetch.

        An async callback runs in a task of the client: while it runs, newer results wait, and it then gets the
        newest only. What a callback raises is reported.

        Args:
            callback: takes a `QueryResult`; plain or async.

        Returns:
            What undoes it. With the last subscription the observer leaves its query.

        Raises:
            TypeError: `callback` cannot be called.
            ObserverClosed: the observer was closed.
            ClientClosed: the client was closed.
            RuntimeError: no event loop runs.
        """
        return self.follow(callback)

    def follow(
        self,
        callback: Callable[[QueryResult[T]], object],
        closed: Callable[[], None] | None = None,
        *,
        hears_all: bool = False,
    ) -> Subscription:
        """Subscribe; `closed` is called once, when the observer or its client is closed.

        One that hears all is told of each result, whatever `notify_on` says.
        """
        self._refuse_closed()
        subscription = self._subscribers.add(callback, closed, hears_all=hears_all)
        try:
            self._attach()
        except BaseException:
            subscription()
            raise
        return subscription

    @overload
    def set_options(self, key: Options[object, T]) -> None: ...
    @overload
    def set_options(self, key: QueryKey, fn: Skip = ..., **options: Unpack[ObserverOptions]) -> None: ...
    @overload
    def set_options(self, key: QueryKey, fn: AsyncFn[T] | Skip, **options: Unpack[ObserverOptions]) -> None: ...
    @overload
    def set_options(self, key: QueryKey, fn: PlainFn[T] | Skip, **options: Unpack[ObserverOptions]) -> None: ...
    def set_options(self, key: Any, fn: Any = UNSET, **options: Any) -> None:
        """Observe with these options from now on, and with no others; the key may be another one.

        Stale data is fetched if the key is another or the observer was disabled before.
        """
        self._refuse_closed()
        self._set_call(self._core.call(key, fn, options))

    def refetch(self, *, cancel_refetch: bool = True, throw_on_error: bool = False) -> Refetched[QueryResult[T]]:
        """Fetch anew now, even if disabled; awaiting what this returns ends with the result.

        Args:
            cancel_refetch: False joins a running fetch that is not out of date.
            throw_on_error: whether awaiting raises the error of the fetch.

        Raises:
            MissingQueryFunction: there is no function to fetch with.
        """
        self._refuse_closed()
        self._core.runtime.bound_loop()
        query, source = self._askable()
        ledger = self._core.cache.ledger
        with self._core.cache.delivery:
            waiter = query.refetch_anew(source, ledger.current(), cancel=cancel_refetch)
            query.settle_down()
        return self._refetched(query, waiter, throw_on_error=throw_on_error)

    def _refetched(self, query: Query, waiter: Waiter | None, *, throw_on_error: bool) -> Refetched[QueryResult[T]]:
        awaits = [] if waiter is None else [(query, waiter)]
        return Refetched(lambda: self.result, Pending(self._core.cache.ledger, awaits, throw_on_error=throw_on_error))

    async def wait_for(
        self, predicate: Callable[[QueryResult[T]], object], timeout: Seconds | None = None
    ) -> QueryResult[T]:
        """Return the first result for which `predicate` returns a true value: the present one, or a later one.

        Args:
            predicate: takes a result.
            timeout: for how many seconds to wait; None for ever.

        Raises:
            QueryTimeout: no such result came in time.
            ObserverClosed: the observer was closed meanwhile.
            ClientClosed: the client was.
            Exception: what `predicate` raised.
        """
        limit = optional_seconds(timeout, "timeout")
        self._refuse_closed()
        found: asyncio.Future[QueryResult[T]] = self._core.runtime.bound_loop().create_future()

        def look(result: QueryResult[T]) -> None:
            if not found.done():
                try:
                    if predicate(result):
                        found.set_result(result)
                except Exception as error:
                    found.set_exception(error)

        def closed() -> None:
            if not found.done():
                kind = ClientClosed if self._core.runtime.life is Life.CLOSED else ObserverClosed
                found.set_exception(kind(f"what observes {self._call.key!r} was closed while it was waited for"))

        with self.follow(look, closed, hears_all=True):
            look(self.result)
            try:
                async with asyncio.timeout(None if limit == math.inf else limit):
                    return await found
            except TimeoutError:
                if found.done() and not found.cancelled():
                    raise
                what = f"no result of {{key!r}} was as wanted, but {self.result.status} at last,"
                raise QueryTimeout(self._call.key, limit or 0.0, what) from None
            finally:
                if not found.cancel() and not found.cancelled():
                    found.exception()  # taken, even if this was cancelled at that very moment
