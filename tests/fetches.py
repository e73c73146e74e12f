"""Query functions that tests can watch and stop, and the places from which something can happen to a fetch."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from blinker import Signal

from querykit import QueryClient

STEPS = 3


async def turns(count: int = 1) -> None:
    """Let the loop run that many times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def settled() -> None:
    """Let everything that is ready run out; no time passes."""
    await turns(4 * STEPS + 20)


class Upstream:
    """A query function of several awaits. Each call returns "new 1", "new 2" and so on."""

    def __init__(self, *, failures: int = 0, during: Callable[[], Any] | None = None, at: int = 0) -> None:
        self.calls = 0
        self.ended = 0
        self.cancelled = 0
        self.failures = failures
        self.during = during
        self.at = at
        self.error: Exception | None = None

    async def __call__(self) -> str:
        self.calls += 1
        mine = self.calls
        try:
            for step in range(STEPS):
                if mine == 1 and self.during is not None and step == self.at:
                    done = self.during()
                    if isinstance(done, Awaitable) and not hasattr(done, "send"):
                        await done
                await asyncio.sleep(0)
            if mine <= self.failures:
                raise ConnectionError(f"failure {mine}")
            if self.error is not None:
                raise self.error
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.ended += 1
        return f"new {mine}"


class Gate:
    """A query function whose calls each wait until the test answers them."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[Any]] = []
        self.cancelled = 0

    @property
    def calls(self) -> int:
        return len(self.waiting)

    async def __call__(self) -> Any:
        future = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        try:
            return await future
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def answer(self, value: Any, call: int = -1) -> None:
        future = self.waiting[call]
        if isinstance(value, BaseException):
            future.set_exception(value)
        else:
            future.set_result(value)
        await settled()


def cancelling(*arguments: object) -> Any:
    """A rule that raises what only a task's canceller should."""
    raise asyncio.CancelledError


Act = Callable[[], Any]


def outside(client: QueryClient, act: Act) -> None:
    act()


def in_a_cache_listener(client: QueryClient, act: Act) -> None:
    def listener(event: Any) -> None:
        if event.query.key == ("trigger",):
            undo()
            act()

    undo = client.cache.subscribe(listener)
    client.set_query_data(("trigger",), 1)


def in_a_signal_receiver(client: QueryClient, act: Act) -> None:
    signal = Signal()

    def receiver(sender: Any) -> None:
        act()

    signal.connect(receiver)
    signal.send(client)


def in_a_loop_callback(client: QueryClient, act: Act) -> None:
    asyncio.get_running_loop().call_soon(act)


PLACES = [outside, in_a_cache_listener, in_a_signal_receiver, in_a_loop_callback]
