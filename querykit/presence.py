"""Whether anybody looks, and whether the network is there: one of each for every client."""

import asyncio
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from querykit.events import Delivery, Listeners, Subscription
from querykit.runtime import Life, Runtime
from querykit.state import NetworkMode

__all__ = ["FocusManager", "OnlineManager"]

Occasion: TypeAlias = Literal["focus", "reconnect"]
"""When observers look again: somebody looks, or the network is there."""


class Switch:
    """Something that is so or not, and those who want to hear when it changes. It starts as so."""

    _what = "switch"

    def __init__(self, runtime: Runtime, delivery: Delivery, changed: Callable[[bool], None]) -> None:
        self._runtime = runtime
        self._delivery = delivery
        self._changed = changed
        self._is_on = True
        self._listeners: Listeners[bool] = Listeners()

    def set(self, value: bool) -> None:
        """Say how it is; what hangs on it happens before this returns, and nothing if it was so already.

        Of a closed client it is noted, and that is all: who looked at it may leave later than it ends.

        Raises:
            TypeError: `value` is no bool.
            WrongThread: this is not the client's thread or event loop.
        """
        if not isinstance(value, bool):
            raise TypeError(f"{self._what} is set to True or False, not {value!r}")
        self._runtime.check_thread()
        changes, self._is_on = value is not self._is_on, value
        if changes and self._runtime.life is Life.OPEN:
            with self._delivery:
                self._changed(value)
                self._delivery.post(self._listeners, value, f"a listener of {self._what}")

    def subscribe(self, listener: Callable[[bool], object]) -> Subscription:
        """Call `listener` with each new value; returns what undoes it."""
        self._runtime.check_thread()
        return self._listeners.subscribe(listener)


class FocusManager(Switch):
    """Whether anybody looks: `client.focus`. While nobody does, intervals and retries wait, those of calls too.

    Example:
        >>> from querykit.client import QueryClient
        >>> client = QueryClient()
        >>> with client.focus.subscribe(lambda focused: print("focused:", focused)):
        ...     client.focus.set(False)
        focused: False
    """

    _what = "client.focus"

    @property
    def is_focused(self) -> bool:
        """Whether anybody looks."""
        return self._is_on


class OnlineManager(Switch):
    """Whether the network is there: `client.online`. While it is not, fetches and mutations wait.

    Example:
        >>> from querykit.client import QueryClient
        >>> client = QueryClient()
        >>> client.online.set(False)
        >>> client.online.is_online
        False
    """

    _what = "client.online"

    @property
    def is_online(self) -> bool:
        """Whether the network is there."""
        return self._is_on


class Presence:
    """Both, as what fetches and mutates asks for them.

    Attributes:
        focus: whether anybody looks.
        online: whether the network is there.
        returned: called when either is so again.
    """

    def __init__(self, runtime: Runtime, delivery: Delivery, returned: Callable[[Occasion], None]) -> None:
        self.focus: Final = FocusManager(runtime, delivery, lambda value: self._set("focus", value))
        self.online: Final = OnlineManager(runtime, delivery, lambda value: self._set("reconnect", value))
        self.returned = returned
        self._runtime = runtime
        self._waiting: dict[asyncio.Future[None], None] = {}

    def holds(self, occasion: Occasion) -> bool:
        """Whether what has come back is still there."""
        return self.focus.is_focused if occasion == "focus" else self.online.is_online

    def permits(self, mode: NetworkMode, *, retrying: bool) -> bool:
        """Whether an attempt may be made now; a retry also waits for somebody to look."""
        return (mode == "always" or self.online.is_online) and (not retrying or self.focus.is_focused)

    async def permitted(self, mode: NetworkMode, *, retrying: bool) -> None:
        """Wait until it may."""
        while not self.permits(mode, retrying=retrying):
            change = self._runtime.bound_loop().create_future()
            self._waiting[change] = None
            try:
                await change
            finally:
                self._waiting.pop(change, None)

    def _set(self, occasion: Occasion, value: bool) -> None:
        if value:
            for change in tuple(self._waiting):
                if not change.done():
                    change.set_result(None)
            self.returned(occasion)
