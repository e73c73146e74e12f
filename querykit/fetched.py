"""One key's flights, and those who wait for them: S1's one flight a key, S2's epochs."""

import asyncio
from collections.abc import Hashable
from typing import Any, cast

from querykit.context import QueryContext
from querykit.entry import Cause, Entry
from querykit.errors import QueryCancelled, kept
from querykit.fetching import fetch
from querykit.flight import Choice, Failure, Flight, Phase, Source, Waiter, choose, refuse_cycle, waits
from querykit.identity import Identities, Record, merged
from querykit.keys import FrozenKey, QueryKey
from querykit.options import ResolvedOptions
from querykit.owner import Observer, Owner
from querykit.sharing import share
from querykit.state import NO_DATA, UNSET

__all__: list[str] = []


class FetchedEntry(Entry):
    """One key of the cache, with what fetches it, waits for it and observes it.

    Attributes:
        defaults: the options of this key for calls that give none.
        source: what it is fetched with, if it was ever to be fetched.
        flight: the fetch whose answer counts, if one runs.
        waiters: those who wait, or have been woken and not yet taken their answer.
        observers: those who follow it; they keep a flight alive.
        gc_time: the longest time, ever given, to keep it unused.
        rests: whether it waits, unused, to be collected.
        touched: whether it was used since it came to rest.
        parked: the identities whose forgetting emptied it while observed; nothing fetches it then.
        tags: the marks by which it is found.
    """

    __slots__ = (
        "_again",
        "_owner",
        "defaults",
        "flight",
        "gc_time",
        "observers",
        "parked",
        "rests",
        "source",
        "tags",
        "touched",
        "waiters",
    )

    def __init__(self, owner: Owner[Any], key: QueryKey, frozen: FrozenKey, defaults: ResolvedOptions) -> None:
        super().__init__(key, frozen)
        self._owner = owner
        self.defaults = defaults
        self._again = False
        self.source: Source | None = None
        self.flight: Flight | None = None
        self.waiters: dict[Waiter, None] = {}
        self.observers: dict[Observer, None] = {}
        self.gc_time = defaults.gc_time
        self.rests = False
        self.touched = False
        self.parked: frozenset[Hashable] = frozenset()
        self.tags: frozenset[Hashable] = frozenset()

    @property
    def is_busy(self) -> bool:
        """Whether it is observed, fetching or waited for: it is then neither collected nor evicted."""
        return bool(self.observers or self.waiters) or self.flight is not None

    def uses(self, identity: Hashable) -> bool:
        """Whether the data, the error or the running fetch is of `identity`."""
        return super().uses(identity) or (self.flight is not None and self.flight.uses(identity))

    def read_old(self) -> tuple[object, object]:
        """Return the data and its validators to the function that fetches their successor."""
        self.spread()
        return self.data, self.validators

    def read(self) -> Any:
        """Return the data to a caller.

        Raises:
            QueryCancelled: there is none any more.
        """
        self.spread()
        if self.data is NO_DATA:
            raise QueryCancelled(self.key, "removed")
        return self.data

    def spread(self) -> None:
        """Let the running function take on the identities of what it reads here."""
        if self.identities:
            self._owner.ledger.spread(self.identities)

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
        self._owner.rests(self)
        if was_fetching:
            self._owner.changed(self, Cause.CANCEL)

    def _wait(self, after: int, reader: Record | None = None, *, held: bool = False) -> Waiter:
        waiter = Waiter(self._owner.loop(), after, reader, held=held)
        self.waiters[waiter] = None
        self._owner.wakes(self)
        return waiter

    def _answer(self, epoch: int | None, failure: Failure | None) -> None:
        """Wake those who may take an answer that began at `epoch`; None wakes all."""
        for waiter in tuple(self.waiters):
            if not waiter.done and (epoch is None or waiter.after < epoch):
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
            self._answer(None, self._cancelled("removed"))
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
            flight.task = self._owner.spawn(self._run(flight), f"querykit fetch of {self.key!r}", context)

    def _cancel_flight(self) -> None:
        self._again = False
        flight, self.flight = self.flight, None
        if flight is not None:
            flight.cancel()
            self._owner.ledger.unindex(flight.record.names, flight)

    async def _run(self, flight: Flight) -> None:
        # An eager one runs before who made it knows it.
        task = flight.task = cast("asyncio.Task[Any]", asyncio.current_task())
        try:
            value, context = await fetch(flight, self, self._owner, self._failed)
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
            self._store(value, flight.began, flight.record.names, sharing=flight.source.options.structural_sharing)
            if context.validated is NO_DATA or context.validated is value:
                self.validators = context.new_validators
            self.learned = context.stale_time or 0.0
        elif failure is not None and not quiet:
            cause = Cause.ERROR
            self.fail(kept(failure.error), self._owner.now(), flight.record.names)
            self._reindex({})
        self._answer(flight.began, failure)
        self._owner.changed(self, cause)
        self._go_on()

    def _go_on(self) -> None:
        """After an answer: fetch again for those whom it did not answer, else come to rest."""
        wanted = any(not waiter.done for waiter in self.waiters) or (self._again and self.observers and not self.parked)
        if wanted and self.flight is None and self.source is not None:
            self._owner.park(self, frozenset())
            self._begin(self.source, restarted=False)
        elif not self.is_busy:
            self._owner.rests(self)

    def _store(
        self, data: object, epoch: int, identities: Identities, *, age: float = 0.0, sharing: bool = True
    ) -> None:
        old, names = self.data, self.identities
        if sharing and old is not NO_DATA:
            data = share(old, data)
        self.accept(data, updated_at=self._owner.now() - age, epoch=epoch, identities=dict(identities))
        self._reindex(names)

    def _reindex(self, before: Identities) -> None:
        ledger = self._owner.ledger
        for identity in self.identities:
            ledger.index(identity, self)
        if before:
            ledger.unindex(before, self)

    def _blank(self) -> None:
        names = self.identities
        self.blank()
        self._owner.ledger.unindex(names, self)

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
        else:
            self._cancel_flight()
            self._answer(None, failure)

    def forget(self, identity: Hashable) -> None:
        """The same for what was computed under `identity`; where observed, it is parked.

        Fetches that wait for this one go with it: what they would make of its absence is of that identity too.
        """
        if not self.uses(identity):
            return
        names = self.identities
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
        if not self.observers:
            self._owner.drop(self)
        self._owner.changed(self, cause)

    def vanish(self) -> None:
        """Let go of everything, since the cache does."""
        self._blank()
