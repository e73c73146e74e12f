"""What a client method returns that has acted already: await it or not."""

from abc import abstractmethod
from collections.abc import Coroutine, Generator, Sequence
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from querykit.errors import QueryCycleError
from querykit.flight import Waiter, refuse_cycle
from querykit.identity import Ledger
from querykit.query import Query

__all__ = ["Begun", "Pending"]

R_co = TypeVar("R_co", covariant=True)


class Begun(Coroutine[Any, Any, R_co]):
    """What has acted when it is made, and ends with what it began; a subclass says in `_ended` when that is.

    Not awaiting it is fine; `asyncio.create_task` and `TaskGroup` take it, as they take a coroutine.
    """

    __slots__ = ("_coro",)

    def __init__(self) -> None:
        self._coro: Coroutine[Any, Any, R_co] | None = None

    @abstractmethod
    async def _ended(self) -> R_co:
        """Wait for the end."""

    def __await__(self) -> Generator[Any, Any, R_co]:
        return self._ended().__await__()

    def _started(self) -> Coroutine[Any, Any, R_co]:
        if self._coro is None:
            self._coro = self._ended()
        return self._coro

    def send(self, value: Any) -> Any:
        """Go on, as a coroutine does."""
        return self._started().send(value)

    def throw(self, kind: Any, value: BaseException | object = None, trace: TracebackType | None = None) -> Any:
        """Raise inside, as in a coroutine."""
        del trace
        return self._started().throw(kind if value is None else value)  # type: ignore[arg-type]

    def close(self) -> None:
        """Stop waiting; what was begun goes on."""
        if self._coro is not None:
            self._coro.close()


class Pending(Begun[None]):
    """Ends when the fetches that a client method began have ended, or are paused.

    The method has done its work when it returns this: not awaiting it loses nothing, and an error of a fetch
    is on its query's state.
    """

    __slots__ = ("_awaits", "_ledger", "_never_raises", "_throw_on_error")

    def __init__(
        self,
        ledger: Ledger,
        awaits: Sequence[tuple[Query, Waiter]] = (),
        *,
        throw_on_error: bool = False,
        never_raises: bool = False,
    ) -> None:
        super().__init__()
        self._ledger = ledger
        self._awaits = awaits
        self._throw_on_error = throw_on_error
        self._never_raises = never_raises

    async def _ended(self) -> None:
        record = self._ledger.current()
        for query, waiter in self._awaits:
            if waiter.done or _is_paused(query):  # which may last: its waiter holds it
                continue
            try:
                refuse_cycle(record, waiter.doomed or query.flight)
            except QueryCycleError:
                if self._never_raises:
                    return
                raise
            if record is not None:
                waiter.readers.append(record)
            try:
                await waiter.wait_shielded(partial(_is_paused, query))
            finally:
                if record is not None:
                    waiter.readers.remove(record)
        if self._throw_on_error:
            for query, waiter in self._awaits:
                if waiter.failure is not None:
                    waiter.failure.throw(query.key)


def _is_paused(query: Query) -> bool:
    return query.fetch_status == "paused"
