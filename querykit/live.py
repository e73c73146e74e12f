"""Live queries: data that is pushed, by an async generator that runs while somebody observes."""

from collections.abc import AsyncIterable, Callable
from typing import Any, Final, Generic, TypeAlias, TypeVar

from querykit.callables import called
from querykit.checks import Seconds, seconds
from querykit.context import QueryContext
from querykit.flight import takes_context
from querykit.state import Skip

__all__ = ["LiveFn", "live"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

GRACE: Final = 5.0

Values: TypeAlias = AsyncIterable[T | Callable[[T], T | Skip]]
"""What a live source yields: the data, or updaters of the data there is."""

LiveSource: TypeAlias = Callable[[], Values[T]] | Callable[[QueryContext[Any]], Values[T]]


class LiveFn(Generic[T_co]):
    """The query function that `live` makes; each of its fetches starts the source, and ends with its first value.

    Attributes:
        fn: the async generator function.
        takes_context: whether it gets the `QueryContext`.
        grace: for how many seconds the source goes on when nobody observes it any more.
    """

    __slots__ = ("fn", "grace", "takes_context")

    def __init__(self, fn: Callable[..., AsyncIterable[Any]], grace: float) -> None:
        self.fn = fn
        self.grace = grace
        self.takes_context = takes_context(fn)

    async def __call__(self, context: QueryContext[Any], /) -> T_co:
        """Start the source anew, and return its first value."""
        data: T_co = await context.progress.go_live(self, context)
        return data

    def __repr__(self) -> str:
        return f"live({called(self.fn)})"


def live(
    fn: LiveSource[T],
    *,
    grace: Seconds = GRACE,
) -> LiveFn[T]:
    """Make a query function of an async generator that goes on telling what the data is.

    The generator starts with the first observer and is shared by all. Each value it yields replaces the data; a
    function it yields is called with the data and returns the new data. While it runs, the data is fresh. When it
    ends or raises it is started again, after a delay that grows to 30 seconds; `QueryResult.live` tells what it
    does. An invalidation starts it anew, and its next first value is then the answer. `client.query` is answered
    by its first value. It stops when nobody has observed it for the grace time, and at once when the query is
    removed or collected, its identity forgotten, or a function that is not live fetched in its place. One that
    stops itself from inside runs on to its next value, which is dropped.

    Args:
        fn: an async generator function, without argument or with one `QueryContext`; its first value is data.
        grace: for how many seconds it goes on when the last observer has left.

    Raises:
        TypeError: `fn` cannot be called, or `grace` is no number of seconds.
        ValueError: `grace` is negative.

    Example:
        >>> import asyncio
        >>> from querykit.client import QueryClient
        >>> async def counter():
        ...     yield 0
        ...     while True:
        ...         await asyncio.sleep(0)
        ...         yield lambda count: count + 1
        >>> async def main() -> None:
        ...     async with QueryClient() as client, client.observe(("count",), live(counter)) as results:
        ...         result = await results.wait_for(lambda result: result.data == 3)
        ...         print(result.data, result.live.phase, result.fetch_status)
        >>> asyncio.run(main())
        3 live idle
    """
    if not callable(fn):
        raise TypeError(f"live takes an async generator function, not {fn!r}: pass the function, not its result")
    return LiveFn(fn, seconds(grace, "grace"))
