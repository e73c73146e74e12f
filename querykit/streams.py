"""A query function from an async generator whose chunks the data grows by."""

from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Any, Final, Literal, TypeVar, overload

from querykit.context import QueryContext
from querykit.fetching import opened
from querykit.flight import takes_context
from querykit.state import NO_DATA, UNSET

__all__ = ["RefetchMode", "StreamFn", "streamed"]

C = TypeVar("C")
D = TypeVar("D")

RefetchMode = Literal["reset", "append", "replace"]
StreamFn = Callable[[], AsyncIterable[C]] | Callable[[QueryContext[Any]], AsyncIterable[C]]

_MODES: Final = ("reset", "append", "replace")


@overload
def streamed(
    fn: StreamFn[C], *, refetch_mode: RefetchMode = ...
) -> Callable[[QueryContext[Any]], Awaitable[list[C]]]: ...
@overload
def streamed(
    fn: StreamFn[C], *, refetch_mode: RefetchMode = ..., reducer: Callable[[D, C], D], initial_value: D
) -> Callable[[QueryContext[Any]], Awaitable[D]]: ...
def streamed(
    fn: StreamFn[Any],
    *,
    refetch_mode: RefetchMode = "reset",
    reducer: Callable[[Any, Any], Any] | None = None,
    initial_value: Any = UNSET,
) -> Callable[[QueryContext[Any]], Awaitable[Any]]:
    """Make a query function of an async generator: its chunks are shown as they come.

    The query is a success from the first chunk on and fetching until the last; a fetch that is cancelled closes
    the generator. A generator that raises fails the fetch: what has come before stays, beside the error.

    Args:
        fn: an async generator function, or what else returns an async iterable; without argument or with one
            `QueryContext`.
        refetch_mode: what a later fetch does with the data there is: `"reset"` takes it away first, `"append"`
            goes on with it, `"replace"` leaves it until the generator has ended.
        reducer: makes the next data of the data and a chunk, without changing either; by default the data is a
            list to which chunks are appended.
        initial_value: the data before the first chunk, where there is a `reducer`.

    Raises:
        TypeError: `fn` cannot be called, or only one of `reducer` and `initial_value` is given.
        ValueError: there is no such `refetch_mode`.

    Example:
        >>> import asyncio
        >>> from querykit.client import QueryClient
        >>> async def words():
        ...     for word in ("to", "be"):
        ...         yield word
        >>> async def main() -> list[str]:
        ...     async with QueryClient() as client:
        ...         return await client.query(("words",), streamed(words))
        >>> asyncio.run(main())
        ['to', 'be']
    """
    if not callable(fn):
        raise TypeError(f"streamed takes an async generator function, not {fn!r}: pass the function, not its result")
    if refetch_mode not in _MODES:
        raise ValueError(f"refetch_mode is one of {_MODES}, not {refetch_mode!r}")
    if (reducer is None) is not (initial_value is UNSET):
        raise TypeError("reducer and initial_value belong together: give both, or neither for a list of the chunks")
    with_context = takes_context(fn)
    reduce: Callable[[Any, Any], Any] = _appended if reducer is None else reducer
    start: Any = [] if reducer is None else initial_value

    async def fetch(context: QueryContext[Any]) -> Any:
        progress = context.progress
        shows = refetch_mode != "replace" or not progress.has_data
        data: Any = start
        if refetch_mode == "reset":
            progress.show(NO_DATA)
        elif refetch_mode == "append" and progress.has_data:
            data = progress.read_old()[0]
        async with opened(fn, *([context] if with_context else [])) as stream:
            async for chunk in stream:
                data = reduce(data, chunk)
                if shows:
                    progress.show(data)
        return data

    return fetch


def _appended(data: list[C], chunk: C) -> list[C]:
    return [*data, chunk]
