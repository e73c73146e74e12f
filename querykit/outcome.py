"""What a mutation comes to, and those who wait for it."""

import asyncio
from typing import Any, Generic, TypeVar, cast

from querykit.flight import Failure, Waited, refuse_cycle
from querykit.identity import Record
from querykit.keys import QueryKey
from querykit.pending import Begun

__all__ = ["Mutated"]

T = TypeVar("T")


class Outcome(Generic[T]):
    """What one mutation comes to, for those who wait for it; they take it even if it was forgotten meanwhile."""

    __slots__ = ("_data", "_failure", "_future", "_label", "_record", "mutation", "readers")

    def __init__(self, record: Record, loop: asyncio.AbstractEventLoop) -> None:
        self.mutation: Waited | None = None
        self.readers: list[Record] = []
        self._label: QueryKey = ()
        self._record = record
        self._future: asyncio.Future[None] = loop.create_future()
        self._data: Any = None
        self._failure: Failure | None = None

    def of(self, mutation: Waited) -> None:
        """Be what `mutation` comes to."""
        self.mutation, self._label = mutation, mutation.label

    def settle(self, data: object, failure: Failure | None) -> None:
        """Wake those who wait."""
        self._data, self._failure, self.mutation = data, failure, None
        self._future.set_result(None)

    async def take(self) -> T:
        """Wait, and return the data or raise the error.

        Raises:
            QueryCycleError: what waits runs inside of what the mutation waits for.
        """
        ledger = self._record.ledger
        reader = ledger.current()
        if self.mutation is not None:
            refuse_cycle(reader, self.mutation)
            if reader is not None:
                self.readers.append(reader)
            try:
                await asyncio.shield(self._future)
            finally:
                if reader is not None:
                    self.readers.remove(reader)
        if self._failure is not None:
            failure = self._failure.made_final() if self._record.is_doomed else self._failure
            failure.throw(self._label)
        ledger.spread(self._record.names)
        return cast("T", self._data)


class Mutated(Begun[T]):
    """A mutation that has begun: awaiting it gives what the function returns, or raises why it failed."""

    __slots__ = ("_outcome",)

    def __init__(self, outcome: Outcome[T]) -> None:
        super().__init__()
        self._outcome = outcome

    async def _ended(self) -> T:
        return await self._outcome.take()
