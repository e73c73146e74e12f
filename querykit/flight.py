"""One running fetch, those who wait, and the pure decisions about both (S1, S2)."""

import asyncio
import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator
from contextvars import Context, copy_context
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, NoReturn, Protocol

from querykit.callables import called, required_parameters
from querykit.context import Fn
from querykit.errors import QueryCancelled, QueryCycleError
from querykit.identity import Record, recording, running_names
from querykit.keys import QueryKey
from querykit.options import ResolvedOptions
from querykit.state import UNSET, Direction

__all__: list[str] = []


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """With what a query is fetched: the function, options and context given last.

    One with a portion fetches only that of an infinite query: the next or the previous page, or some pages again.
    """

    fn: Fn[Any]
    takes_context: bool
    options: ResolvedOptions
    context: Context
    portion: Hashable = None

    @property
    def direction(self) -> Direction | None:
        """Which page more it fetches, if it does."""
        return self.portion if self.portion in ("forward", "backward") else None


def make_source(fn: Fn[Any], options: ResolvedOptions) -> Source:
    """Return the source for a caller's function, in a copy of his context without his record.

    Raises:
        TypeError: `fn` needs more than one argument.
    """
    if options.initial_data is not UNSET and is_bound(options):
        options = replace(options, initial_data=UNSET)
    with recording(None):
        context = copy_context()
    return Source(fn, takes_context(fn), options, context)


def is_bound(options: ResolvedOptions) -> bool:
    """Whether the initial data given now belongs to an identity: it is used once, and not kept for a reset (S3).

    What is declared with an identity but made by a callable is made anew, so that it may be.
    """
    declared = options.identity is not UNSET and not callable(options.initial_data)
    return declared or bool(running_names())


def takes_context(fn: Callable[..., object]) -> bool:
    """Whether `fn` has one required positional parameter, which gets the context.

    Raises:
        TypeError: `fn` has more required parameters than that.
    """
    positional, named = required_parameters(fn)
    if positional > 1 or named:
        raise TypeError(
            f"a query function takes no argument or one QueryContext by position, and {called(fn)} needs "
            f"{positional} by position and {named} by name: bind the others with functools.partial or a lambda"
        )
    return positional == 1


class Target(Protocol):
    """The query that a flight is for, seen from below."""

    key: QueryKey
    waiters: "dict[Waiter, None]"

    def read(self) -> Any:
        """Return the data, or raise that there is none any more."""
        ...

    def forget(self, identity: Hashable) -> None:
        """Let go of everything of `identity`."""
        ...


class Failure:
    """How a flight failed, for those who waited for it.

    One that is `final` is raised even though an identity of its flight was forgotten: it is what a doomed
    flight's waiters get. The record is that of the flight, whose identities its waiters take on.
    """

    __slots__ = ("_context", "_final", "_record", "_trace", "error")

    def __init__(self, error: BaseException, record: Record | None = None, *, final: bool = False) -> None:
        self.error = error
        self._trace: TracebackType | None = error.__traceback__
        self._context = error.__context__
        self._record = record
        self._final = final

    def made_final(self) -> "Failure":
        """Return the same, raised in any case."""
        return Failure(self.error, self._record, final=True)

    def throw(self, key: QueryKey) -> NoReturn:
        """Raise the error; not if one of its identities was forgotten before anybody took it (S3)."""
        record = self._record
        try:
            if record is not None:
                record.ledger.spread(record.names)
                if record.is_doomed and not self._final:
                    raise QueryCancelled(key, "forgotten")
                if self._final:
                    record.ledger.tell()
            # The same object goes to every waiter: without this each would add its frames, and what he was
            # handling at the time, for the next.
            self.error.__context__ = self._context
            raise self.error.with_traceback(self._trace)
        finally:
            del self, record  # else the error holds a frame that holds the error, and its record lives on


class Waiter:
    """One who waits for a query: answered by the first flight that began after the epoch `after`.

    The future only wakes; the answer is taken from the query afterwards, so that what was forgotten
    or replaced between the two is not delivered. One that is `held` cannot be cancelled. One who waits for
    a `doomed` flight waits for that alone; one with a `source` for the portion that it fetches.
    """

    __slots__ = ("after", "done", "doomed", "failure", "future", "held", "readers", "source")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, after: int, reader: Record | None = None, *, held: bool = False
    ) -> None:
        self.after = after
        self.held = held
        self.done = False
        self.failure: Failure | None = None
        self.doomed: Flight | None = None
        self.source: Source | None = None
        self.future: asyncio.Future[None] = loop.create_future()
        self.readers: list[Record] = [] if reader is None else [reader]

    def is_answered_by(self, flight: "Flight") -> bool:
        """Whether what a flight brings is what this one waits for."""
        portion = None if self.source is None else self.source.portion
        return self.after < flight.began and portion == flight.source.portion

    def resolve(self, failure: Failure | None) -> None:
        """Wake with the query's data, or with a failure."""
        self.done = True
        self.failure = failure
        if not self.future.done():
            self.future.set_result(None)

    def reopen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait on: what it was woken for is gone, and another flight is under way."""
        self.done = False
        self.failure = None
        self.future = loop.create_future()

    def wake(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let who awaits this look again."""
        future, self.future = self.future, loop.create_future()
        future.set_result(None)

    async def wait(self) -> None:
        """Wait until there is an answer to take."""
        while not self.done:
            await self.future

    async def wait_shielded(self, unless: Callable[[], bool]) -> None:
        """Wait likewise, unless something else is so; cancelling this leaves the waiter as it is."""
        while not (self.done or unless()):
            await asyncio.shield(self.future)

    def take(self, query: Target) -> Any:
        """Return the data that the query has now, or raise why there is none."""
        failure, self.failure = self.failure, None
        try:
            if failure is not None:
                failure.throw(query.key)
        finally:
            del failure
        return query.read()


class Phase(enum.Enum):
    """Where a flight is in its life."""

    RUNNING = enum.auto()  # its answer counts
    CANCELLED = enum.auto()  # it may still be unwinding; its answer does not count
    DOOMED = enum.auto()  # as above, but left to run, since what doomed it runs inside it
    ENDED = enum.auto()


class Waited(ABC):
    """What runs under a record of its own, and others may wait for: a fetch, or a mutation."""

    __slots__ = ()

    @property
    @abstractmethod
    def label(self) -> QueryKey:
        """What names it in an error."""

    @abstractmethod
    def readers(self) -> Iterator[Record]:
        """Yield the records of those who wait for it."""


class Flight(Waited):
    """One running fetch of a query, retries included."""

    __slots__ = (
        "__weakref__",
        "_waiters",
        "began",
        "failures",
        "is_paused",
        "phase",
        "query",
        "record",
        "restarted",
        "source",
        "task",
    )

    def __init__(self, query: Target, source: Source, record: Record, *, restarted: bool) -> None:
        self.query = query
        self.source = source
        self.record = record
        self.began = record.began
        self.restarted = restarted
        self.phase = Phase.RUNNING
        self.is_paused = False
        self.failures = 0
        self.task: asyncio.Task[Any]
        self._waiters: dict[Waiter, None] = {}
        record.belongs_to(self)
        record.counts_from_its_beginning = True

    @property
    def is_running(self) -> bool:
        """Whether its answer counts."""
        return self.phase is Phase.RUNNING

    def uses(self, identity: Hashable) -> bool:
        """Whether the function has used `identity`, and its answer still counts."""
        return self.phase is Phase.RUNNING and identity in self.record.names

    def forget(self, identity: Hashable) -> None:
        """Let the query go of what is being computed here."""
        if self.phase is Phase.RUNNING:
            self.query.forget(identity)

    def cancel(self) -> None:
        """Stop it; its answer no longer counts."""
        self.phase = Phase.CANCELLED
        self.task.cancel()

    def doom(self, waiters: dict[Waiter, None]) -> None:
        """Let it run on for nothing but its error, which goes to `waiters`."""
        self.phase = Phase.DOOMED
        self._waiters = waiters
        for waiter in waiters:
            waiter.doomed = self

    @property
    def waiters(self) -> dict[Waiter, None]:
        """Those who wait for this flight."""
        if self.phase is Phase.RUNNING:
            return self.query.waiters
        return self._waiters if self.phase is Phase.DOOMED else {}

    @property
    def label(self) -> QueryKey:
        """The key that is fetched."""
        return self.query.key

    def readers(self) -> Iterator[Record]:
        """Yield the records of those who wait for it."""
        for waiter in self.waiters:
            if not waiter.done:
                yield from waiter.readers


class Part:
    """What runs in a task of its own for a flight that waits for it: it is inside of that flight.

    Attributes:
        flight: the flight that waits, or None when it no longer does.
    """

    __slots__ = ("__weakref__", "flight")

    def __init__(self, flight: Flight) -> None:
        self.flight: Flight | None = flight


def _run_of(record: Record) -> Waited | None:
    holder: object = record.holder
    if isinstance(holder, Part):
        return holder.flight
    return holder if isinstance(holder, Waited) else None


class Choice(enum.Enum):
    """What to do for one who wants an answer."""

    BEGIN = enum.auto()  # nothing runs
    JOIN = enum.auto()  # what runs will do
    RESTART = enum.auto()  # what runs is out of date: cancel it and begin anew
    FOLLOW = enum.auto()  # let what runs end first, so that steady invalidation starves nobody


def choose(flight: Flight | None, after: int, *, cancel: bool) -> Choice:
    """Decide what gives an answer begun after the epoch `after`; `cancel` permits a restart.

    Who fetches a portion alone brings nobody all of the data.
    """
    if flight is None:
        return Choice.BEGIN
    if flight.began > after:
        return Choice.JOIN if flight.source.portion is None else Choice.FOLLOW
    return Choice.RESTART if cancel and not flight.restarted else Choice.FOLLOW


def waits(record: Record | None, run: Waited | None) -> list[Waited] | None:
    """Return the chain by which `run` waits for what runs under `record`; None if it does not.

    What runs under `record` is then *inside* of it: it carries the record of `run` itself, or of something that
    this waits for. The chain goes from the record's own fetch or mutation up to `run`.
    """
    first = None if record is None else _run_of(record)
    if run is None or first is None:
        return None
    chains = [[first]]
    seen: set[Waited] = set()
    while chains:
        chain = chains.pop()
        last = chain[-1]
        if last is run:
            return chain
        if last in seen:
            continue
        seen.add(last)
        waiting = [_run_of(reader) for reader in last.readers()]
        chains.extend([*chain, each] for each in waiting if each is not None)
    return None


def refuse_cycle(record: Record | None, run: Waited | None) -> None:
    """Raise if a wait of what runs under `record` for `run` would close a circle.

    Raises:
        QueryCycleError: `run` waits, perhaps through others, for what would wait for it.
    """
    chain = waits(record, run)
    if chain is not None:
        raise QueryCycleError([one.label for one in [chain[0], *reversed(chain)]])
