"""Telling others: one subscription primitive, and one queue by which a client delivers in order (S8)."""

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

from querykit.callables import called
from querykit.identity import outside

__all__ = ["Subscription"]

E = TypeVar("E")

Report = Callable[[str, BaseException], None]
"""Takes a sentence that says what went wrong where, and the exception."""


class Subscription:
    """Undoes a subscription: call it, or use it with `with`. A second time does nothing.

    Example:
        >>> listeners: Listeners[str] = Listeners()
        >>> undo = listeners.subscribe(print)
        >>> undo()
        >>> len(listeners)
        0
    """

    __slots__ = ("_undo",)

    def __init__(self, undo: Callable[[], None]) -> None:
        self._undo: Callable[[], None] | None = undo

    def __call__(self) -> None:
        """Undo the subscription.

        Raises:
            WrongThread: this is not the thread or the loop of what was subscribed to; it stays subscribed.
        """
        undo, self._undo = self._undo, None
        if undo is not None:
            try:
                undo()
            except BaseException:
                self._undo = undo
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self()


class Listeners(Generic[E]):
    """The callbacks that want to hear of one kind of event."""

    __slots__ = ("_callbacks",)

    def __init__(self) -> None:
        self._callbacks: dict[object, Callable[[E], object]] = {}

    def __len__(self) -> int:
        return len(self._callbacks)

    def subscribe(self, callback: Callable[[E], object]) -> Subscription:
        """Call `callback` with each event from now on. Returns what undoes it."""
        if not callable(callback):
            raise TypeError(f"a listener is a callable that takes the event, not {callback!r}")
        token = object()
        self._callbacks[token] = callback
        return Subscription(lambda: self._drop(token))

    def _drop(self, token: object) -> None:
        self._callbacks.pop(token, None)

    def active(self) -> list[tuple[object, Callable[[E], object]]]:
        """Return the callbacks of this moment: one that leaves or joins meanwhile disturbs nobody."""
        return list(self._callbacks.items())

    def has(self, token: object) -> bool:
        """Whether the callback behind `token` has not left."""
        return token in self._callbacks


class Delivery:
    """A client's queue of things to tell.

    A change made by a listener is applied at once and told after the present event, in order, before the
    outermost call returns. A listener that raises is reported and disturbs neither the others nor the cache.
    Within `with delivery:` nothing is told: a change of several steps is whole before anybody sees it.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._queue: deque[Callable[[], None]] = deque()
        self._depth = 0

    @property
    def is_held(self) -> bool:
        """Whether something has changed, or may yet, of which not everybody was told."""
        return self._depth > 0

    def __enter__(self) -> None:
        self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while self._depth == 1 and self._queue:
                outside(self._queue.popleft())
        finally:
            self._depth -= 1

    def post(self, listeners: Listeners[E], event: E, what: str) -> None:
        """Tell `event` to each of `listeners`, each by itself; `what` names the event in a report."""
        if listeners:
            active = listeners.active()  # who subscribes before it is told came after it
            self.call(lambda: self._tell(listeners, active, event, what))

    def call(self, deliver: Callable[[], None]) -> None:
        """Run `deliver` after what is being delivered now, outside of every record."""
        with self:
            self._queue.append(deliver)

    def _tell(
        self, listeners: Listeners[E], active: list[tuple[object, Callable[[E], object]]], event: E, what: str
    ) -> None:
        for token, callback in active:
            if listeners.has(token):
                self.isolated(callback, event, what=what)

    def isolated(self, callback: Callable[..., object], *args: object, what: str) -> object:
        """Call `callback`; what it raises is reported with `what` and nothing is returned."""
        try:
            return callback(*args)
        except (Exception, asyncio.CancelledError) as error:
            self._report(f"{what}: {called(callback)} raised {type(error).__name__}", error)
            return None
