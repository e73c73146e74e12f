"""A query function from an async generator whose chunks the data grows by."""

from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Any, Final, Literal, TypeVar, overload

from querykit.context import PerFetch, Progress, QueryContext
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
    the generator. A generator that raises fails the fetch: what has come before stays, beside the error. A retry
    begins again with the data that its fetch has found, so that no chunk of a failed attempt counts; to what a
    fetch has shown that was cancelled, or failed for good, the next one of mode `"append"` adds its chunks.

    Args:
        fn: an async generator function, or what else returns an async iterable; without argument or with one
            `QueryContext`.
        refetch_mode: what a later fetch does with the data there is: `"reset"` takes it away first, `"append"`
            goes on with it, `"replace"` leaves it until the generator has ended.
        reducer: makes the next data of the data and a chunk, without changing either; by default the data is a
            list to which chunks are appended: a new one for each chunk, which copies what there is.
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
    return _Stream(
        fn, refetch_mode, _appended if reducer is None else reducer, [] if reducer is None else initial_value
    )


class _Stream(PerFetch):
    """The query function that `streamed` makes."""

    def __init__(
        self, fn: StreamFn[Any], refetch_mode: RefetchMode, reducer: Callable[[Any, Any], Any], start: Any
    ) -> None:
        self._fn = fn
        self._takes_context = takes_context(fn)
        self._refetch_mode = refetch_mode
        self._reducer = reducer
        self._start = start

    def for_one_fetch(self) -> Callable[[QueryContext[Any]], Awaitable[Any]]:
        """Return what makes attempts that all begin with what the first one found."""
        found: tuple[bool, Any] | None = None

        async def fetch(context: QueryContext[Any]) -> Any:
            nonlocal found
            found = found or self._found(context.progress)
            shows, data = found
            if self._refetch_mode == "reset":
                context.progress.show(NO_DATA)
            async with opened(self._fn, *([context] if self._takes_context else [])) as stream:
                async for chunk in stream:
                    data = self._reducer(data, chunk)
                    if shows:
                        context.progress.show(data)
            return data

        return fetch

    def _found(self, progress: Progress) -> tuple[bool, Any]:
        """Return whether chunks are shown as they come, and the data that the first is added to."""
        if self._refetch_mode == "append" and progress.has_data:
            return True, progress.read_old()[0]
        return self._refetch_mode != "replace" or not progress.has_data, self._start


def _appended(data: list[C], chunk: C) -> list[C]:
    return [*data, chunk]
