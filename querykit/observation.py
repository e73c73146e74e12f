"""Observing as an async iterator: the newest result, whenever the reader asks for the next one."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from querykit.checks import Seconds
from querykit.events import Subscription
from querykit.observer import QueryObserver, Refetched
from querykit.result import QueryResult

__all__ = ["Observation", "Results"]

T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Observer(Protocol[R_co]):
    """What is read: one observer, of one query or of many."""

    @property
    def result(self) -> R_co:
        """The result of this moment."""
        ...

    def follow(self, callback: Callable[[Any], object], closed: Callable[[], None], /) -> Subscription:
        """Call back at each change, and once when nothing more will come."""
        ...

    def in_thread(self, callback: Callable[[], None], /) -> None:
        """Call back in the client's thread."""
        ...

    def close(self) -> None:
        """Stop observing."""
        ...


class _Reader:
    """What the observer calls: it may outlive the iterator for a moment, and never keeps it alive."""

    def __init__(self) -> None:
        self.news = asyncio.Event()
        self.is_closed = False

    def tell(self, result: object) -> None:
        """There is a new result."""
        del result
        self.news.set()

    def close(self) -> None:
        """Nothing more will come."""
        self.is_closed = True
        self.news.set()


class Results(Generic[R]):
    """The results of an observer: it subscribes when entered or iterated, and lets go when left or dropped."""

    def __init__(self, observer: Observer[R]) -> None:
        self._observer = observer
        self._reader: _Reader | None = None
        self._has_read = False

    async def __aenter__(self) -> Self:
        self._subscribed()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __aiter__(self) -> Self:
        self._subscribed()
        return self

    async def __anext__(self) -> R:
        """Return the newest result: the first at once, each further one after a change."""
        reader = self._subscribed()
        if self._has_read and reader.news.is_set():
            await asyncio.sleep(0)  # a reader who changes the key at each result lets its fetch go on
        self._has_read = True
        await reader.news.wait()
        if reader.is_closed:
            raise StopAsyncIteration
        reader.news.clear()
        return self._observer.result

    @property
    def result(self) -> R:
        """The result of this moment.

        Raises:
            RuntimeError: the observation is not open.
        """
        if self._reader is None or self._reader.is_closed:
            raise RuntimeError("this observation is not open: use it with `async with`, or iterate it")
        return self._observer.result

    def close(self) -> None:
        """Stop following; a second time does nothing."""
        if self._reader is not None:
            self._observer.close()

    def __del__(self) -> None:
        reader = self._reader
        if reader is not None and not reader.is_closed:
            self._observer.in_thread(self._observer.close)

    def _subscribed(self) -> _Reader:
        if self._reader is None:
            reader = _Reader()
            self._observer.follow(reader.tell, reader.close)
            reader.news.set()
            self._reader = reader
        return self._reader


class Observation(Results[QueryResult[T]]):
    """Follows a query: see `QueryClient.observe`.

    Attributes:
        observer: the `QueryObserver` that it reads.
    """

    def __init__(self, observer: QueryObserver[T]) -> None:
        super().__init__(observer)
        self.observer = observer

    def refetch(self, *, cancel_refetch: bool = True, throw_on_error: bool = False) -> Refetched[QueryResult[T]]:
        """Fetch anew now: see `QueryObserver.refetch`."""
        return self.observer.refetch(cancel_refetch=cancel_refetch, throw_on_error=throw_on_error)

    async def wait_for(
        self, predicate: Callable[[QueryResult[T]], object], timeout: Seconds | None = None
    ) -> QueryResult[T]:
        """Return the first result for which `predicate` holds: see `QueryObserver.wait_for`."""
        return await self.observer.wait_for(predicate, timeout)
