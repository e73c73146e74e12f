"""What a query needs of those above it, and of those who follow it."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from contextvars import Context
from typing import Any, Protocol, TypeVar

from querykit.context import ContextClient
from querykit.entry import Cause
from querykit.events import Delivery
from querykit.identity import Ledger
from querykit.keys import FrozenKey
from querykit.presence import Occasion, Presence
from querykit.state import StaleTime
from querykit.timetable import Appointment

__all__: list[str] = []

Q_contra = TypeVar("Q_contra", contravariant=True)


class Observer(Protocol):
    """Who follows a query, seen from below."""

    @property
    def enabled(self) -> bool:
        """Whether the query is to be fetched for it."""
        ...

    @property
    def stale_time(self) -> StaleTime:
        """From which age on the data is stale to it."""
        ...

    def wants_on(self, occasion: Occasion) -> bool:
        """Whether it wants the query fetched again now that somebody looks, or the network is there."""
        ...

    def changed(self) -> None:
        """The query has changed, once or more often."""
        ...

    def emptied(self) -> None:
        """What the query held is gone, and is to be let go of at once (S3); `changed` follows."""
        ...

    def closed(self) -> None:
        """The client was closed: nothing more will come."""
        ...


class Owner(Protocol[Q_contra]):
    """The cache and the client, seen from below."""

    @property
    def ledger(self) -> Ledger:
        """The client's epochs and identities."""
        ...

    @property
    def client(self) -> ContextClient:
        """The client, for query functions."""
        ...

    @property
    def delivery(self) -> Delivery:
        """The queue by which others are told."""
        ...

    @property
    def presence(self) -> Presence:
        """Whether anybody looks, and whether the network is there."""
        ...

    def at(self, due: float, callback: Callable[[], None]) -> Appointment:
        """Call back at that time of the client's clock."""
        ...

    async def sleep(self, seconds: float, /) -> object:
        """Wait."""
        ...

    def jitter(self, longest: float, /) -> float:
        """Draw a delay."""
        ...

    def now(self) -> float:
        """Return the time."""
        ...

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the client's loop."""
        ...

    def spawn(self, coro: Coroutine[Any, Any, Any], name: str, context: Context | None = None) -> asyncio.Task[Any]:
        """Run a task that the client owns."""
        ...

    def report(self, message: str, error: BaseException, /) -> None:
        """Tell of an error that has no caller."""
        ...

    def changed(self, query: Q_contra, cause: Cause) -> None:
        """Tell of a change."""
        ...

    def tag(self, query: Q_contra, tags: frozenset[Hashable]) -> None:
        """Let the query be found by these tags and no others."""
        ...

    def catch_up(self, query: Q_contra) -> None:
        """The query has data that may be older than an invalidation by its tags."""
        ...

    def rests(self, query: Q_contra) -> None:
        """The query is unobserved and idle from now on."""
        ...

    def wakes(self, query: Q_contra) -> None:
        """The query is in use from now on."""
        ...

    def watched(self, query: Q_contra, *, observed: bool) -> None:
        """The query is observed from now on, or no longer."""
        ...

    def holds(self, query: Q_contra) -> bool:
        """Whether the query is part of the cache."""
        ...

    def drop(self, query: Q_contra) -> None:
        """The query is no longer part of the cache."""
        ...

    def note_removed(self, key: FrozenKey, epoch: int, *, exact: bool) -> None:
        """What began before `epoch` may no longer write this key."""
        ...

    def park(self, query: Q_contra, identities: frozenset[Hashable]) -> None:
        """The query is parked for these identities, or for none any more."""
        ...
