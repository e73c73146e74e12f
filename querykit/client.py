"""The query client: the face of the cache."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from blinker import Signal

from querykit.bound import check_max_entries
from querykit.cached import CachedMethods
from querykit.checks import Seconds, seconds
from querykit.core import Core
from querykit.events import Subscription
from querykit.filters import make_filters
from querykit.flight import Waiter, waits
from querykit.identity import outside
from querykit.keys import QueryKey, check_key, freeze
from querykit.mutating import MutatingMethods
from querykit.mutation_options import MutationCallbacks
from querykit.options import DefaultOptions, QueryDefaults
from querykit.paging import PagingMethods
from querykit.pending import Pending
from querykit.portal import Portal
from querykit.presence import FocusManager, OnlineManager
from querykit.query import Query
from querykit.retry import full_jitter
from querykit.runtime import Life, Runtime
from querykit.signals import Rule, SignalRelay, bind, default_sender
from querykit.state import UNSET

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


class QueryClient(PagingMethods, CachedMethods, MutatingMethods):
    """A cache of server state, by key. It belongs to the event loop under which it is first called.

    Args:
        default_options: defaults for all, such as `{"queries": {"stale_time": 30}, "mutations": {"retry": 1}}`.
        mutation_callbacks: what is called for every mutation, before its own callbacks: see `MutationCallbacks`.
        max_entries: how many unused entries are kept, and how many mutations that have ended; observed and
            fetching ones do not count.
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
        mutation_callbacks: MutationCallbacks | None = None,
        max_entries: float = 100_000,
        close_timeout: Seconds = CLOSE_TIMEOUT,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        jitter: Callable[[float], float] = full_jitter,
        report: Callable[[str, BaseException], None] | None = None,
    ) -> None:
        check_max_entries(max_entries)
        runtime = Runtime(clock=clock, sleep=sleep, jitter=jitter, report=report, on_bind=self._bound)
        self._close_timeout = seconds(close_timeout, "close_timeout")
        self._rules: dict[Subscription, None] = {}
        self.core = Core(self, runtime, SignalRelay(self), default_options, mutation_callbacks, max_entries)
        self.cache = self.core.cache
        self.mutations = self.core.mutations
        self.portal = Portal(runtime)
        self._entries = self.cache.entries
        self._now = runtime.now

    def __repr__(self) -> str:
        return f"<QueryClient of {len(self.cache)} queries, {self.core.runtime.life.name.lower()}>"

    @property
    def focus(self) -> FocusManager:
        """Whether anybody looks: `client.focus.set(False)`."""
        return self.core.presence.focus

    @property
    def online(self) -> OnlineManager:
        """Whether the network is there: `client.online.set(False)`."""
        return self.core.presence.online

    def set_query_defaults(self, prefix: QueryKey, **options: Unpack[QueryDefaults]) -> None:
        """Set default options for the keys that begin with `prefix`; later matches win over earlier ones.

        Example:
            >>> client = QueryClient()
            >>> client.set_query_defaults(("pods",), stale_time=30)
            >>> client.get_query_defaults(("pods", "prod"))
            {'stale_time': 30}
        """
        self.core.runtime.check_thread()
        self.core.defaults.set(check_key(prefix, "key prefix"), options)
        for query in self.cache.match(make_filters(prefix, {}, unset=UNSET)):
            query.defaults = self.core.defaults.resolve(query.frozen, {})

    def get_query_defaults(self, key: QueryKey) -> QueryDefaults:
        """Return the defaults that hold for `key`."""
        return self.core.defaults.get(freeze(check_key(key)))

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
        self.core.runtime.check_thread()
        ledger = self.cache.ledger
        with self.cache.delivery:  # nobody is told before all of it is gone
            for holder in ledger.stamp(identity):
                holder.forget(identity)
            awaits: list[tuple[Query, Waiter]] = []
            if restart and self.core.runtime.life is Life.OPEN:
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
        self.core.runtime.check_thread()
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
        return ClientStats(self.core.hits, self.core.misses, cache.fetches, cache.failures, cache.evictions, len(cache))

    def batch(self) -> AbstractContextManager[None]:
        """Tell of what changes inside the block after it: each observer once, of the newest result.

        The cache changes at once, and its own listeners hear of every change, later. The block must not await:
        what else the loop runs meanwhile would be held as well.

        Example:
            >>> client = QueryClient()
            >>> with client.batch():
            ...     client.set_query_data(("a",), 1)
            ...     client.set_query_data(("b",), 2)
        """
        self.core.runtime.check_thread()
        return self.cache.delivery

    def report(self, message: str, error: BaseException) -> None:
        """Tell of an error that has no caller, in the way that this client was made with."""
        self.core.runtime.report(message, error)

    def own(self, coro: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run a coroutine in a task that ends with this client at the latest; its error, if any, is reported.

        Raises:
            ClientClosed: the client was closed.
            WrongThread: this is not the client's thread or event loop.
            RuntimeError: no event loop runs yet.
        """
        try:
            self.core.runtime.check()
            self.core.runtime.bound_loop()
        except RuntimeError:
            coro.close()
            raise
        return outside(self.core.runtime.spawn, coro, name)

    async def aclose(self) -> None:
        """End everything: fetches, mutations, observers, rules and timers. Callers who wait get `QueryCancelled`.

        From inside a query function or a mutation, that one itself is left to end. A second call does nothing.
        """
        self.core.runtime.check_thread()
        if self.core.runtime.life is Life.CLOSED:
            return
        self.core.runtime.life = Life.CLOSED
        record = self.cache.ledger.current()
        flights = [query.flight for query in self.cache if waits(record, query.flight) is not None]
        inside = [asyncio.current_task(), *(flight.task for flight in flights if flight is not None)]
        runs = [query.run for query in self.cache if query.run is not None]
        inside.extend(run.task for run in runs if run.record is record)
        for undo in tuple(self._rules):
            self._unbind(undo)
        for query in self.cache:
            query.close(record)
        mutating = self.mutations.close(lambda one: not one.is_paused and waits(record, one) is not None)
        inside.extend(mutation.task for mutation in mutating)
        self.cache.close()
        await self.core.runtime.wind_up([task for task in inside if task is not None], self._close_timeout)

    async def __aenter__(self) -> Self:
        self.core.runtime.check()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _bound(self, now: float) -> None:
        self._now = self.core.runtime.now
        self.cache.stamp_times(now)
