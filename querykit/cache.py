"""All keys: finding them, telling of their changes, and letting the unused ones go."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Iterator
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from querykit.bound import Rest, Timer
from querykit.context import ContextClient
from querykit.entry import Cause
from querykit.events import Delivery, Listeners, Subscription
from querykit.filters import Filters
from querykit.identity import Ledger
from querykit.index import Journal, PrefixIndex
from querykit.keys import FrozenKey, QueryKey, check_key, freeze
from querykit.options import ResolvedOptions
from querykit.presence import Occasion, Presence
from querykit.query import Query
from querykit.runtime import Runtime
from querykit.timetable import Appointment, Timetable

__all__ = ["CacheEvent", "QueryCache"]

EventKind = Literal["added", "updated", "removed"]

TAG_NOTES: Final = 256
_REMOVALS: Final = frozenset({Cause.REMOVE, Cause.FORGET, Cause.EXPIRE, Cause.EVICT})


@dataclass(frozen=True, slots=True, eq=False)
class CacheEvent:
    """One change of the cache.

    Attributes:
        kind: whether a query came, changed or went.
        query: the query; its `state` is the present one.
        cause: why it did.
    """

    kind: EventKind
    query: Query
    cause: Cause


class Relay(Protocol):
    """Where events go besides the cache's own listeners, seen from below."""

    def wanted(self) -> bool:
        """Whether anybody listens there: an event is not even made otherwise."""
        ...

    def relay(self, event: CacheEvent) -> None:
        """Pass an event on."""
        ...


class QueryCache:
    """All queries of a client. Read it and subscribe to it; the client's methods change it.

    Example:
        >>> from querykit.client import QueryClient
        >>> client = QueryClient()
        >>> with client.cache.subscribe(lambda event: print(event.kind, event.query.key)):
        ...     client.set_query_data(("me",), "ada")
        added ('me',)
        updated ('me',)
    """

    def __init__(self, runtime: Runtime, client: ContextClient, relay: Relay, max_entries: float) -> None:
        self.ledger: Final = Ledger()
        self.client: Final = client
        self.delivery: Final = Delivery(runtime.report)
        self.presence: Final = Presence(runtime, self.delivery, self.back)
        self.timetable: Final = Timetable(now=self.now, later=runtime.later, report=runtime.report)
        self.entries: Final[dict[Any, Query]] = {}
        self.observed: Final[dict[Query, None]] = {}
        self.fetches = 0
        self.failures = 0
        self.evictions = 0
        self._runtime = runtime
        self._relay = relay
        self._index: PrefixIndex[Query] = PrefixIndex()
        self._by_tag: dict[Hashable, dict[Query, None]] = {}
        self._by_parking: dict[Hashable, dict[Query, None]] = {}
        self._invalidated = Journal()
        self._invalidated_tags: dict[tuple[Filters, bool], int] = {}
        self._unnoted_tags = -1
        self._removed = Journal()
        self._listeners: Listeners[CacheEvent] = Listeners()
        self._resting: Rest[Query] = Rest(max_entries, now=self.now, later=self._later, gone=self._gone)

    def subscribe(self, listener: Callable[[CacheEvent], object]) -> Subscription:
        """Call `listener` with each event from now on; returns what undoes it."""
        self._runtime.check_thread()
        return self._listeners.subscribe(listener)

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Query]:
        return iter(tuple(self.entries.values()))

    # Finding

    def find(self, key: object) -> Query | None:
        """Return the query of exactly this key.

        Raises:
            TypeError: `key` is no query key.
        """
        try:
            query = self.entries.get(key)
        except TypeError:  # a part that is frozen by value, or cannot be
            query = None
        if query is not None and not query.ambiguous:
            return query
        return self.entries.get(freeze(check_key(key)))

    def match(self, filters: Filters) -> list[Query]:
        """Return the queries that `filters` mean."""
        if filters.key is not None and filters.exact:
            query = self.entries.get(filters.key)
            found = [] if query is None else [query]
        elif filters.key is not None:
            found = self._index.under(filters.key)
        elif filters.tags:
            rarest: dict[Query, None] = min((self._by_tag.get(tag, {}) for tag in filters.tags), key=len)
            found = list(rarest)
        else:
            found = list(self.entries.values())
        if filters.is_key_alone:
            return found
        now = self.now()
        return [query for query in found if filters.accepts(query, now)]

    def parked_for(self, identity: Hashable) -> list[Query]:
        """Return the queries that were parked when `identity` was forgotten."""
        return list(self._by_parking.get(identity, ()))

    # Building and dropping

    def build(self, key: QueryKey, frozen: FrozenKey, defaults: ResolvedOptions) -> Query:
        """Make the query of a key that has none. It rests only when its maker lets it settle down."""
        query = Query(self, key, frozen, defaults)
        if len(self._invalidated):
            query.invalidated_epoch = self._invalidated.latest(frozen)
        self.entries[frozen] = query
        self._index.add(frozen, query)
        query.mark(defaults.tags)
        self.changed(query, Cause.CREATE)
        return query

    def invalidate(self, queries: list[Query], epoch: int) -> None:
        """Flag queries, and what is being fetched for them, as out of date; then tell of it."""
        for query in queries:
            query.flag(epoch)
            if query.run is not None:
                query.outdate_source()
        told = queries if self._is_heard() else [query for query in queries if query.observers]
        for query in told:
            self.changed(query, Cause.INVALIDATE)

    def tag(self, query: Query, tags: frozenset[Hashable]) -> None:
        """Let `query` be found by `tags` and no others."""
        _move(self._by_tag, query, query.tags, tags)
        query.tags = tags

    def catch_up(self, query: Query) -> None:
        """Flag data that began before an invalidation by tags that it carries; fetch it anew where that would have."""
        wanted = missed = self._unnoted_tags > query.epoch
        since = max(query.epoch, query.invalidated_epoch)
        for (meant, refetch), epoch in self._invalidated_tags.items():
            if epoch > since and meant.means(query):
                missed, wanted = True, wanted or refetch
        if missed:
            query.flag(self.ledger.epoch)
            query.outdate_source()
        if wanted and query.is_active:
            self.delivery.call(query.want)

    def park(self, query: Query, identities: frozenset[Hashable]) -> None:
        """Note that `query` is parked for these identities, or for none any more."""
        _move(self._by_parking, query, query.parked, identities)
        query.parked = identities

    def holds(self, query: Query) -> bool:
        """Whether `query` is part of the cache, and not one that was removed."""
        return self.entries.get(query.frozen) is query

    def drop(self, query: Query) -> None:
        """Take a query out of the cache."""
        if self.holds(query):
            del self.entries[query.frozen]
            self._index.discard(query.frozen)
            self._resting.release(query)
            self.tag(query, frozenset())
            self.park(query, frozenset())

    def _gone(self, query: Query, evicted: bool) -> None:
        self.note_removed(query.frozen, query.epoch, exact=True)
        self.note_invalidated(query.frozen, query.invalidated_epoch, exact=True)
        with self.delivery:  # a live source stops with it: who is told of that finds it gone
            query.vanish()
            self.drop(query)
            self.evictions += evicted
            self.changed(query, Cause.EVICT if evicted else Cause.EXPIRE)

    def close(self) -> None:
        """Let go of everything."""
        self.timetable.clear()
        self._resting.clear()
        self.observed.clear()
        self.entries.clear()
        self._index = PrefixIndex()
        self._by_tag.clear()
        self._by_parking.clear()

    # For those who write with the epoch of a running function

    def note_invalidated(self, key: FrozenKey, epoch: int, *, exact: bool) -> None:
        """Note an invalidation of keys that need not be here, as long as something older runs."""
        self._note(self._invalidated, key, epoch, exact)

    def note_invalidated_tags(self, meant: Filters, epoch: int, *, refetch: bool) -> None:
        """Note an invalidation by tags likewise: data that is under way may come to carry them."""
        notes = self._invalidated_tags
        if not self.ledger.living:
            notes.clear()
            return
        notes.pop((meant, refetch), None)
        notes[meant, refetch] = epoch
        if len(notes) > TAG_NOTES:  # what began before a note that is given up counts as meant by it
            self._unnoted_tags = notes.pop(next(iter(notes)))

    def note_removed(self, key: FrozenKey, epoch: int, *, exact: bool) -> None:
        """Note a removal likewise."""
        self._note(self._removed, key, epoch, exact)

    def was_removed_since(self, key: FrozenKey, epoch: int) -> bool:
        """Whether the key was removed after `epoch`."""
        return self._removed.latest(key) > epoch

    def _note(self, journal: Journal, key: FrozenKey, epoch: int, exact: bool) -> None:
        if self.ledger.living:
            journal.note(key, epoch, exact=exact, oldest=self.ledger.oldest_writer)
        elif len(journal):
            journal.clear()

    # What queries ask of their owner

    def now(self) -> float:
        """Return the time of the client's clock."""
        return self._runtime.now()

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the client's loop."""
        return self._runtime.bound_loop()

    def spawn(self, coro: Coroutine[Any, Any, Any], name: str, context: Context | None = None) -> asyncio.Task[Any]:
        """Run a task that the client owns."""
        return self._runtime.spawn(coro, name, context)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self._runtime.sleep(seconds)

    def jitter(self, longest: float) -> float:
        """Draw a delay up to `longest` seconds."""
        return self._runtime.jitter(longest)

    def report(self, message: str, error: BaseException) -> None:
        """Tell of an error that has no caller."""
        self._runtime.report(message, error)

    def rests(self, query: Query) -> None:
        """A query is unobserved and idle: its gc time begins."""
        if not query.rests and self.holds(query):
            self._resting.admit(query)

    def wakes(self, query: Query) -> None:
        """A query is in use: it is neither collected nor evicted."""
        self._resting.release(query)

    def watched(self, query: Query, *, observed: bool) -> None:
        """A query is observed from now on, or no longer."""
        if observed:
            self.observed[query] = None
        else:
            self.observed.pop(query, None)

    def at(self, due: float, callback: Callable[[], None]) -> Appointment:
        """Call back at that time of the client's clock."""
        return self.timetable.at(due, callback)

    def back(self, occasion: Occasion) -> None:
        """Somebody looks again, or the network is there: fetch what observers then want, each query once."""
        with self.delivery:
            for query in tuple(self.observed):
                if any(one.wants_on(occasion) for one in tuple(query.observers) if one in query.observers):
                    query.want()

    def changed(self, query: Query, cause: Cause) -> None:
        """Tell the query's observers and the cache's listeners of a change."""
        if cause is Cause.FETCH:
            self.fetches += 1
        elif cause is Cause.ERROR:
            self.failures += 1
        if query.observers and not query.is_news:
            query.is_news = True
            self.delivery.call(lambda: self._tell_observers(query))
        if self._is_heard():
            event = CacheEvent(self._kind(query, cause), query, cause)
            self.delivery.post(self._listeners, event, f"a cache listener, told of {cause} of {query.key!r}")
            self.delivery.call(lambda: self._relay.relay(event))

    def _is_heard(self) -> bool:
        return bool(self._listeners) or self._relay.wanted()

    def _tell_observers(self, query: Query) -> None:
        query.is_news = False
        for observer in tuple(query.observers):
            if observer in query.observers:
                try:
                    observer.changed()
                except (Exception, asyncio.CancelledError) as error:
                    self.report(f"an observer of {query.key!r} raised {type(error).__name__}", error)

    def _kind(self, query: Query, cause: Cause) -> EventKind:
        if cause is Cause.CREATE:
            return "added"
        gone = cause in _REMOVALS and not self.holds(query)
        return "removed" if gone else "updated"

    def stamp_times(self, now: float) -> None:
        """There is a clock from now on: what was set before is as old as it was said to be."""
        self._resting.clear()
        for query in self.entries.values():
            query.shift(now)
            self._resting.admit(query)

    def _later(self, due: float, callback: Callable[[], None]) -> Timer | None:
        loop = self._runtime.loop
        return None if loop is None or loop.is_closed() else self._runtime.later(due, callback)


def _move(
    index: dict[Hashable, dict[Query, None]],
    query: Query,
    before: frozenset[Hashable],
    after: frozenset[Hashable],
) -> None:
    for mark in before - after:
        index[mark].pop(query, None)
        if not index[mark]:
            del index[mark]
    for mark in after - before:
        index.setdefault(mark, {})[query] = None
