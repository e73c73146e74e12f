"""Those who are told of an observer's results: plain callbacks at once, an async one in a task, one at a time."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar, cast

from querykit.events import Subscription
from querykit.runtime import Runtime

__all__: list[str] = []

R = TypeVar("R")


class Subscriber(Generic[R]):
    """One callback. While an async one runs, only that there is news is remembered: it then gets the newest."""

    __slots__ = ("_again", "_callback", "_owner", "_task", "closed")

    def __init__(
        self, owner: "Subscribers[R]", callback: Callable[[R], object], closed: Callable[[], None] | None
    ) -> None:
        self._owner = owner
        self._callback = callback
        self._again = False
        self._task: asyncio.Task[None] | None = None
        self.closed = closed

    def tell(self) -> None:
        """Call it with the newest result."""
        if self._task is not None and not self._task.done():
            self._again = True
            return
        outcome = self._owner.isolated(self._call)
        if inspect.isawaitable(outcome):
            coro = self._finish(cast("Awaitable[object]", outcome))
            self._task = self._owner.runtime.spawn(coro, f"querykit {self._owner.what}")

    def _call(self) -> object:
        return self._callback(self._owner.read())

    async def _finish(self, outcome: Awaitable[object]) -> None:
        while True:
            try:
                await outcome
            except Exception as error:
                self._owner.report(self._callback, error)
            if not self._again or self not in self._owner:
                return
            self._again = False
            following = self._owner.isolated(self._call)
            if not inspect.isawaitable(following):
                return
            outcome = cast("Awaitable[object]", following)

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
        self._past: list[Subscriber[R]] = []

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, subscriber: Subscriber[R]) -> bool:
        return subscriber in self._all

    def add(self, callback: Callable[[R], object], closed: Callable[[], None] | None = None) -> Subscription:
        """Tell `callback` from now on; returns what undoes it. `closed` is called once, when the observer ends.

        Raises:
            TypeError: `callback` cannot be called.
        """
        if not callable(callback):
            raise TypeError(f"a subscriber is a callable that takes the result, not {callback!r}")
        subscriber = Subscriber(self, callback, closed)
        self._all[subscriber] = None
        return Subscription(lambda: self._drop(subscriber))

    def _drop(self, subscriber: Subscriber[R]) -> None:
        if self._all.pop(subscriber, self) is None and not self._all:
            self._left()

    def tell(self) -> None:
        """Tell them all that there is a new result."""
        for subscriber in tuple(self._all):
            if subscriber in self._all:
                subscriber.tell()

    def close(self) -> list[Subscriber[R]]:
        """Tell them that nothing more will come, and return them."""
        closing = list(self._all)
        self._all.clear()
        for subscriber in closing:
            if subscriber.closed is not None:
                subscriber.closed()
        return closing

    def isolated(self, call: Callable[[], object]) -> object:
        """Call it; what it raises is reported."""
        try:
            return call()
        except (Exception, asyncio.CancelledError) as error:
            self.report(call, error)
            return None

    def report(self, callback: Any, error: BaseException) -> None:
        """Tell of an error that a callback has raised."""
        callback = getattr(callback, "__self__", callback)
        callback = getattr(callback, "_callback", callback)
        self.runtime.report(f"a callback of {self.what}: {callback!r} raised {type(error).__name__}", error)
