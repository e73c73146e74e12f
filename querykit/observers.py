"""Observing many queries at once: one subscription, one tuple of results, or what `combine` makes of it."""

import asyncio
from collections.abc import Callable, Iterable
from operator import is_not
from typing import Any, Generic, TypeVar, cast, overload

from querykit.core import HasCore, core_of
from querykit.events import Subscription
from querykit.identity import Record, recording
from querykit.keys import FrozenKey, freeze
from querykit.lifetime import Lifetime
from querykit.memo import Memo
from querykit.observer import QueryObserver
from querykit.options import Options
from querykit.result import QueryResult
from querykit.sharing import share
from querykit.state import UNSET
from querykit.subscribers import Subscriber, Subscribers

__all__ = ["QueriesObserver"]

T = TypeVar("T")
R = TypeVar("R")

Results = tuple[QueryResult[T], ...]
Combine = Callable[[Any], R]


class _Place(Generic[T]):
    """One query's place among the many: its observer, and where its result goes."""

    __slots__ = ("_many", "at", "observer", "options", "undo")

    def __init__(self, many: "QueriesObserver[Any]", options: Options[Any, T], observer: QueryObserver[T]) -> None:
        self._many = many
        self.at = 0
        self.options = options
        self.observer = observer
        self.undo: Subscription | None = None

    def follow(self) -> None:
        """Let its result go to its place from now on."""
        if self.undo is None:
            self.undo = self.observer.follow(self._changed, self._many.closed)

    def leave(self) -> None:
        """Stop that."""
        undo, self.undo = self.undo, None
        if undo is not None:
            undo()

    def close(self) -> None:
        """The same, for good."""
        self.leave()
        self.observer.close()

    def _changed(self, result: QueryResult[T]) -> None:
        self._many.changed(self.at, result)


class QueriesObserver(Lifetime, Generic[R]):
    """Follows several queries while it has subscribers; a change of one costs what one costs.

    The same key may be given more than once. Use it with `with` to let it live for a block.

    Args:
        client: the client whose cache is observed.
        queries: what `query_options` returns, one for each query.
        combine: makes the result of the tuple of results. It is called again when one of them has changed; where
            what it returns equals what it returned before, nobody is told.

    Raises:
        TypeError: a query is not what `query_options` returns, or `combine` cannot be called.

    Example:
        >>> from querykit.client import QueryClient
        >>> from querykit.options import query_options
        >>> client = QueryClient()
        >>> client.set_query_data(("a",), 1)
        >>> client.set_query_data(("b",), 2)
        >>> queries = [query_options((name,), lambda: 0) for name in "ab"]
        >>> many = QueriesObserver(client, queries, combine=lambda results: sum(each.data for each in results))
        >>> many.result
        3
    """

    @overload
    def __init__(
        self: "QueriesObserver[Results[T]]",
        client: HasCore,
        queries: Iterable[Options[Any, T]],
        *,
        combine: None = ...,
    ) -> None: ...
    @overload
    def __init__(
        self, client: HasCore, queries: Iterable[Options[Any, T]], *, combine: Callable[[Results[T]], R]
    ) -> None: ...
    def __init__(
        self, client: HasCore, queries: Iterable[Options[Any, Any]], *, combine: Callable[[Any], Any] | None = None
    ) -> None:
        _check_combine(combine)
        core = core_of(client)
        self._client = client
        self._core = core
        self._combine: Combine[R] | None = combine
        self._made: Memo[tuple[R]] = Memo(core.cache.ledger, self._forgotten)
        self._places: list[_Place[Any]] = []
        self._results: list[QueryResult[Any]] = []
        self._is_attached = self._is_news = self._is_made = False
        self._told: object = UNSET
        self._subscribers = Subscribers(core.runtime, self._read, "an observer of many queries", self._left)
        self._place(queries)

    def __repr__(self) -> str:
        return f"<QueriesObserver of {len(self._places)} queries, {len(self._subscribers)} subscribers>"

    @property
    def observers(self) -> tuple[QueryObserver[Any], ...]:
        """The observers of the single queries, in their order."""
        return tuple(place.observer for place in self._places)

    @property
    def result(self) -> R:
        """The results of this moment in the order of the queries, or what `combine` makes of them.

        Raises:
            ObserverClosed: the observer was closed.
            ClientClosed: the client was closed.
            Exception: what `combine` raised.
        """
        if self._is_closed:
            self._refuse_closed()
        # While changes wait to be told, the results that were told last are not those of this moment.
        if not self._is_attached or self._core.cache.delivery.is_held or self._core.cache.ledger.carried() is not None:
            self._gather()
        result = self._read()
        self._made.spread()
        return result

    def subscribe(self, callback: Callable[[R], object]) -> Subscription:
        """Call `callback` with each new result from now on; see `QueryObserver.subscribe`."""
        return self.follow(callback)

    def follow(self, callback: Callable[[R], object], closed: Callable[[], None] | None = None) -> Subscription:
        """Subscribe; `closed` is called once, when the observer or its client is closed."""
        self._refuse_closed()
        subscription = self._subscribers.add(callback, closed)
        try:
            self._attach()
        except BaseException:
            subscription()
            raise
        return subscription

    def set_queries(self, queries: Iterable[Options[Any, Any]], *, combine: Callable[[Any], R] | None = None) -> None:
        """Follow these queries from now on: the observers of keys that stay are kept, wherever they stand now.

        Args:
            queries: what `query_options` returns, one for each query.
            combine: in place of the function given before; left out, that one stays.

        Raises:
            TypeError: a query is not what `query_options` returns, an option is of a wrong type, or `combine`
                cannot be called. As after any other error, the queries are those of before.
            ValueError: an option's value is impossible.
            ObserverClosed: the observer was closed.
        """
        self._refuse_closed()
        _check_combine(combine)
        with self._core.cache.delivery:
            self._place(queries)
            if combine is not None:
                self._combine, self._is_made = combine, False
            if self._is_attached:
                self._tell_later()

    # What the observers of the single queries tell

    def changed(self, at: int, result: QueryResult[Any]) -> None:
        """One of the queries has changed."""
        self._results[at] = result
        self._is_made = False
        self._tell_later()

    def closed(self) -> None:
        """One of the observers was closed: with the client, since nobody else has it."""
        self._close()

    def _forgotten(self) -> None:
        if self._is_attached:
            self._tell_later()

    def _tell_later(self) -> None:
        if not self._is_news:
            self._is_news = True
            self._core.cache.delivery.call(self._tell)

    def _tell(self) -> None:
        self._is_news = False
        if not self._is_attached:
            return
        before = self._told
        has_taken = self._take()
        if self._is_news:  # `combine` has changed what it is made of: that is told next
            self._told = before
        elif has_taken and self._told is not before:
            self._subscribers.tell()

    def _take(self) -> bool:
        """Take the result of this moment as what was told; False if there is none, since `combine` raised."""
        try:
            self._told = self._read()
        except (Exception, asyncio.CancelledError) as error:
            self._core.runtime.report(f"combine of {self!r} raised {type(error).__name__}", error)
            return False
        return True

    def _gather(self) -> None:
        """Ask every observer for its result of this moment."""
        results = [place.observer.result for place in self._places]
        if len(results) != len(self._results) or any(map(is_not, results, self._results)):
            self._results, self._is_made = results, False

    def _read(self) -> R:
        """Return what was made of just these results, or make it."""
        known, combine = self._made.value, self._combine
        if known is not None and self._is_made:
            return known[0]
        inputs = tuple(self._results)
        self._is_made = True  # unless `combine` changes what it is made of
        if combine is None:
            value, record = cast("R", inputs), None
        else:
            record = Record(self._core.cache.ledger)
            try:
                with recording(record):
                    value = combine(inputs)
            except BaseException:
                self._is_made = False
                raise
            if known is not None:
                value = cast("R", share(known[0], value))
        if self._is_closed or (record is not None and record.is_doomed):
            self._is_made = False
        else:
            self._made.keep((value,), {} if record is None else record.names)
        return value

    # Placing the queries

    def _place(self, queries: Iterable[Options[Any, Any]]) -> None:
        given = list(queries)
        for options in given:
            if not isinstance(options, Options):
                raise TypeError(f"each query is what query_options(...) returns, not {options!r}")
        there: dict[FrozenKey, list[_Place[Any]]] = {}
        for place in reversed(self._places):
            there.setdefault(freeze(place.options.key), []).append(place)
        places: list[_Place[Any]] = []
        before: list[tuple[_Place[Any], Options[Any, Any]]] = []
        try:
            for options in given:
                same = there.get(freeze(options.key))
                place = same.pop() if same else _Place(self, options, QueryObserver(self._client, options))
                places.append(place)
                if options is not place.options:
                    place.observer.set_options(options)
                    before.append((place, place.options))
                    place.options = options
            for place in places if self._is_attached else ():
                place.follow()
            if self._is_closed:  # by a rule of an option, say
                self._refuse_closed()
        except BaseException:
            for place, options in () if self._is_closed else before:
                place.observer.set_options(options)
                place.options = options
            for place in places:
                if place not in self._places:
                    place.close()
            raise
        for place in (place for places_left in there.values() for place in places_left):
            place.close()
        for at, place in enumerate(places):
            place.at = at
        self._places = places
        self._gather()

    def _attach(self) -> None:
        if self._is_attached:
            return
        self._core.runtime.bound_loop()
        self._gather()
        self._take()  # as it is before: that fetches begin is news to the subscriber
        self._is_attached = True
        with self._core.cache.delivery:
            for place in self._places:
                place.follow()
            self._gather()

    def _left(self) -> None:
        if not self._is_held:
            self._detach()

    def _detach(self) -> None:
        self._is_attached = False
        with self._core.cache.delivery:
            for place in self._places:
                place.leave()

    def _end(self) -> list[Subscriber[Any]]:
        closing = self._subscribers.close()
        self._detach()
        for place in self._places:
            place.close()
        self._results, self._told = [], UNSET
        self._made.drop()
        return closing


def _check_combine(combine: object) -> None:
    if combine is not None and not callable(combine):
        raise TypeError(f"combine is a callable of the tuple of results, not {combine!r}")
