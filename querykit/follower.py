"""What follows one query while it is wanted: the fetches, the timers and the results of an observer."""

import math
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar, cast

from querykit.calls import Call
from querykit.checks import RefetchOn, flag, interval, refetch_on
from querykit.core import Core
from querykit.errors import ObserverClosed
from querykit.flight import Source
from querykit.options import ResolvedOptions
from querykit.presence import Occasion
from querykit.query import Query
from querykit.result import QueryResult, differ
from querykit.state import NEVER, NO_DATA, StaleTime
from querykit.subscribers import Subscriber, Subscribers
from querykit.timetable import Appointment
from querykit.view import View

__all__: list[str] = []

T = TypeVar("T")


class Follower(Generic[T]):
    """An observer as its query and its client see it; `QueryObserver` is what its users see."""

    def __init__(self, core: Core, call: Call) -> None:
        self._core: Final = core
        self._call = call
        self._query: Query | None = None
        self._is_attached = False
        self._is_held = False
        self._is_closed = False
        self._result: QueryResult[T] | None = None
        self._counts = (0, 0)
        self._view: View = View(core.cache.ledger, core.runtime, self._forgotten)
        self._subscribers = Subscribers(core.runtime, self._read, f"an observer of {self._call.key!r}", self._left)
        self._stale_timer: Appointment | None = None
        self._interval: float | None = None
        self._interval_timer: Appointment | None = None

    # What the query asks of who observes it

    @property
    def enabled(self) -> bool:
        """Whether it fetches by itself."""
        rule = self._options.enabled
        return self._looked_at().ruled("enabled", rule, flag, False) if callable(rule) else rule

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
        before = self._result
        after = self._read()
        self._set_timers()
        if after is not before and (before is None or self._is_news(before, after)):
            self._subscribers.tell()

    def emptied(self) -> None:
        """The query's data is gone: nothing of it may be seen here either."""
        self._view.emptied()
        self._result = None

    def closed(self) -> None:
        """The client was closed."""
        self._close()

    # Attaching and leaving

    @property
    def _options(self) -> ResolvedOptions:
        return self._call.options

    def _refuse_closed(self) -> None:
        self._core.runtime.check()
        if self._is_closed:
            raise ObserverClosed(f"{self!r} was closed: make a new one")

    def _looked_at(self) -> Query:
        """Return the query, made anew where it has left the cache and nobody observes it."""
        query = self._query
        if query is None or not (self._is_attached or self._core.cache.holds(query)):
            self._core.runtime.check()
            with self._core.cache.delivery:
                query = self._query = self._built()
                query.settle_down()
        return query

    def _built(self) -> Query:
        query = self._core.built(self._call)
        self._call = self._call.mounted()
        return query

    def _attach(self) -> None:
        if self._is_attached:
            return
        self._core.runtime.bound_loop()
        source = self._source()
        with self._core.cache.delivery:
            query = self._query = self._built()
            self._read()  # as it is before: that a fetch begins is news to the subscriber
            self._watch(query, source, wanted=lambda: self._wants_on_mount(query))
            self._core.cache.delivery.call(self.changed)

    def _watch(self, query: Query, source: Source | None, wanted: Callable[[], bool]) -> None:
        self._query = query
        self._is_attached = True
        self._counts = (query.update_count, query.error_update_count)
        query.attach(self)
        if source is not None:
            query.mount(source, wanted=wanted())

    def _source(self) -> Source | None:
        return self._call.source(self._core.cache.entries.get(self._call.frozen))

    def _askable(self) -> tuple[Query, Source]:
        source = self._source()
        if source is None:
            raise self._call.missing()
        query = self._query if self._is_attached and self._query is not None else self._built()
        self._query = query
        return query, source

    def _set_call(self, call: Call) -> None:
        was_enabled = not self._is_attached or self.enabled
        self._call = call
        if not self._is_attached:
            self._query = None
            return
        before = self._query
        source = self._source()
        with self._core.cache.delivery:
            query = self._built()
            if before is None or query is before:
                if source is not None:
                    query.mount(source, wanted=not was_enabled and self._is_due(query))
            else:
                self._view.remember(before)
                self._watch(query, source, wanted=lambda: self._is_due(query))
                before.detach(self)
            self._core.cache.delivery.call(self.changed)

    def _left(self) -> None:
        if not self._is_held:
            self._detach()

    def _detach(self) -> None:
        query, self._is_attached = self._query, False
        for timer in (self._stale_timer, self._interval_timer):
            if timer is not None:
                timer.cancel()
        self._stale_timer = self._interval_timer = self._interval = None
        if query is not None:
            query.detach(self)

    def _close(self) -> list[Subscriber[QueryResult[T]]]:
        if self._is_closed:
            return []
        self._is_closed = True
        closing = self._subscribers.close()
        self._detach()
        self._view.close()
        self._result = None
        return closing

    def _forgotten(self) -> None:
        """What was remembered here is gone: nothing of it may be seen, and the subscribers are told."""
        self._result = None
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
        if not self.enabled or self.stale_time == "static":
            return False
        if callable(rule):
            rule = query.ruled(f"refetch_on_{occasion}", rule, refetch_on, cast("RefetchOn", False))
        return rule == "always" or (rule is True and self._is_due(query))

    def _is_due(self, query: Query) -> bool:
        now = self._core.cache.now()
        remembered = query.remembers_error(self._options.error_time, now)
        return self.enabled and not remembered and not query.is_fresh_by(self._options, now)

    def _is_news(self, before: QueryResult[T], after: QueryResult[T]) -> bool:
        news = self._options.notify_on
        if news is None:
            return True
        if callable(news):
            return bool(news(before, after))
        return any(getattr(before, name) is not getattr(after, name) for name in news)

    # Timers

    def _set_timers(self) -> None:
        query = self._query
        if query is None or not self._is_attached:
            return
        rule = self._options.refetch_interval
        seconds = query.ruled("refetch_interval", rule, interval, None) if callable(rule) else rule
        seconds = seconds if self.enabled else None
        if seconds != self._interval:
            self._interval = seconds
            self._set_interval()
        self._set_stale_timer(query)

    def _set_stale_timer(self, query: Query) -> None:
        timer, stale_time = self._stale_timer, self.stale_time
        due = math.inf
        if query.has_data and self.enabled:
            fresh_for = query.learned if stale_time == "http" else stale_time
            due = math.inf if isinstance(fresh_for, str) else query.valid_at + fresh_for
        if timer is not None:
            if timer.due == due and timer.callback is not None:
                return
            timer.cancel()
            self._stale_timer = None
        if self._core.cache.now() < due < math.inf:
            self._stale_timer = self._core.timetable.at(due, self.changed)

    def _set_interval(self) -> None:
        if self._interval_timer is not None:
            self._interval_timer.cancel()
            self._interval_timer = None
        if self._interval is not None:
            self._interval_timer = self._core.timetable.at(self._core.cache.now() + self._interval, self._tick)

    def _tick(self) -> None:
        self._set_interval()
        presence, options = self._core.presence, self._options
        looks = options.refetch_interval_in_background or presence.focus.is_focused
        if looks and presence.permits(options.network_mode, retrying=False) and self._query is not None:
            self._query.want()

    # Seeing

    def _read(self) -> QueryResult[T]:
        query = self._looked_at()
        result = self._made(query)
        before = self._result
        if before is not None and not differ(before, result):
            return before
        self._result = result
        return result

    def _made(self, query: Query) -> QueryResult[T]:
        """Return the result of this moment, always a new one."""
        options, enabled = self._options, self.enabled
        seen = self._view.look(query, self._call)
        data_count, error_count = self._counts
        return self._result_of(
            query,
            (
                None if seen.data is NO_DATA else seen.data,
                seen.data is not NO_DATA,
                None if query.updated_at == NEVER else query.updated_at,
                query.update_count,
                seen.error,
                None if seen.error_updated_at == NEVER else seen.error_updated_at,
                query.error_update_count,
                query.failure_count,
                query.failure_reason,
                query.is_invalidated,
                seen.status,
                query.fetch_status,
                enabled and not query.is_fresh_by(options, self._core.cache.now()),
                seen.is_placeholder,
                enabled,
                query.update_count > data_count or query.error_update_count > error_count,
                query.live_state,
            ),
        )

    def _result_of(self, query: Query, fields: tuple[Any, ...]) -> QueryResult[T]:
        del query
        return QueryResult(*fields)
