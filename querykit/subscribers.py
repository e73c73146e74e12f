"""Those who are told of an observer's results: plain callbacks at once, an async one in a task, one at a time."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar, cast

from querykit.callables import called
from querykit.events import Subscription
from querykit.runtime import Runtime

__all__: list[str] = []

R = TypeVar("R")


class Subscriber(Generic[R]):
    """One callback. While an async one runs, only that there is news is remembered: it then gets the newest."""

    __slots__ = ("_again", "_callback", "_owner", "_task", "closed", "hears_all")

    def __init__(
        self,
        owner: "Subscribers[R]",
        callback: Callable[[R], object],
        closed: Callable[[], None] | None,
        *,
        hears_all: bool,
    ) -> None:
        self._owner = owner
        self._callback = callback
        self._again = False
        self._task: asyncio.Task[None] | None = None
        self.closed = closed
        self.hears_all = hears_all

    def tell(self) -> None:
        """Call it with the newest result."""
        if self._task is not None and not self._task.done():
            self._again = True
            return
        self._again = False
        outcome = self._called()
        if outcome is not None:
            self._task = self._owner.runtime.spawn(self._finish(outcome), f"querykit {self._owner.what}")

    def _called(self) -> Awaitable[object] | None:
        """Call it; return what is to be awaited. What it raises is reported."""
        try:
            outcome = self._callback(self._owner.read())
        except (Exception, asyncio.CancelledError) as error:
            self._report(error)
            return None
        if outcome is None or not inspect.isawaitable(outcome):
            return None
        return cast("Awaitable[object]", outcome)

    async def _finish(self, outcome: Awaitable[object] | None) -> None:
        while outcome is not None:
            try:
                await outcome
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                self._report(error)
            except Exception as error:
                self._report(error)
            again, self._again = self._again, False
            outcome = self._called() if again and self in self._owner else None

    def _report(self, error: BaseException) -> None:
        owner = self._owner
        owner.runtime.report(
            f"a callback of {owner.what}: {called(self._callback)} raised {type(error).__name__}", error
        )

    async def ended(self) -> None:
        """Wait until an async callback that runs has ended; nothing, from inside it."""
        if self._task is not None and not self._task.done() and self._task is not asyncio.current_task():
            await asyncio.wait([self._task])


class Subscribers(Generic[R]):
    """The callbacks of one observer.

    Args:
        runtime: runs the async ones.
        read: returns the newest result.
        what: names them in a report.
        left: called when the last one has left.
    """

    def __init__(self, runtime: Runtime, read: Callable[[], R], what: str, left: Callable[[], None]) -> None:
        self.runtime = runtime
        self.read = read
        self.what = what
        self._left = left
        self._all: dict[Subscriber[R], None] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, subscriber: Subscriber[R]) -> bool:
        return subscriber in self._all

    def add(
        self,
        callback: Callable[[R], object],
        closed: Callable[[], None] | None = None,
        *,
        hears_all: bool = False,
    ) -> Subscription:
        """Tell `callback` from now on; returns what undoes it. `closed` is called once, when the observer ends.

        One that hears all is told of what is no news to the others as well.

        Raises:
            TypeError: `callback` cannot be called.
        """
        if not callable(callback):
            raise TypeError(f"a subscriber is a callable that takes the result, not {callback!r}")
        subscriber = Subscriber(self, callback, closed, hears_all=hears_all)
        self._all[subscriber] = None
        return Subscription(lambda: self._drop(subscriber))

    def _drop(self, subscriber: Subscriber[R]) -> None:
        if subscriber in self._all:
            self.runtime.check_thread()
            del self._all[subscriber]
            if not self._all:
                self._left()

    def tell(self, *, is_news: bool = True) -> None:
        """Tell them that there is a new result."""
        for subscriber in tuple(self._all):
            if (is_news or subscriber.hears_all) and subscriber in self._all:  # none before it has taken it out
                subscriber.tell()

    def close(self) -> list[Subscriber[R]]:
        """Tell them that nothing more will come, and return them."""
        closing = list(self._all)
        self._all.clear()
        for subscriber in closing:
            if subscriber.closed is not None:
                subscriber.closed()
        return closing
