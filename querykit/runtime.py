"""The event loop that a client lives on: its clock, its tasks, its reports (S12)."""

import asyncio
import contextlib
import enum
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextvars import Context
from typing import Any, Final

from querykit.errors import ClientClosed, WrongThread
from querykit.retry import full_jitter

__all__: list[str] = []

_log: Final = logging.getLogger("querykit")


class Life(enum.Enum):
    """Where a client is in its life."""

    OPEN = enum.auto()  # usable; bound to a loop by the first call under one
    CLOSED = enum.auto()  # `aclose` was called: nothing begins any more


def _before_time() -> float:
    """Return the time before there is a loop: what is set then has an age, and is stamped when it is bound."""
    return 0.0


class Runtime:
    """One client's loop, and what it runs there.

    Attributes:
        now: reads the client's clock, in seconds.
        sleep: waits seconds.
        jitter: draws a delay up to the seconds it is given.
        loop: the loop the client is bound to, or None.
        life: whether the client is open.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        jitter: Callable[[float], float] = full_jitter,
        report: Callable[[str, BaseException], None] | None = None,
        on_bind: Callable[[float], None],
    ) -> None:
        self.now: Callable[[], float] = _before_time
        self.sleep = sleep
        self.jitter = jitter
        self.loop: asyncio.AbstractEventLoop | None = None
        self.life = Life.OPEN
        self._clock = clock
        self._report = report
        self._on_bind = on_bind
        self._thread = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    def check(self) -> None:
        """Bind to the running loop at the first call under one; afterwards see that the caller may call.

        Raises:
            ClientClosed: the client was closed.
            WrongThread: the caller is in another thread, or under another loop.
        """
        if self.life is Life.CLOSED:
            raise ClientClosed("this QueryClient was closed: make a new one")
        self.check_thread()

    def check_thread(self) -> None:
        """As `check`, and a closed client is no error."""
        running = running_loop()
        if self.loop is None:
            if running is not None:
                self._bind(running)
        elif running is not self.loop and (running is not None or threading.get_ident() != self._thread):
            raise WrongThread(
                "this QueryClient belongs to another thread or event loop: "
                "call it there by client.portal.call(client.method, ...), or make a client for each loop"
            )

    def bound_loop(self) -> asyncio.AbstractEventLoop:
        """Return the client's loop.

        Raises:
            RuntimeError: there is none yet, since no loop runs, or it was closed.
        """
        if self.loop is None or self.loop.is_closed():
            raise RuntimeError("a fetch needs a running event loop: call this from a coroutine, or under asyncio.run")
        return self.loop

    def _bind(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._thread = threading.get_ident()
        # asyncio's own loops read time.monotonic in a Python method: skip that frame on the hot path.
        own = type(loop).time is asyncio.BaseEventLoop.time
        self.now = self._clock or (time.monotonic if own else loop.time)
        self._on_bind(self.now())

    def spawn(self, coro: Coroutine[Any, Any, Any], name: str, context: Context | None = None) -> asyncio.Task[Any]:
        """Run `coro` in a task that the client owns."""
        task = self.bound_loop().create_task(coro, name=name, context=context)
        if task.done():  # an eager one: nothing need wait for the loop's next turn
            self._ended(task)
        else:
            self._tasks.add(task)
            # In a context of its own: a task must not keep alive what its maker carries.
            task.add_done_callback(self._ended, context=Context())
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.report(f"{task.get_name()} raised {type(error).__name__}", error)

    def later(self, due: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call `callback` when the client's clock reads `due`."""
        loop = self.bound_loop()
        # In a context of its own: a timer must not keep alive what the running function carries.
        return loop.call_at(loop.time() + max(0.0, due - self.now()), callback, context=Context())

    def in_thread(self, callback: Callable[[], None]) -> None:
        """Call back in the client's thread: now if this is it, else soon; not at all once its loop is closed."""
        if self.loop is None or self.loop.is_closed():
            return
        if threading.get_ident() == self._thread:
            callback()
        else:
            with contextlib.suppress(RuntimeError):  # the loop was closed
                self.loop.call_soon_threadsafe(callback)

    def report(self, message: str, error: BaseException) -> None:
        """Tell of an error that has no caller: to the client's own report, the loop's handler, or the log."""
        if self._report is not None:
            try:
                self._report(message, error)
            except Exception:
                _log.exception("the client's report raised an error when told: %s", message)
        elif self.loop is not None:
            self.loop.call_exception_handler({"message": f"querykit: {message}", "exception": error})
        else:
            _log.error(message, exc_info=error)

    async def wind_up(self, spare: Iterable[asyncio.Task[Any]], grace: float) -> None:
        """Cancel all tasks but `spare` and wait for them up to `grace` seconds; then report those that go on."""
        tasks = self._tasks - set(spare)
        for task in tasks:
            task.cancel()
        if not tasks:
            return
        _, left = await asyncio.wait(tasks, timeout=grace)
        for task in left:
            self.report(
                f"{task.get_name()} refuses to be cancelled and was abandoned after {grace:g} s",
                TimeoutError("a query function caught CancelledError and went on"),
            )


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the loop that runs in this thread, or None."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
