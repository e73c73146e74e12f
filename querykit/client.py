"""The query client: the face of the cache."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

from blinker import Signal

from querykit.asking import AskingMethods
from querykit.bound import check_max_entries
from querykit.bulk import BulkMethods
from querykit.cache import QueryCache
from querykit.events import Subscription
from querykit.fetching import refuse_unusable
from querykit.filters import QueryFilters, make_filters
from querykit.flight import Waiter, waits
from querykit.identity import Identities, Record, merged, outside, recording
from querykit.keys import QueryKey, check_key, freeze
from querykit.options import DefaultOptions, Defaults, Options, QueryDefaults, Seconds, query_defaults, seconds
from querykit.pending import Pending
from querykit.portal import Portal
from querykit.query import Query
from querykit.retry import full_jitter
from querykit.runtime import Life, Runtime
from querykit.signals import Rule, SignalRelay, bind, default_sender
from querykit.state import NO_DATA, UNSET, QueryState, Unset, skip

__all__ = ["ClientStats", "QueryClient"]

T = TypeVar("T")
R = TypeVar("R")

CLOSE_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class ClientStats:
    """What a client has done so far, and holds now."""

    hits: int
    """Calls of `query` that were answered from the cache."""
    misses: int
    """Calls of `query` that waited for a fetch."""
    fetches: int
    """Fetches begun; a retry is not one more."""
    failures: int
    """Fetches that failed."""
    evictions: int
    """Entries given up because of `max_entries`."""
    entries: int
    """Queries in the cache now."""


class QueryClient(AskingMethods, BulkMethods):
    """A cache of server state, by key. It belongs to the event loop under which it is first called.

    Args:
        default_options: defaults for all queries, such as `{"queries": {"stale_time": 30}}`.
        max_entries: how many unused entries are kept; observed and fetching ones do not count.
        close_timeout: how many seconds `aclose` waits for functions that refuse to be cancelled.
        clock: reads a time in seconds that never goes back; the loop's by default.
        sleep: waits seconds between retries.
        jitter: draws a retry delay up to the seconds it is given.
        report: is told of errors that have no caller, as a sentence and the exception; by default the
            loop's exception handler is.

    Example:
        >>> import asyncio
        >>> async def main() -> str:
        ...     async with QueryClient() as client:
        ...         return await client.query(("greeting", "world"), lambda: "hello", stale_time=30)
        >>> asyncio.run(main())
        'hello'
    """

    def __init__(
        self,
        *,
        default_options: DefaultOptions | None = None,
        max_entries: float = 100_000,
        close_timeout: Seconds = CLOSE_TIMEOUT,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        jitter: Callable[[float], float] = full_jitter,
        report: Callable[[str, BaseException], None] | None = None,
    ) -> None:
        check_max_entries(max_entries)
        self._runtime = Runtime(clock=clock, sleep=sleep, jitter=jitter, report=report, on_bind=self._bound)
        self._close_timeout = seconds(close_timeout, "close_timeout")
        self._defaults = Defaults(query_defaults({} if default_options is None else default_options))
        self._rules: dict[Subscription, None] = {}
        self._hits = 0
        self._misses = 0
        self.cache = QueryCache(self._runtime, self, SignalRelay(self), max_entries)
        self.portal = Portal(self._runtime)
        self._entries = self.cache.entries
        self._now = self._runtime.now

    def __repr__(self) -> str:
        return f"<QueryClient of {len(self.cache)} queries, {self._runtime.life.name.lower()}>"

    # Reading and writing

    @overload
    def get_query_data(self, key: Options[T, object], default: None = None) -> T | None: ...
    @overload
    def get_query_data(self, key: Options[T, object], default: R) -> T | R: ...
    @overload
    def get_query_data(self, key: QueryKey, default: Any = None) -> Any: ...
    def get_query_data(self, key: Any, default: Any = None) -> Any:
        """Return the data of a key as it stands in the cache, or `default` if there is none.

        Raises:
            TypeError: the key is no tuple.
        """
        try:
            query: Query | None = self._entries[key]
        except (KeyError, TypeError):  # no such key as it stands
            query = None
        if query is None or query.ambiguous:
            query = self._find_one(key)
        if query is None or query.data is NO_DATA:
            return default
        query.touched = True
        if query.identities:
            query.spread()
        return query.data

    @overload
    def get_query_state(self, key: Options[T, object]) -> QueryState[T] | None: ...
    @overload
    def get_query_state(self, key: QueryKey) -> QueryState[Any] | None: ...
    def get_query_state(self, key: Any) -> QueryState[Any] | None:
        """Return a snapshot of a query's state, or None if the key is not in the cache."""
        query = self._find_one(key)
        if query is None:
            return None
        query.spread()
        return query.state

    def set_query_data(
        self,
        key: QueryKey | Options[object, object],
        value: object | Callable[[Any], object],
        *,
        age: Seconds = 0,
        identity: Hashable = UNSET,
    ) -> None:
        """Write the data of a key. A running fetch of it is out of date and cancelled; its callers get this data.

        Args:
            key: a tuple, or what `query_options` returns.
            value: the data; or a function that gets the present data and returns the new one, which is called
                only if there is data. `skip` leaves the entry as it is.
            age: how many seconds old the data is.
            identity: the identity the data belongs to, where it was carried out of the cache before (S3).

        Raises:
            TypeError: the key is no tuple, or the value is a coroutine.
            ValueError: `age` is negative.

        Example:
            >>> client = QueryClient()
            >>> client.set_query_data(("count",), 1)
            >>> client.set_query_data(("count",), lambda count: count + 1)
            >>> client.get_query_data(("count",))
            2
        """
        key = key.key if isinstance(key, Options) else key
        age = seconds(age, "age")
        self._runtime.check()
        self._write(check_key(key), self.cache.find(key), value, age, identity)

    def set_queries_data(
        self,
        key: QueryKey | Unset = UNSET,
        *,
        updater: object | Callable[[Any], object],
        age: Seconds = 0,
        **filters: Unpack[QueryFilters],
    ) -> None:
        """Write the data of all queries that match and have data: see `set_query_data`."""
        age = seconds(age, "age")
        _, queries = self._find(key, filters)
        for query in queries:
            if query.has_data:
                self._write(query.key, query, updater, age, UNSET)

    def _write(self, key: QueryKey, query: Query | None, value: Any, age: float, identity: Hashable) -> None:
        ledger = self.cache.ledger
        names: Identities = {}
        if callable(value):
            if query is None or not query.has_data:
                return
            record = ledger.carried() or Record(ledger)
            record.take_on(query.identities)
            with recording(record):
                value = value(query.data)
            ledger.spread(record.names)
            names = record.names
        if inspect.iscoroutine(value):
            value.close()
            raise TypeError(f"a coroutine cannot be the data of {key!r}: await it first, and set what it returns")
        refuse_unusable(value, key)
        if value is skip or (written := ledger.written_by()) is None or ledger.dooms(names):
            return
        names = merged(names, written, {} if identity is UNSET else {identity: ledger.epoch})
        writer = ledger.current()
        frozen = freeze(key)
        if (
            writer is not None
            and writer.counts_from_its_beginning
            and self.cache.was_removed_since(frozen, writer.began)
        ):
            return
        with self.cache.delivery:
            query = self._entries.get(frozen) or self.cache.build(key, frozen, self._defaults.resolve(frozen, {}))
            query.touched = True
            query.set(value, writer, names, age=age)
            query.settle_down()

    def _find_one(self, key: Any) -> Query | None:
        return self.cache.find(key.key if isinstance(key, Options) else key)

    # Defaults, identities, rules, life

    def set_query_defaults(self, prefix: QueryKey, **options: Unpack[QueryDefaults]) -> None:
        """Set default options for the keys that begin with `prefix`; later matches win over earlier ones.

        Example:
            >>> client = QueryClient()
            >>> client.set_query_defaults(("pods",), stale_time=30)
            >>> client.get_query_defaults(("pods", "prod"))
            {'stale_time': 30}
        """
        self._runtime.check_thread()
        self._defaults.set(check_key(prefix, "key prefix"), options)
        for query in self.cache.match(make_filters(prefix, {}, unset=UNSET)):
            query.defaults = self._defaults.resolve(query.frozen, {})

    def get_query_defaults(self, key: QueryKey) -> QueryDefaults:
        """Return the defaults that hold for `key`."""
        return self._defaults.get(freeze(check_key(key)))

    def forget(self, identity: Hashable, *, restart: bool = False) -> Pending:
        """Let go, at once, of everything that was computed under an identity (S3).

        Data, errors and running fetches go; whatever is still being computed under it is refused when it comes.
        Queries that are observed become blank and stay so, until this is called with `restart=True` or someone
        asks for them.

        Args:
            identity: what `use_identity` was called with.
            restart: fetch the observed queries again, since there is a new credential.

        Returns:
            What ends with the fetches that were restarted.

        Example:
            >>> client = QueryClient()
            >>> client.set_query_data(("me",), "ada", identity=("cluster", "prod"))
            >>> _ = client.forget(("cluster", "prod"))
            >>> client.get_query_data(("me",)) is None
            True
        """
        self._runtime.check_thread()
        ledger = self.cache.ledger
        with self.cache.delivery:  # nobody is told before all of it is gone
            for holder in ledger.stamp(identity):
                holder.forget(identity)
            awaits: list[tuple[Query, Waiter]] = []
            if restart and self._runtime.life is Life.OPEN:
                for query in self.cache.parked_for(identity):
                    waiter = query.restart()
                    if waiter is not None:
                        awaits.append((query, waiter))
        return Pending(ledger, awaits)

    def on(
        self,
        signal: Signal,
        *,
        invalidate: Rule | None = None,
        remove: Rule | None = None,
        exact: bool = False,
        sender: object = UNSET,
    ) -> Subscription:
        """Bind a signal to a rule: when it is sent, queries are invalidated, or removed, before `send` returns.

        Args:
            signal: a blinker signal; of querykit's own only those about this client are heard.
            invalidate: the key or prefix to invalidate, or a callable of the arguments sent that returns it, or None.
            remove: the same, to remove.
            exact: whether the key is meant, rather than all that begin with it.
            sender: whose signals are heard, where it is not every sender's.

        Returns:
            What unbinds it; a client unbinds its rules when it is closed.

        Raises:
            TypeError: neither or both of `invalidate` and `remove` are given, or a key is no tuple.

        Example:
            >>> from querykit.signals import emit, token_set
            >>> client = QueryClient()
            >>> client.set_query_data(("clusterMe", "prod"), "ada")
            >>> _ = client.on(token_set, remove=lambda cluster, **_: ("clusterMe", cluster), exact=True)
            >>> emit(token_set, client, cluster="prod")
            >>> len(client.cache)
            0
        """
        self._runtime.check_thread()
        if sender is UNSET:
            sender = default_sender(signal, self)
        undo = bind(self, signal, invalidate, remove, exact=exact, sender=sender)
        self._rules[undo] = None
        return Subscription(lambda: self._unbind(undo))

    def _unbind(self, undo: Subscription) -> None:
        if self._rules.pop(undo, UNSET) is None:
            undo()

    def stats(self) -> ClientStats:
        """Return what this client has done so far."""
        cache = self.cache
        return ClientStats(self._hits, self._misses, cache.fetches, cache.failures, cache.evictions, len(cache))

    def report(self, message: str, error: BaseException) -> None:
        """Tell of an error that has no caller, in the way that this client was made with."""
        self._runtime.report(message, error)

    def own(self, coro: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run a coroutine in a task that ends with this client at the latest; its error, if any, is reported.

        Raises:
            ClientClosed: the client was closed.
            WrongThread: this is not the client's thread or event loop.
            RuntimeError: no event loop runs yet.
        """
        try:
            self._runtime.check()
            self._runtime.bound_loop()
        except RuntimeError:
            coro.close()
            raise
        return outside(self._runtime.spawn, coro, name)

    async def aclose(self) -> None:
        """End everything: fetches, observers, rules and timers. Callers who wait get `QueryCancelled`.

        From inside a query function, that function itself is left to end. A second call does nothing.
        """
        self._runtime.check_thread()
        if self._runtime.life is Life.CLOSED:
            return
        self._runtime.life = Life.CLOSED
        record = self.cache.ledger.current()
        flights = [query.flight for query in self.cache if waits(record, query.flight) is not None]
        inside = [asyncio.current_task(), *(flight.task for flight in flights if flight is not None)]
        for undo in tuple(self._rules):
            self._unbind(undo)
        for query in self.cache:
            query.close(record)
        self.cache.close()
        await self._runtime.wind_up([task for task in inside if task is not None], self._close_timeout)

    async def __aenter__(self) -> Self:
        self._runtime.check()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _bound(self, now: float) -> None:
        self._now = self._runtime.now
        self.cache.stamp_times(now)
