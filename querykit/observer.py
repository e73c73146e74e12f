"""Following a query: a result each time it changes."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass, fields
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from querykit.entry import Cause
from querykit.identity import Identities, Ledger, Record, recording
from querykit.query import Query
from querykit.state import NO_DATA, QueryState, StaleTime

__all__ = ["Observation", "QueryResult"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class QueryResult(QueryState[T]):
    """What an observer sees of a query at one moment."""

    is_stale: bool
    """Whether the data is older than the observer's stale time, or invalidated, or missing."""

    @property
    def is_pending(self) -> bool:
        """No data and no error yet."""
        return self.status == "pending"

    @property
    def is_success(self) -> bool:
        """The last answer was data."""
        return self.status == "success"

    @property
    def is_error(self) -> bool:
        """The last answer was an error; there may be older data."""
        return self.status == "error"

    @property
    def is_fetching(self) -> bool:
        """A fetch is running."""
        return self.fetch_status == "fetching"

    @property
    def is_loading(self) -> bool:
        """The first fetch is running."""
        return self.is_fetching and self.is_pending

    @property
    def is_refetching(self) -> bool:
        """A later fetch is running."""
        return self.is_fetching and not self.is_pending


class Mount(Protocol):
    """How an observation gets at its query: the client, seen from below."""

    ledger: Ledger

    def now(self) -> float:
        """Return the time."""
        ...

    def attach(self, follower: "Follower") -> Query:
        """Attach to the query, which is made and fetched where that is due."""
        ...

    def refetch(self) -> Coroutine[Any, Any, None]:
        """Ask for a new answer."""
        ...

    def in_thread(self, callback: Callable[[], None]) -> None:
        """Call back in the client's thread."""
        ...


class Follower:
    """What the query holds of an observation: it may outlive it for a moment, and never keeps it alive.

    It remembers what `select` made of the data, until the data goes or an identity that `select` used.
    """

    __slots__ = ("_ledger", "event", "is_closed", "memo", "query", "seen", "stale_time")

    def __init__(self, stale_time: StaleTime, ledger: Ledger) -> None:
        self._ledger = ledger
        self.stale_time: StaleTime = stale_time
        self.query: Query | None = None
        self.event = asyncio.Event()
        self.seen = False
        self.is_closed = False
        self.memo: tuple[object, object, Identities] | None = None

    def remember(self, memo: tuple[object, object, Identities] | None) -> None:
        """Keep what was made of which data under which identities, or forget it."""
        before, self.memo = self.memo, memo
        for identity in () if memo is None else memo[2]:
            self._ledger.index(identity, self)
        if before is not None:
            self._ledger.unindex(before[2], self)

    def uses(self, identity: Hashable) -> bool:
        """Whether `select` used `identity`."""
        return self.memo is not None and identity in self.memo[2]

    def forget(self, identity: Hashable) -> None:
        """Let go of what `select` made under `identity`, and wake the reader: it is made anew."""
        del identity
        self.remember(None)
        self.event.set()

    def changed(self, cause: Cause) -> None:
        """Wake the reader: he takes the newest result, however many changes there were."""
        if self.query is not None and not self.query.has_data:
            self.remember(None)
        if cause is not Cause.OBSERVE and cause is not Cause.LEAVE:
            self.event.set()

    def closed(self) -> None:
        """Wake the reader for the last time."""
        self.query = None
        self.remember(None)
        self.is_closed = True
        self.event.set()

    def leave(self) -> None:
        """Detach from the query."""
        query = self.query
        self.closed()
        if query is not None:
            query.detach(self)


class Observation(Generic[T]):
    """Follows a query: see `QueryClient.observe`. It attaches when entered or iterated, and lets go when left."""

    def __init__(self, mount: Mount, stale_time: StaleTime, selector: Callable[[Any], T] | None) -> None:
        self._mount = mount
        self._selector = selector
        self._stale_time: StaleTime = stale_time
        self._follower: Follower | None = None

    async def __aenter__(self) -> Self:
        self._attached()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __aiter__(self) -> Self:
        self._attached()
        return self

    async def __anext__(self) -> QueryResult[T]:
        """Return the newest result: the first at once, each further one after a change."""
        follower = self._attached()
        if follower.seen and follower.event.is_set():
            await asyncio.sleep(0)  # a reader who changes the key at each result lets its fetch go on
        follower.seen = True
        await follower.event.wait()
        follower.event.clear()
        if follower.is_closed:
            follower.event.set()
            raise StopAsyncIteration
        return self.result

    @property
    def result(self) -> QueryResult[T]:
        """The result of this moment.

        Raises:
            RuntimeError: the observation is not open.
        """
        query = None if self._follower is None else self._follower.query
        if self._follower is None or query is None:
            raise RuntimeError("this observation is not open: use it with `async with`, or iterate it")
        now = self._mount.now()
        values = {field.name: getattr(state, field.name) for state in [query.state] for field in fields(state)}
        if self._selector is not None and query.has_data:
            values.update(self._selected(self._follower, query, self._selector))
        return QueryResult(**values, is_stale=not query.is_fresh(self._stale_time, now))

    def refetch(self) -> Coroutine[Any, Any, None]:
        """Ask for a new answer now; awaiting what this returns ends with it."""
        return self._mount.refetch()

    def close(self) -> None:
        """Stop following; a second time does nothing."""
        if self._follower is not None:
            self._follower.leave()

    def __del__(self) -> None:
        follower = self._follower
        if follower is not None and follower.query is not None:
            self._mount.in_thread(follower.leave)

    def _attached(self) -> Follower:
        if self._follower is None:
            follower = Follower(self._stale_time, self._mount.ledger)
            follower.query = self._mount.attach(follower)
            follower.event.set()
            self._follower = follower
        return self._follower

    def _selected(self, follower: Follower, query: Query, selector: Callable[[Any], T]) -> dict[str, object]:
        """Return what `select` makes of the data, computed once for each data object and identity."""
        memo, ledger = follower.memo, self._mount.ledger
        if memo is None or memo[0] is not query.data:
            record = Record(ledger)
            try:
                with recording(record):
                    memo = (query.data, selector(query.data), record.names)
            except Exception as error:
                ledger.spread(record.names)
                return {"data": None, "has_data": False, "error": error, "status": "error"}
            if record.is_doomed or memo[0] is not query.data:  # `select` itself has forgotten what it read
                return {"data": None, "has_data": False, "status": "pending"}
            follower.remember(memo)
        ledger.spread(memo[2])
        return {"data": None if memo[1] is NO_DATA else memo[1]}
