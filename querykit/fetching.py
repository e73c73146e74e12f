"""Running a query function: attempts, retries, the timeout around them all, and what may not be cached."""

import asyncio
import inspect
import math
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import aiohttp

from querykit.callables import called
from querykit.context import PerFetch, Progress, QueryContext
from querykit.errors import QueryCancelled, QueryTimeout
from querykit.flight import Flight
from querykit.keys import QueryKey
from querykit.owner import Owner
from querykit.retry import attempt

__all__: list[str] = []


async def fetch(
    flight: Flight, progress: Progress, owner: Owner[Any], failed: Callable[[Flight, int, Exception], bool]
) -> tuple[object, QueryContext[Any]]:
    """Run a flight's function until it returns or its retries are used up.

    Args:
        flight: what is run.
        progress: its hold on the entry.
        owner: gives the clock, the sleep and the jitter.
        failed: is told of each failed attempt, and returns whether another one is of use.

    Returns:
        What the function returned, and the context of that attempt.

    Raises:
        QueryTimeout: it took longer than the `timeout` option.
        Exception: what the last attempt raised.
    """
    options, key = flight.source.options, flight.query.key
    fn = flight.source.fn
    once: Callable[..., Any] = fn.for_one_fetch() if isinstance(fn, PerFetch) else fn
    limit = asyncio.timeout(None if options.timeout == math.inf else options.timeout)
    result: tuple[object, QueryContext[Any]] | None = None
    try:
        async with limit:
            result = await attempt(
                lambda: _attempt(flight, once, progress, owner),
                options.retry,
                failed=lambda failures, error: failed(flight, failures, error),
                time_left=lambda: math.inf if (at := limit.when()) is None else at - owner.loop().time(),
                sleep=owner.sleep,
                jitter=owner.jitter,
            )
    except Exception:
        if not limit.expired():
            raise
    if result is None or limit.expired():  # whatever came of it: a function may catch its cancellation
        raise QueryTimeout(key, options.timeout or 0.0)
    return result


async def _attempt(
    flight: Flight, fn: Callable[..., Any], progress: Progress, owner: Owner[Any]
) -> tuple[object, QueryContext[Any]]:
    source, key = flight.source, flight.query.key
    mode, retrying = source.options.network_mode, flight.failures > 0
    if not owner.presence.permits(mode, retrying=retrying):
        progress.paused(True)
        await owner.presence.permitted(mode, retrying=retrying)
    progress.paused(False)
    if not flight.is_running:  # doomed while it waited
        raise QueryCancelled(key, "doomed")
    context: QueryContext[Any] = QueryContext(owner.client, key, source.options.meta, progress)
    flight.record.context = context
    try:
        value: object = fn(context) if source.takes_context else fn()
        if inspect.isawaitable(value):
            value = await value
    finally:
        flight.record.context = None
    refuse_unusable(value, key)
    return value, context


@asynccontextmanager
async def opened(fn: Callable[..., object], *arguments: object) -> AsyncGenerator[AsyncIterable[Any], None]:
    """Call an async generator function; what can be closed of it is when the block is left.

    Raises:
        TypeError: it returns no async iterable.
    """
    stream: Any = fn(*arguments)
    if inspect.isawaitable(stream):
        stream = await stream
    if not isinstance(cast("object", stream), AsyncIterable):
        raise TypeError(f"{called(fn)} returns {stream!r}, which is no async generator or other async iterable")
    values: Any = aiter(stream)  # where `__aiter__` is a generator function, this is what is to be closed
    try:
        yield values
    finally:
        if (close := getattr(values, "aclose", None)) is not None:
            await close()


def refuse_unusable(value: object, key: QueryKey) -> None:
    """Raise for what a cache cannot hold: it can be read only once.

    Raises:
        TypeError: `value` is a coroutine, an aiohttp response, or a generator.
    """
    if inspect.iscoroutine(value):
        value.close()
        raise TypeError(f"a coroutine cannot be the data of {key!r}: await it first, and set what it returns")
    if isinstance(value, aiohttp.ClientResponse):
        raise TypeError(
            f"an aiohttp ClientResponse cannot be the data of {key!r}: "
            "return, or set, what you read from it, such as `await response.json()`"
        )
    if inspect.isasyncgen(value) or inspect.isgenerator(value):
        raise TypeError(
            f"a generator cannot be the data of {key!r}, since it can be read only once: "
            "make a list of it, or a query function by `streamed` or `live`"
        )
