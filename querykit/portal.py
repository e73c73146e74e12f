"""Calling a client from another thread."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar, cast, overload

from querykit.runtime import Runtime, running_loop

__all__ = ["Portal"]

P = ParamSpec("P")
R = TypeVar("R")


class Portal:
    """The thread-safe entry to a client, `client.portal`.

    Example:
        >>> import asyncio
        >>> from querykit.client import QueryClient
        >>> async def main() -> str:
        ...     async with QueryClient() as client:
        ...         fetch = lambda: client.portal.call(client.query, ("me",), lambda: "ada")
        ...         return await asyncio.to_thread(fetch)
        >>> asyncio.run(main())
        'ada'
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    @overload
    def call(self, fn: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def call(self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...
    def call(self, fn: Callable[..., object], *args: object, **kwargs: object) -> object:
        """Call `fn` in the client's loop, wait here for what it returns, awaited if it can be, and return that.

        What runs there counts as part of the query function, if any, that this thread works for.

        Raises:
            RuntimeError: the client has no running loop, or this is called under that loop, which would wait
                for itself.
        """
        loop = self._runtime.loop
        if loop is None or not loop.is_running():
            raise RuntimeError("the client's event loop is not running: enter it there by `async with client`")
        if running_loop() is loop:
            raise RuntimeError("portal.call would wait for its own event loop: call the client's method directly")

        async def call() -> object:
            result = fn(*args, **kwargs)
            return await cast("Awaitable[object]", result) if inspect.isawaitable(result) else result

        future = asyncio.run_coroutine_threadsafe(call(), loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # this thread was interrupted: nobody waits any more
            raise
