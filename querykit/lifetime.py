"""How an observer lives: while somebody subscribes, for the block after `with`, and never once it is closed."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from querykit.core import Core
from querykit.errors import ObserverClosed
from querykit.subscribers import Subscriber

__all__: list[str] = []


class Lifetime(ABC):
    """What observers of one query, of many and of mutations have in common."""

    _core: Core
    _is_held = False
    _is_closed = False

    def close(self) -> None:
        """Let go of what is observed and of the subscribers; a second time does nothing.

        Raises:
            WrongThread: this is not the client's thread or event loop.
        """
        self._close_by_user()

    async def aclose(self) -> None:
        """The same, and wait for async callbacks that still run."""
        for subscriber in self._close_by_user():
            await subscriber.ended()

    def in_thread(self, callback: Callable[[], None]) -> None:
        """Call back in the client's thread: the garbage collector may run in any."""
        self._core.runtime.in_thread(callback)

    def __enter__(self) -> Self:
        self._refuse_closed()
        self._is_held = True
        try:
            self._attach()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def _attach(self) -> None:
        """Begin to observe, if it does not yet."""

    @abstractmethod
    def _end(self) -> list[Subscriber[Any]]:
        """Let go of everything, and return the subscribers."""

    def _close_by_user(self) -> list[Subscriber[Any]]:
        if not self._is_closed:
            self._core.runtime.check_thread()
        return self._close()

    def _close(self) -> list[Subscriber[Any]]:
        if self._is_closed:
            return []
        self._is_closed, self._is_held = True, False
        return self._end()

    def _refuse_closed(self) -> None:
        self._core.runtime.check()
        if self._is_closed:
            raise ObserverClosed(f"{self!r} was closed: make a new one")
