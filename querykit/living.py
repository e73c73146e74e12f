"""One key's live source: it runs in a task of its own, beside the fetches, each of which starts it anew."""

import asyncio
import inspect
import math
from collections.abc import Callable, Hashable
from typing import Any, cast

from querykit.context import QueryContext
from querykit.entry import Cause
from querykit.errors import QueryCancelled, SourceEnded, kept
from querykit.fetched import FetchedEntry
from querykit.fetching import opened, refuse_unusable
from querykit.flight import Flight, Part, Source
from querykit.identity import Identities, Ledger, Record, recording
from querykit.keys import FrozenKey, QueryKey
from querykit.live import LiveFn
from querykit.options import ResolvedOptions
from querykit.owner import Owner
from querykit.retry import BASE_DELAY, MAX_DELAY
from querykit.state import NEVER, NO_DATA, UNSET, LivePhase, LiveState, skip
from querykit.timetable import Appointment

__all__: list[str] = []


class Run(Part):
    """One run of a live query's source.

    Attributes:
        fn: what is run.
        context: what the source may know of the fetch that started it.
        record: under which it runs.
        options: those of the fetch that started it.
        flight: the fetch that waits for its first value, or None once that has come.
        is_connected: whether the first value has come.
        began: when it started.
        error: why it ended.
        has_ended: whether it did so by itself.
    """

    __slots__ = (
        "began",
        "context",
        "error",
        "first",
        "fn",
        "has_ended",
        "is_connected",
        "options",
        "query",
        "record",
        "task",
    )

    def __init__(
        self,
        query: "LiveEntry",
        fn: LiveFn[Any],
        context: QueryContext[Any],
        flight: Flight,
        ledger: Ledger,
        now: float,
    ) -> None:
        super().__init__(flight)
        self.query = query
        self.fn = fn
        self.context = context
        self.record = Record(ledger)
        self.began = now
        self.error: BaseException | None = None
        self.has_ended = self.is_connected = False
        self.options = flight.source.options
        self.first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[Any] | None = None
        self.record.belongs_to(self)
        if self.options.identity is not UNSET:
            self.record.name(self.options.identity)

    def uses(self, identity: Hashable) -> bool:
        """Whether the source has used `identity`, and its values still count."""
        return self.query.run is self and identity in self.record.names

    def forget(self, identity: Hashable) -> None:
        """Let the query go of what this has brought."""
        self.query.forget(identity)

    async def pass_on(self) -> None:
        """Give the source's values to the query, until it ends or the query wants no more."""
        task = self.task = cast("asyncio.Task[Any]", asyncio.current_task())  # an eager one runs before it is known
        try:
            async with opened(self.fn.fn, *([self.context] if self.fn.takes_context else [])) as values:
                async for value in values:
                    if not self.query.receive(self, value):
                        break
        except asyncio.CancelledError as error:
            if task.cancelling():
                self.end()
                raise
            self.error = error
        except Exception as error:
            self.error = error
        self.end()

    def end(self) -> None:
        """It runs no more: the query is told, and the fetch that waits for it."""
        if not self.first.get_loop().is_closed():  # else nobody is left to be told
            self.query.ran_out(self)
            self.answer()

    def answer(self) -> None:
        """Let the fetch go on that waits for the first value: it has come, or will not."""
        if not self.first.done():
            self.first.set_result(None)

    def cancel(self) -> None:
        """End it; one that stops itself ends at its next value.

        Until its first value it is inside of the fetch that waits for it, child tasks included: that is not cancelled.
        """
        inside = not self.is_connected and self.record.ledger.current() is self.record
        if self.task is not None and not inside and self.task is not _current_task():
            self.task.cancel()
        self.answer()


class LiveEntry(FetchedEntry):
    """A key of the cache whose data may be pushed.

    Attributes:
        run: the source that runs, if one does.
    """

    __slots__ = ("_failures", "_live_state", "_phase", "_reminder", "run")

    def __init__(self, owner: Owner[Any], key: QueryKey, frozen: FrozenKey, defaults: ResolvedOptions) -> None:
        super().__init__(owner, key, frozen, defaults)
        self.run: Run | None = None
        self._phase: LivePhase | None = None
        self._live_state: LiveState | None = None
        self._failures = 0
        self._reminder: Appointment | None = None

    @property
    def is_live(self) -> bool:
        """Whether values come."""
        return self.run is not None and self.run.is_connected

    @property
    def lacks_source(self) -> bool:
        """Whether a live source should run for those who observe it, and none does."""
        return self._is_wanted and self.run is None and self.flight is None

    @property
    def live_state(self) -> LiveState | None:
        """What its live source is doing; None if it never had one. The same object until it changes."""
        return self._live_state

    @property
    def _is_wanted(self) -> bool:
        """Whether who observes wants a source to run: the function given last decides."""
        is_live = self.source is not None and isinstance(self.source.fn, LiveFn)
        # A rule of one observer may close others.
        return is_live and not self.parked and any(observer.enabled for observer in tuple(self.observers))

    @property
    def _is_quiet(self) -> bool:
        return super()._is_quiet and not self.is_live

    def uses(self, identity: Hashable) -> bool:
        """Whether the data, the error, the running fetch or the live source is of `identity`."""
        return super().uses(identity) or (self.run is not None and identity in self.run.record.names)

    def forget(self, identity: Hashable) -> None:
        """Let go of what was computed under `identity`, the running source included."""
        if self.run is not None and self.uses(identity):
            self.add_identities(self.run.record.names)
        super().forget(identity)

    # The source

    async def go_live(self, flight: Flight, fn: LiveFn[Any], context: QueryContext[Any]) -> Any:
        """Run the source anew for a fetch; return when it has brought its first value."""
        if self.run is not None:  # its data is no longer fresh of itself
            self._end_run()
            self._owner.changed(self, Cause.LIVE)
        run = self.run = Run(self, fn, context, flight, self._owner.ledger, self._owner.now())
        task_context = flight.source.context.copy()
        task_context.run(run.record.enter)
        run.task = self._owner.spawn(run.pass_on(), f"querykit live source of {self.key!r}", task_context)
        await run.first
        flight.record.take_on(run.record.names)
        if run.error is not None:
            raise run.error
        if not run.is_connected:
            raise SourceEnded(self.key) if run.has_ended else QueryCancelled(self.key, "stopped")
        return self.data

    def receive(self, run: Run, value: Any) -> bool:
        """Take a value of the source; False if it need bring no more."""
        if self.run is not run or run.record.is_doomed:
            return False
        with self._owner.delivery:
            value = self._valued(run, value)
            if self.run is not run or run.record.is_doomed:  # the updater has removed what it was to update
                return False
            if value is skip:
                return True
            flight, run.flight = run.flight, None
            if not run.is_connected:
                run.is_connected = True
                self._enter("live" if run.record.began > self.invalidated_epoch else "stale")
            if flight is not None and flight.is_running:
                flight.record.take_on(run.record.names)
                self._end(flight, None, value, run.context)
                run.answer()
            else:
                self._push(run, value)
        return True

    def _valued(self, run: Run, value: Any) -> Any:
        if callable(value):
            base = self.known(self._owner.ledger.tick())
            if base is NO_DATA:
                raise TypeError(f"the first value of the live query {self.key!r} is data, not the updater {value!r}")
            run.record.take_on(self.names)
            with recording(run.record):
                value = value(base)
        if inspect.isawaitable(value):
            raise TypeError(f"the live query {self.key!r} got {value!r}: await it before you yield it")
        refuse_unusable(value, self.key)
        return value

    def _push(self, run: Run, value: object) -> None:
        epoch, sharing = self._owner.ledger.tick(), run.options.structural_sharing
        self._store(value, epoch, run.record.names, sharing=sharing)
        if run.record.began <= self.invalidated_epoch:
            self.valid_at = NEVER
        self._owner.changed(self, Cause.SUCCESS)
        self.settle_down()

    def ran_out(self, run: Run) -> None:
        """The source has ended: it is started again, if anybody observes it."""
        if self.run is not run:
            return
        now, run.has_ended = self._owner.now(), True
        self._failures = 1 if run.is_connected and now - run.began >= MAX_DELAY else self._failures + 1
        error = None if run.record.is_doomed else run.error
        with self._owner.delivery:
            self._let_go(run)
            self._remind(None)
            if error is not None:  # it is kept, and goes with what the source has used
                self.add_identities(run.record.names)
                self._reindex({})
            self._enter("retrying", error)
            self.settle_down()

    def _end_run(self) -> None:
        if (run := self.run) is not None:
            run.cancel()
            self._let_go(run)

    def _let_go(self, run: Run) -> None:
        self.run = None
        self._owner.ledger.unindex(run.record.names, run)
        if self.valid_at == math.inf:  # it was current until now
            self.valid_at = self._owner.now()
        self._fold()

    def _stop_connecting(self) -> None:
        """End a source that has brought nothing yet."""
        if not self.is_live:
            self._stop()

    def _stop(self) -> None:
        """End the source at once."""
        self._remind(None)
        self._end_run()
        self._failures = 0
        if self._phase is not None:
            self._enter("stopped")

    def _enter(self, phase: LivePhase, error: BaseException | None = None) -> None:
        known = self._live_state
        self._phase = phase
        if error is not None or known is None or known.phase != phase:
            last = None if known is None or phase == "live" else known.error
            self._live_state = LiveState(phase, self._owner.now(), last if error is None else kept(error))
            self._owner.changed(self, Cause.LIVE)

    # When to start and to stop

    def _mind_live(self) -> None:
        """See that a source runs if it is wanted, and none if not."""
        if self._phase is None or self._phase == "stopped":
            return
        if self.run is not None:
            wanted = self._is_wanted or bool(self.waiters)
            self._remind(None if wanted else self.run.fn.grace, self._grace_is_over)
        elif self.flight is None and self._is_wanted:
            longest = min(BASE_DELAY * 2 ** min(self._failures, 10), MAX_DELAY)
            has_failed = self._failures > 0 or self.error is not None
            if has_failed and self._phase != "retrying":  # its fetch has, before it could begin
                self._enter("retrying", self.error)
            self._remind(self._owner.jitter(longest) if has_failed else 0.0, self._run_again)
        elif self.flight is None:
            self._stop()

    def _remind(self, delay: float | None, then: Callable[[], None] | None = None) -> None:
        reminder = self._reminder
        if delay is None or then is None:
            if reminder is not None:
                reminder.cancel()
            self._reminder = None
        elif reminder is None or reminder.callback is None:
            self._reminder = self._owner.at(self._owner.now() + delay, then)

    def _grace_is_over(self) -> None:
        self._reminder = None
        if not self._is_wanted and not self.waiters:
            with self._owner.delivery:
                self._cancel_flight()  # a disabled observer would keep it
                self._stop()
                self.settle_down()

    def _run_again(self) -> None:
        self._reminder = None
        if self.lacks_source and self.source is not None:
            self._begin(self.source, restarted=False)
        else:
            self._stop()

    # What happens to the entry happens to its source

    def settle_down(self) -> None:
        """End what nobody wants; the source after its grace time."""
        super().settle_down()
        self._mind_live()

    def _go_on(self) -> None:
        super()._go_on()
        self._mind_live()

    def _begin(self, source: Source, *, restarted: bool) -> None:
        with self._owner.delivery:  # who is told may begin a fetch too
            if isinstance(source.fn, LiveFn):
                self._remind(None)
                self._enter("retrying" if self._phase == "retrying" else "stale" if self.has_data else "connecting")
            else:
                self._stop()
            super()._begin(source, restarted=restarted)

    def outdate_source(self) -> None:
        """Say that the source was begun before an invalidation: it is not what is wanted any more."""
        if self.is_live:
            self._enter("stale")

    def _store(
        self, data: object, epoch: int, identities: Identities, *, age: float = 0.0, sharing: bool = True
    ) -> None:
        super()._store(data, epoch, identities, age=age, sharing=sharing)
        run = self.run
        if run is not None and run.is_connected and run.record.began > self.invalidated_epoch:
            self.valid_at = math.inf  # what changes it is told at once

    def _blank(self, epoch: int | None = None) -> None:
        self._stop()
        if (known := self._live_state) is not None and known.error is not None:
            self._live_state = LiveState(known.phase, known.since, None)
        super()._blank(epoch)


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
