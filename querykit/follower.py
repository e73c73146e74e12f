"""What follows one query while it is wanted: the fetches, the timers and the results of an observer."""

import asyncio
import math
from operator import is_not
from typing import Any, ClassVar, Generic, TypeVar, cast

from querykit.calls import Call
from querykit.checks import RefetchOn, flag, interval, refetch_on
from querykit.core import Core
from querykit.flight import Source
from querykit.lifetime import Lifetime
from querykit.options import ResolvedOptions
from querykit.presence import Occasion
from querykit.query import Query
from querykit.result import QueryResult, differ
from querykit.state import NEVER, NO_DATA, StaleTime, skip
from querykit.subscribers import Subscriber, Subscribers
from querykit.timetable import Appointment
from querykit.view import View

__all__: list[str] = []

T = TypeVar("T")


class Follower(Lifetime, Generic[T]):
    """An observer as its query and its client see it; `QueryObserver` is what its users see."""

    _result_type: ClassVar[type[QueryResult[Any]]] = QueryResult

    def __init__(self, core: Core, call: Call) -> None:
        self._core = core
        self._call = self._checked(call)
        self._query: Query | None = None
        self._is_attached = False
        self._result: QueryResult[T] | None = None
        self._made_of: tuple[Any, ...] = ()
        self._told: QueryResult[T] | None = None
        self._counts = (0, 0)
        self._view: View = View(core.cache.ledger, core.runtime, self._forgotten)
        self._subscribers = Subscribers(core.runtime, self._newest, f"an observer of {self._call.key!r}", self._left)
        self._stale_timer: Appointment | None = None
        self._interval: float | None = None
        self._interval_timer: Appointment | None = None

    # What the query asks of who observes it

    @property
    def enabled(self) -> bool:
        """Whether it fetches by itself."""
        rule = self._options.enabled
        if callable(rule):
            rule = self._looked_at().ruled("enabled", rule, flag, False)
        return rule and self._call.fn is not skip

    @property
    def stale_time(self) -> StaleTime:
        """From which age on the data is stale to it, in seconds."""
        return self._looked_at().stale_time_by(self._options)

    def wants_on(self, occasion: Occasion) -> bool:
        """Whether it fetches now that somebody looks, or the network is there."""
        options = self._options
        return self._wants(options.refetch_on_focus if occasion == "focus" else options.refetch_on_reconnect, occasion)

    def changed(self) -> None:
        """The query has changed: tell the subscribers of what is news to them."""
        if not self._is_attached:  # it has left since this was put in the queue
            return
        before, after = self._told, self._read()
        self._set_timers(after)
        if after is not before:
            is_news = before is None or self._is_news(before, after)
            if is_news:
                self._told = after
            self._subscribers.tell(is_news=is_news)

    def emptied(self) -> None:
        """The query's data is gone: nothing of it may be seen here either."""
        self._view.emptied()
        self._counts = (0, 0)
        self._let_go()

    def closed(self) -> None:
        """The client was closed."""
        self._close()

    # Attaching and leaving

    @property
    def _options(self) -> ResolvedOptions:
        return self._call.options

    def _checked(self, call: Call) -> Call:
        names = call.options.notify_on
        for name in () if names is None or callable(names) else names:
            if name.startswith("_") or not hasattr(self._result_type, name):
                raise ValueError(f"notify_on: a {self._result_type.__name__} has no field {name!r}")
        return call

    def _refuse_if_closed(self) -> None:
        if self._is_closed:  # and else nothing: who reads may be in any thread
            self._refuse_closed()

    def _looked_at(self) -> Query:
        """Return the query, made anew where it has left the cache and nobody observes it."""
        query = self._query
        if query is None or not (self._is_attached or self._core.cache.holds(query)):
            self._refuse_closed()
            with self._core.cache.delivery:
                query = self._built()
                query.settle_down()
            self._turn_to(query)
        return query

    def _built(self) -> Query:
        query = self._core.built(self._call)
        self._call = self._call.mounted()
        return query

    def _turn_to(self, query: Query) -> None:
        self._query = query
        self._counts = (query.update_count, query.error_update_count)

    def _attach(self) -> None:
        if self._is_attached:
            return
        self._core.runtime.bound_loop()
        source = self._source()
        with self._core.cache.delivery:
            query = self._built()
            self._turn_to(query)
            self._told = self._read()  # as it is before: that a fetch begins is news to the subscriber
            if self._is_closed:  # by a rule of its own
                query.settle_down()
                self._refuse_closed()
            self._watch(query)
            self._mount(query, source, wanted=self._wants_on_mount(query))

    def _watch(self, query: Query) -> None:
        self._is_attached = True
        self._turn_to(query)
        query.attach(self)

    def _mount(self, query: Query, source: Source | None, *, wanted: bool) -> None:
        if source is None:
            query.settle_down()  # a live source may run for nobody now
        elif self._is_attached:
            query.mount(source, wanted=wanted)
        self._core.cache.delivery.call(self.changed)

    def _source(self) -> Source | None:
        return self._call.source(self._core.cache.entries.get(self._call.frozen))

    def _askable(self) -> tuple[Query, Source]:
        source = self._source()
        if source is None:
            raise self._call.missing()
        return self._looked_at(), source

    def _set_call(self, call: Call) -> None:
        was_enabled = not self._is_attached or self.enabled
        before, self._call = self._call, self._checked(call)
        if not self._is_attached:
            self._query = None
            return
        try:
            source = self._source()
            query = self._built()
        except BaseException:
            self._call = before
            raise
        with self._core.cache.delivery:
            left = self._query
            if left is not None and left is not query:
                self._stop_timers()
                self._view.turn_from(left)
                self._watch(query)
                left.detach(self)
                was_enabled = False
            self._mount(query, source, wanted=not was_enabled and self._is_due(query))

    def _left(self) -> None:
        if not self._is_held:
            self._detach()

    def _detach(self) -> None:
        query, self._is_attached = self._query, False
        self._stop_timers()
        if query is not None:
            query.detach(self)

    def _end(self) -> list[Subscriber[QueryResult[T]]]:
        closing = self._subscribers.close()
        self._detach()
        self._view.close()
        self._let_go()
        return closing

    def _let_go(self) -> None:
        self._result = self._told = None
        self._made_of = ()

    def _forgotten(self) -> None:
        """What was remembered here is gone: nothing of it may be seen, and the subscribers are told."""
        self._let_go()
        if self._is_attached:
            self._core.cache.delivery.call(self.changed)

    # Deciding

    def _wants_on_mount(self, query: Query) -> bool:
        options = self._options
        if not self.enabled or query.remembers_error(options.error_time, self._core.cache.now()):
            return False
        if not query.has_data:
            return options.retry_on_mount or query.error is None
        return self._wants(options.refetch_on_mount, "mount")

    def _wants(self, rule: Any, occasion: str) -> bool:
        query = self._looked_at()
        if not self.enabled:
            return False
        if callable(rule):
            rule = query.ruled(f"refetch_on_{occasion}", rule, refetch_on, cast("RefetchOn", False))
        if rule == "always" and not (query.has_data and self.stale_time == "static"):
            return True
        return rule is not False and self._is_due(query)

    def _is_due(self, query: Query) -> bool:
        now = self._core.cache.now()
        remembered = query.remembers_error(self._options.error_time, now)
        return self.enabled and not remembered and not query.is_fresh_by(self._options, now)

    def _is_news(self, before: QueryResult[T], after: QueryResult[T]) -> bool:
        news = self._options.notify_on
        if news is None:
            return True
        if not callable(news):
            return any(getattr(before, name) is not getattr(after, name) for name in news)
        try:
            return bool(news(before, after))
        except (Exception, asyncio.CancelledError) as error:
            self._core.runtime.report(f"notify_on of {self!r} raised {type(error).__name__}", error)
            return True

    # Timers

    def _set_timers(self, result: QueryResult[T]) -> None:
        query, rule = self._looked_at(), self._options.refetch_interval
        seconds = query.ruled("refetch_interval", rule, interval, None) if callable(rule) else rule
        seconds = seconds if result.is_enabled else None
        due = math.inf
        if result.is_enabled and not result.is_stale:
            due = self._stale_from(query)
        if not self._is_attached:  # a rule has closed this
            return
        if seconds != self._interval:
            self._interval = seconds
            self._set_interval()
        timer = self._stale_timer
        if timer is not None:
            if timer.callback is not None and timer.due <= due:  # it looks again, and is then set for the rest
                return
            timer.cancel()
            self._stale_timer = None
        if due < math.inf:
            self._stale_timer = self._core.timetable.at(due, self._look_again)

    def _stale_from(self, query: Query) -> float:
        """Return when the data, which is fresh, will be stale."""
        stale_time = self.stale_time
        if stale_time == "static":
            return math.inf
        fresh_for = query.learned if stale_time == "http" else stale_time
        due = query.valid_at + fresh_for
        return math.nextafter(due, math.inf) if due - query.valid_at < fresh_for else due

    def _look_again(self) -> None:
        self._core.cache.delivery.call(self.changed)

    def _set_interval(self) -> None:
        if self._interval_timer is not None:
            self._interval_timer.cancel()
            self._interval_timer = None
        if self._interval is not None:
            self._interval_timer = self._core.timetable.at(self._core.cache.now() + self._interval, self._tick)

    def _stop_timers(self) -> None:
        for timer in (self._stale_timer, self._interval_timer):
            if timer is not None:
                timer.cancel()
        self._stale_timer = self._interval_timer = self._interval = None

    def _tick(self) -> None:
        self._set_interval()
        presence, options = self._core.presence, self._options
        looks = options.refetch_interval_in_background or presence.focus.is_focused
        if looks and presence.permits(options.network_mode, retrying=False) and self._query is not None:
            self._query.want()

    # Seeing

    def _newest(self) -> QueryResult[T]:
        """Return the result of the last change, which is the one to tell of, or of now if that is gone."""
        return self._read() if self._result is None else self._result

    def _read(self) -> QueryResult[T]:
        query = self._looked_at()
        fields = self._fields(query)
        made_of, known = (*fields, query.direction, self._call), self._made_of
        before = self._result
        if before is not None and not any(map(is_not, made_of, known)):
            return before
        result = self._result_of(query, fields)
        if before is not None and not any(map(is_not, fields, known)) and not differ(before, result):
            result = before
        self._made_of, self._result = made_of, result
        return result

    def _fields(self, query: Query) -> tuple[Any, ...]:
        """Return what a result of this moment consists of."""
        enabled = self.enabled
        data, error, error_updated_at, status, is_placeholder = self._view.look(query, self._call)
        data_count, error_count = self._counts
        has_data = data is not NO_DATA
        return (
            data if has_data else None,
            has_data,
            None if query.updated_at == NEVER else query.updated_at,
            query.update_count,
            error,
            None if error_updated_at == NEVER else error_updated_at,
            query.error_update_count,
            query.failure_count,
            query.failure_reason,
            query.is_invalidated,
            status,
            query.fetch_status,
            enabled and not query.is_fresh(self.stale_time, self._core.runtime.now()),
            is_placeholder,
            enabled,
            query.update_count > data_count or query.error_update_count > error_count,
            query.live_state,
        )

    def _result_of(self, query: Query, fields: tuple[Any, ...]) -> QueryResult[T]:
        del query
        return QueryResult(*fields)
