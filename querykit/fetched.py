"""One key's flights, and those who wait for them: S1's one flight a key, S2's epochs."""

import asyncio
import weakref
from abc import abstractmethod
from collections.abc import Callable, Hashable
from typing import Any, cast

from querykit.context import Progress, QueryContext
from querykit.entry import Cause
from querykit.errors import QueryCancelled, kept
from querykit.fetching import fetch
from querykit.flight import Choice, Failure, Flight, Phase, Source, Waiter, choose, refuse_cycle, waits
from querykit.identity import Record, merged
from querykit.keys import FrozenKey, QueryKey
from querykit.options import ResolvedOptions
from querykit.owner import Owner
from querykit.state import NO_DATA, UNSET, Direction, FetchStatus
from querykit.stored import StoredEntry

__all__: list[str] = []


class FetchedEntry(StoredEntry):
    """One key of the cache, with what fetches it and waits for it.

    Attributes:
        source: what it is fetched with, if it was ever to be fetched.
        flight: the fetch whose answer counts, if one runs.
        waiters: those who wait, or have been woken and not yet taken their answer.
    """

    __slots__ = ("_again", "flight", "source", "waiters")

    def __init__(self, owner: Owner[Any], key: QueryKey, frozen: FrozenKey, defaults: ResolvedOptions) -> None:
        super().__init__(owner, key, frozen, defaults)
        self._again = False
        self.source: Source | None = None
        self.flight: Flight | None = None
        self.waiters: dict[Waiter, None] = {}

    @property
    def fetch_status(self) -> FetchStatus:
        """Whether it is being fetched, or would be if it were not paused."""
        if self.flight is None:
            return "idle"
        return "paused" if self.flight.is_paused else "fetching"

    @property
    def direction(self) -> Direction | None:
        """Which page more is being fetched, if one is."""
        return None if self.flight is None else self.flight.source.direction

    @property
    def is_busy(self) -> bool:
        """Whether it is observed, fetching or waited for: it is then neither collected nor evicted."""
        return bool(self.observers or self.waiters or self.layers) or self.flight is not None

    @property
    def _is_quiet(self) -> bool:
        return self.flight is None

    def uses(self, identity: Hashable) -> bool:
        """Whether the data, the error or the running fetch is of `identity`."""
        return super().uses(identity) or (self.flight is not None and self.flight.uses(identity))

    # Waiting

    def ask(self, source: Source, reader: Record | None = None, *, held: bool = False) -> Waiter:
        """Return a waiter for a caller who did not find the key fresh, and see that an answer comes.

        Raises:
            QueryCycleError: the wait would close a circle of flights.
        """
        refuse_cycle(reader, self.flight)
        self._owner.park(self, frozenset())
        self.source = source
        waiter = self._wait(self.invalidated_epoch, reader, held=held)
        self._demand(source, self.invalidated_epoch, cancel=True)
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """Let a waiter go, answered or not; a flight that nobody wants any more ends."""
        self.waiters.pop(waiter, None)
        self.settle_down()

    def settle_down(self) -> None:
        """End a flight that nobody wants; come to rest if nobody uses the query."""
        if self.observers or self.waiters:
            return
        was_fetching = self.flight is not None
        self._cancel_flight()
        if not self.is_busy:
            self._owner.rests(self)
        if was_fetching:
            self._owner.changed(self, Cause.CANCEL)

    def _wait(self, after: int, reader: Record | None = None, *, held: bool = False) -> Waiter:
        waiter = Waiter(self._owner.loop(), after, reader, held=held)
        self.waiters[waiter] = None
        self._owner.wakes(self)
        return waiter

    def _answer(self, answered: Callable[[Waiter], bool], failure: Failure | None) -> None:
        """Wake those of whom `answered` holds."""
        for waiter in tuple(self.waiters):
            if not waiter.done and answered(waiter):
                waiter.resolve(failure)
                if waiter.held:
                    del self.waiters[waiter]

    def _cancelled(self, why: str, flight: Flight | None = None) -> Failure:
        flight = flight or self.flight
        return Failure(QueryCancelled(self.key, why), None if flight is None else flight.record)

    def _own(self, failure: Failure | None) -> Failure:
        """Return what the waiters of a doomed flight get: its own error, if it has one."""
        return self._cancelled("forgotten") if failure is None else failure.made_final()

    # Fetching

    def _demand(self, source: Source, after: int, *, cancel: bool) -> Choice:
        choice = choose(self.flight, after, cancel=cancel)
        if choice is Choice.BEGIN:
            self._begin(source, restarted=False)
        elif choice is Choice.RESTART:
            self._cancel_flight()
            self._begin(source, restarted=True)
        return choice

    def _begin(self, source: Source, *, restarted: bool) -> None:
        self._again = False
        if not self._owner.holds(self):  # something that ran meanwhile has removed it
            self._answer(_every, self._cancelled("removed"))
            return
        flight = Flight(self, source, Record(self._owner.ledger), restarted=restarted)
        if source.options.identity is not UNSET:
            flight.record.name(source.options.identity)
        context = source.context.copy()
        context.run(flight.record.enter)
        self.flight = flight
        self.count_failure(0, None)
        self._owner.wakes(self)
        with self._owner.delivery:
            self._owner.changed(self, Cause.FETCH)
            if not self._owner.presence.permits(source.options.network_mode, retrying=False):
                self.show_pause(flight, paused=True)
            flight.task = self._owner.spawn(self._run(flight), f"querykit fetch of {self.key!r}", context)

    def _cancel_flight(self) -> None:
        self._again = False
        flight, self.flight = self.flight, None
        if flight is not None:
            flight.cancel()
            self._owner.ledger.unindex(flight.record.names, flight)
            self._fold()

    async def _run(self, flight: Flight) -> None:
        # An eager one runs before who made it knows it.
        task = flight.task = cast("asyncio.Task[Any]", asyncio.current_task())
        try:
            value, context = await fetch(flight, _Progress(self, flight), self._owner, self._failed)
        except asyncio.CancelledError:
            if task.cancelling():
                self._end(flight, self._cancelled("cancelled", flight), quiet=True)
                raise
            self._end(flight, self._cancelled("cancelled by its own function", flight))
        except Exception as error:
            self._end(flight, Failure(error, flight.record))
        except BaseException:
            self._end(flight, self._cancelled("interrupted", flight), quiet=True)
            raise
        else:
            self._end(flight, None, value, context)

    def _failed(self, flight: Flight, failures: int, error: Exception) -> bool:
        if not flight.is_running or flight.record.is_doomed:
            return False
        flight.failures = failures
        self.count_failure(failures, kept(error))
        self.add_identities(flight.record.names)  # the reason stays if the fetch is cancelled
        self._reindex({})
        self._owner.changed(self, Cause.FAILURE)
        return flight.is_running

    def _end(
        self,
        flight: Flight,
        failure: Failure | None,
        value: object = NO_DATA,
        context: QueryContext[Any] | None = None,
        *,
        quiet: bool = False,
    ) -> None:
        """Take what a flight brought: `quiet` failures are told to the waiters only."""
        phase, waiters = flight.phase, flight.waiters
        flight.phase = Phase.ENDED
        self._owner.ledger.unindex(flight.record.names, flight)
        if phase is Phase.DOOMED:
            for waiter in waiters:
                waiter.resolve(self._own(failure))
        elif phase is Phase.RUNNING:
            self.flight = None
            with self._owner.delivery:
                self._settle(flight, failure, value, context, quiet=quiet)

    def _settle(
        self,
        flight: Flight,
        failure: Failure | None,
        value: object,
        context: QueryContext[Any] | None,
        *,
        quiet: bool,
    ) -> None:
        cause = Cause.CANCEL
        if flight.record.is_doomed:  # it has read what was forgotten meanwhile
            failure = self._own(failure if flight.record.was_told else None)
            if self.observers:
                self._owner.park(self, self.parked | flight.record.names.keys())
        elif failure is None and context is not None:
            cause = Cause.SUCCESS
            times = self.valid_at, self.updated_at, self.learned
            is_more = flight.source.portion is not None and self.has_data
            self._store(value, flight.began, flight.record.names, sharing=flight.source.options.structural_sharing)
            if context.validated is NO_DATA or context.validated is value:
                self.validators = context.new_validators
            self.learned = context.stale_time or 0.0
            if is_more:  # the other pages are no younger for it
                self.valid_at, self.updated_at, self.learned = times
        elif failure is not None and not quiet:
            cause = Cause.ERROR
            self.fail(kept(failure.error), self._owner.now(), flight.began, flight.record.names)
            self.error_direction = flight.source.direction
            self._reindex({})
        self._fold()
        self._answer(lambda waiter: waiter.is_answered_by(flight), failure)
        self._owner.changed(self, cause)
        self._go_on()

    def _go_on(self) -> None:
        """After an answer: fetch again for those whom it did not answer, else come to rest."""
        wanted = [waiter.source for waiter in self.waiters if not waiter.done]
        if self._again and self.observers and not self.parked:
            wanted.append(None)
        source = (wanted[0] or self.source) if wanted else None
        if self.flight is None and source is not None:
            self._owner.park(self, frozenset())
            self._begin(source, restarted=source.portion is not None)  # what has waited is not held up again
        elif not self.is_busy:
            self._owner.rests(self)

    def show_pause(self, flight: Flight, *, paused: bool) -> None:
        if flight.is_running and flight.is_paused is not paused:
            flight.is_paused = paused
            self._owner.changed(self, Cause.PAUSE if paused else Cause.CONTINUE)
            for waiter in self.waiters if paused else ():
                if waiter.held:
                    waiter.wake(self._owner.loop())  # a pause may last: who awaits what a method began goes on

    def show_progress(self, flight: Flight, data: object) -> None:
        """Show what a running fetch has so far; NO_DATA: nothing any more."""
        if not flight.is_running or flight.record.is_doomed:
            return
        if data is NO_DATA:
            if self.status != "pending":
                self._blank(flight.began)
                self._owner.changed(self, Cause.RESET)
        else:
            self._store(data, flight.began, flight.record.names, sharing=False)
            self._owner.changed(self, Cause.SET)

    def _release(self, record: Record | None, failure: Failure | None) -> None:
        """End the flight: its waiters get `failure`, or the data; from inside it is doomed and keeps them."""
        for waiter in self.waiters:  # who was woken and has not yet taken his answer waits as well
            if waiter.done and waiter.failure is None:
                waiter.failure = failure
        flight = self.flight
        if flight is not None and waits(record, flight) is not None:
            pending = {waiter: None for waiter in self.waiters if not waiter.done}
            for waiter in pending:
                del self.waiters[waiter]
            flight.doom(pending)
            self.flight, self._again = None, False
            self._owner.ledger.unindex(flight.record.names, flight)
            self._fold()
        else:
            self._cancel_flight()
            self._answer(_every, failure)

    def forget(self, identity: Hashable) -> None:
        """The same for what was computed under `identity`; where observed, it is parked.

        Fetches that wait for this one go with it: what they would make of its absence is of that identity too.
        """
        if not self.uses(identity):
            return
        names = self.names
        self._strip()
        if self.flight is not None:
            self.flight.record.take_on(names)  # it goes with its entry, whatever it has named itself
            names = merged(names, self.flight.record.names)
        for reader in [reader for waiter in self.waiters for reader in waiter.readers]:
            reader.take_on(names)
            if (fetch := reader.holder) is not None:
                fetch.forget(identity)
        if self.observers:
            self._owner.park(self, self.parked | names.keys())
        self._empty(self._owner.ledger.current(), "forgotten", Cause.FORGET)

    def _empty(self, record: Record | None, why: str, cause: Cause) -> None:
        self._owner.note_removed(self.frozen, self._owner.ledger.tick(), exact=True)
        self._release(record, self._cancelled(why))
        self._blank()
        if not (self.observers or self.layers):  # a pending change waits for data to change
            self._owner.drop(self)
        self._owner.changed(self, cause)

    @abstractmethod
    async def go_live(self, flight: Flight, fn: Any, context: QueryContext[Any]) -> Any:
        """Start a live source for a flight, and return its first value."""

    def vanish(self) -> None:
        """Let go of everything, since the cache does."""
        self._strip()
        self._blank()


def _every(waiter: Waiter) -> bool:
    """Wake all."""
    del waiter
    return True


class _Progress(Progress):
    """What one fetch's function may do to its entry while it runs; a live source keeps it longer than the fetch."""

    def __init__(self, query: FetchedEntry, flight: Flight) -> None:
        self._query = query
        self._flight = weakref.ref(flight)
        self._direction: Direction | None = flight.source.direction

    @property
    def direction(self) -> Direction | None:
        return self._direction

    @property
    def has_data(self) -> bool:
        return self._query.base is not NO_DATA

    def read_old(self) -> tuple[object, object]:
        return self._query.read_old()

    def paused(self, paused: bool) -> None:
        if (flight := self._flight()) is not None:
            self._query.show_pause(flight, paused=paused)

    async def go_live(self, fn: Any, context: Any) -> Any:
        flight = self._flight()
        if flight is None or not flight.is_running:
            raise QueryCancelled(self._query.key, "over")
        return await self._query.go_live(flight, fn, context)

    def show(self, data: object) -> None:
        if (flight := self._flight()) is not None:
            self._query.show_progress(flight, data)
