"""Telling the backend of a logout: a shared task that no waiter can cancel."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from querykit.client import QueryClient
from querykit.errors import ClientClosed
from querykit.pending import Begun

__all__ = ["Logout", "Telling"]


class Telling:
    """One message to the backend, in a task that the client owns; any number may wait for it.

    An error that nobody waits for is reported.

    Args:
        client: who owns the task.
        what: names the message in reports.
        message: sends it.

    Raises:
        ClientClosed: the client was closed.
        RuntimeError: no event loop runs.
    """

    __slots__ = ("_client", "_error", "_waiting", "_what", "task")

    def __init__(self, client: QueryClient, what: str, message: Callable[[], Awaitable[None]]) -> None:
        asyncio.get_running_loop()
        self._client = client
        self._what = what
        self._error: Exception | None = None
        self._waiting = 0
        self.task = client.own(self._run(message), f"querykit {what}")

    async def _run(self, message: Callable[[], Awaitable[None]]) -> None:
        await asyncio.sleep(0)  # whoever asked for it comes to wait first, where tasks are eager too
        try:
            await message()
        except Exception as error:
            self._error = error
            if not self._waiting:
                self._client.report(f"{self._what} failed with {type(error).__name__}", error)

    async def wait(self) -> None:
        """Wait for the end; to be cancelled meanwhile disturbs nobody else.

        Raises:
            ClientClosed: the client was closed before the end.
            Exception: what kept the message from being delivered.
        """
        self._waiting += 1
        try:
            await asyncio.wait([self.task])
        finally:
            self._waiting -= 1
        if self.task.cancelled():
            raise ClientClosed(f"{self._what} was cut short: the client was closed")
        if self._error is not None:
            raise self._error


class Logout(Begun[None]):
    """What a logout returns: here everything is forgotten already, and the backend is being told.

    Await it to know that the backend was told, and to get the error if it could not be; or leave it.
    """

    __slots__ = ("_client", "_tellings")

    def __init__(self, client: QueryClient, tellings: Sequence[Telling]) -> None:
        super().__init__()
        self._client = client
        self._tellings = tellings

    async def _ended(self) -> None:
        waits = [telling.wait() for telling in self._tellings]
        ends = await asyncio.gather(*waits, return_exceptions=True)
        errors = [end for end in ends if end is not None]
        for error in errors[1:]:
            self._client.report("one of several logouts failed", error)
        if errors:
            raise errors[0]
