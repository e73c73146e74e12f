"""One key's life: its flights, those who wait, those who observe. The rows of design S2's table are methods."""

import asyncio
import math
from collections.abc import Callable
from typing import Any, TypeVar

from querykit.callables import called
from querykit.checks import stale_time
from querykit.entry import Cause
from querykit.fetching import refuse_unusable
from querykit.flight import Choice, Source, Waiter, waits
from querykit.identity import Identities, Ledger, Record, merged, recording
from querykit.keys import QueryKey
from querykit.living import LiveEntry
from querykit.options import ResolvedOptions
from querykit.owner import Observer
from querykit.state import UNSET, QueryState, StaleTime

__all__ = ["Query"]

T = TypeVar("T")


class Query(LiveEntry):
    """One key of the cache, with what fetches it, waits for it and observes it: see `FetchedEntry`."""

    __slots__ = ()

    # What others may know

    @property
    def is_active(self) -> bool:
        """Whether an observer wants it fetched."""
        observers = self.observers and tuple(self.observers)  # a rule of one may close others
        return any(observer.enabled for observer in observers) if observers else False

    @property
    def is_disabled(self) -> bool:
        """Whether it is observed, but by nobody who wants it fetched."""
        return bool(self.observers) and not self.is_active

    @property
    def is_static(self) -> bool:
        """Whether an observer takes its data, if there is any, as never stale."""
        return self.has_data and any(observer.stale_time == "static" for observer in tuple(self.observers))

    def is_stale(self, now: float) -> bool:
        """Whether it is stale to an observer; unobserved: whether it has no data or was invalidated."""
        if self.observers:
            wanting = [observer for observer in tuple(self.observers) if observer.enabled]
            return any(not self.is_fresh(observer.stale_time, now) for observer in wanting)
        return not self.is_fresh(math.inf, now)

    def is_fresh_by(self, options: ResolvedOptions, now: float) -> bool:
        """Whether the data is fresh to a caller with these options."""
        return self.is_fresh(self.stale_time_by(options), now)

    def stale_time_by(self, options: ResolvedOptions) -> StaleTime:
        """Return the stale time that the options say, or 0 where their rule raises, which is reported."""
        rule = options.stale_time
        otherwise: StaleTime = 0.0
        return self.ruled("stale_time", rule, stale_time, otherwise) if callable(rule) else rule

    def ruled(self, name: str, rule: Callable[[Any], object], check: Callable[[object, str], T], otherwise: T) -> T:
        """Return what the rule of an option says of this query; if it raises, report that and return `otherwise`."""
        try:
            return check(rule(self), name)
        except (Exception, asyncio.CancelledError) as error:
            self._owner.report(f"{name} of {self.key!r}: {called(rule)} raised {type(error).__name__}", error)
            return otherwise

    @property
    def state(self) -> QueryState[Any]:
        """A snapshot of the state; a function that reads it takes on its identities (S3)."""
        self.spread()
        return self.snapshot(self.fetch_status)

    def __repr__(self) -> str:
        return f"<Query {self.key!r} {self.status} {self.fetch_status}>"

    # Observing

    def attach(self, observer: Observer) -> None:
        """Add an observer."""
        self.observers[observer] = None
        self._owner.watched(self, observed=True)
        self._owner.wakes(self)
        self._mind_live()
        self._owner.changed(self, Cause.OBSERVE)

    def mount(self, source: Source, *, wanted: bool) -> None:
        """Take an observer's source; fetch if it did not find the key fresh. A parked query stays as it is."""
        self.source = source
        if wanted or self.lacks_source:
            self.want()
        self._mind_live()

    def want(self) -> None:
        """Fetch for the observers, if it can be: what runs already will do, unless it is out of date."""
        source = self.source
        if source is None or self.parked:
            return
        if self._demand(source, self.invalidated_epoch, cancel=True) is Choice.FOLLOW:
            self._again = True

    def detach(self, observer: Observer) -> None:
        """Take an observer out."""
        if self.observers.pop(observer, UNSET) is None:
            if not self.observers:
                self._owner.watched(self, observed=False)
            self._owner.changed(self, Cause.LEAVE)
            self.settle_down()

    # Changing: each method is a row of the table under S2

    def set(self, data: object, record: Record | None, identities: Identities, *, age: float) -> None:
        """Write data by hand: progress from inside a flight, else the answer to all who wait.

        What another query's function writes counts as begun with its flight. A declared identity counts for
        what is set by hand too.
        """
        options = self.defaults if self.source is None else self.source.options
        if options.identity is not UNSET:
            identities = merged(identities, {options.identity: self._owner.ledger.epoch})
        flight = self.flight
        inside = flight is not None and waits(record, flight) is not None
        epoch = self.epoch_by(record, self._owner.ledger.tick())
        if self.epoch > epoch:
            return
        self._store(data, epoch, identities, age=age, sharing=options.structural_sharing)
        if not inside:
            if flight is not None and flight.began < epoch:
                self._cancel_flight()
            self._answer(lambda waiter: waiter.after < epoch, None)
        self._owner.changed(self, Cause.SET)
        if not inside:
            self._go_on()

    def epoch_by(self, record: Record | None, now: int) -> int:
        """Return the epoch from which on something counts that is set at `now` by what runs under `record`."""
        if self.flight is not None and waits(record, self.flight) is not None:
            return self.flight.began
        return record.began if record is not None and record.counts_from_its_beginning else now

    def start_with(self, initial: tuple[object, Record] | None, options: ResolvedOptions) -> bool:
        """Take initial data, if there is any and nothing else yet; return whether that is so."""
        if initial is None or self.has_data:
            return False
        data, record = initial
        self._store(data, record.began, record.names, age=options.initial_data_age, sharing=False)
        self.update_count = 0  # it is no answer
        return True

    def refetch(self, record: Record | None, *, after: int | None = None, cancel: bool) -> Waiter | None:
        """Fetch again, for nobody in particular: `after` an invalidation's epoch, or any new answer.

        Returns a held waiter, or None where nothing may or can be fetched.
        """
        if self.parked or self.source is None:
            return None
        flight = self.flight
        if waits(record, flight) is not None:
            return None if after is not None else self._wait(self.invalidated_epoch, held=True)
        if after is None:
            first_load = flight is not None and flight.began > self.invalidated_epoch and not self.has_data
            joins = flight is None or first_load or not cancel
            after = self.invalidated_epoch if joins else self._owner.ledger.tick()
        waiter = self._wait(after, held=True)
        self._demand(self.source, after, cancel=cancel)
        return waiter

    def refetch_anew(self, source: Source, record: Record | None, *, cancel: bool) -> Waiter | None:
        """Fetch for an observer who asks for it by hand, even if it is parked or disabled; not from inside."""
        if waits(record, self.flight) is not None:
            return None
        self._owner.park(self, frozenset())
        self.source = source
        return self.refetch(record, cancel=cancel)

    def fetch_portion(self, source: Source, record: Record | None, *, join: bool) -> Waiter | None:
        """Fetch a portion: what fetches the same one already will do if `join`, and what else runs ends first.

        Returns a held waiter, or None where this is called from inside the fetch that runs.
        """
        flight = self.flight
        if waits(record, flight) is not None:
            return None
        self._owner.park(self, frozenset())
        after = flight.began - 1 if join and flight is not None else self._owner.ledger.tick()
        waiter = self._wait(after, held=True)
        waiter.source = source
        if flight is None:
            self._begin(source, restarted=False)
        return waiter

    def cancel(self, record: Record | None) -> None:
        """Stop the fetch; the data, the error and the flags stay."""
        if self.flight is not None:
            self._release(record, None if self.has_data else self._cancelled("cancelled"))
            self._stop_connecting()
            self._owner.changed(self, Cause.CANCEL)
            self.settle_down()

    def remove(self, record: Record | None) -> None:
        """Leave the cache; where observed, become a blank entry."""
        self._empty(record, "removed", Cause.REMOVE)

    def reset(self, record: Record | None) -> Waiter | None:
        """Go back to the initial state; where observed, fetch anew for those who wait as well.

        Returns a held waiter where it fetches.
        """
        options = self.defaults if self.source is None else self.source.options
        try:
            initial = initial_data(options, self._owner.ledger, self.key)
        except Exception as error:
            self._owner.report(f"initial_data of {self.key!r} raised {type(error).__name__} at a reset", error)
            initial = None
        self._owner.note_removed(self.frozen, self._owner.ledger.tick(), exact=True)
        anew = self.is_active and self.source is not None and not self.parked
        if not anew or waits(record, self.flight) is not None:
            self._release(record, self._cancelled("reset"))
        else:
            self._cancel_flight()
            for waiter in self.waiters:
                waiter.source = None  # a portion comes with the whole
                if waiter.done:
                    waiter.reopen(self._owner.loop())
        self._blank()
        self.start_with(initial, options)
        self._owner.changed(self, Cause.RESET)
        held = self._wait(self.invalidated_epoch, held=True) if anew else None
        self._go_on()
        return held

    def restart(self) -> Waiter | None:
        """Fetch again what was parked, if an observer still wants it."""
        self._owner.park(self, frozenset())
        return self.refetch(None, cancel=True) if self.is_active else None

    def close(self, record: Record | None) -> None:
        """The client ends."""
        self._release(record, self._cancelled("closed with its client"))
        for observer in tuple(self.observers):
            observer.closed()
        self.observers.clear()
        self._strip()
        self._blank()


def initial_data(options: ResolvedOptions, ledger: Ledger, key: QueryKey) -> tuple[object, Record] | None:
    """Return the initial data that the options give, with the record of how it came; None if they give none."""
    data: Any = options.initial_data
    given = None if data is UNSET else ledger.written_by()
    if given is None:
        return None
    record = Record(ledger)
    record.take_on(given)
    if options.identity is not UNSET:
        record.name(options.identity)
    if callable(data):
        with recording(record):
            data = data()
    refuse_unusable(data, key)
    return None if record.is_doomed else (data, record)
