"""What an observer makes of a query's data: selected, or stood in for by a placeholder."""

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from querykit.calls import Call
from querykit.errors import kept
from querykit.identity import Identities, Ledger, Record, merged, recording
from querykit.memo import Memo
from querykit.query import Query
from querykit.runtime import Runtime
from querykit.sharing import share
from querykit.state import NO_DATA, Status, skip

__all__: list[str] = []

Selector = Callable[[Any], Any]
Seen = tuple[Any, BaseException | None, float, Status, bool]
"""Data, error and the time of it, status, whether it is a placeholder: what the observer's own options decide."""


class _Selection(NamedTuple):
    """What `select` made of which data; or the error with which it failed last, beside what it made before."""

    query: Query
    source: object
    selector: Selector
    value: Any
    error: BaseException | None
    failed_at: float


class View:
    """One observer's eyes: it remembers what it made of what, so that nothing is made twice.

    Args:
        ledger: the client's.
        runtime: gives the time and takes reports.
        gone: called when something remembered was forgotten with its identity.
    """

    def __init__(self, ledger: Ledger, runtime: Runtime, gone: Callable[[], None]) -> None:
        self._ledger = ledger
        self._runtime = runtime
        self._selection: Memo[_Selection] = Memo(ledger, gone)
        self._previous: Memo[tuple[object, Query]] = Memo(ledger, gone)
        self._placeholder: Memo[tuple[object, object]] = Memo(ledger, gone)

    def look(self, query: Query, call: Call) -> Seen:
        """Return what is seen of the query at this moment."""
        data, status, is_placeholder = query.data, query.status, False
        if status == "pending":
            option = call.options.placeholder_data
            if option is not None:
                data = self._stand_in(query, option) if callable(option) else option
            if data is not NO_DATA:
                status, is_placeholder = "success", True
        elif self._placeholder.value is not None:
            self._placeholder.drop()
        if call.selector is None or data is NO_DATA:
            return data, query.error, query.error_updated_at, status, is_placeholder
        names = self._placeholder.identities if is_placeholder else _names(query)
        selection = self._selected(query, data, names, call.selector, sharing=call.options.structural_sharing)
        if selection.error is not None:
            return selection.value, selection.error, selection.failed_at, "error", is_placeholder
        if selection.value is NO_DATA:
            status = "pending"
        return selection.value, query.error, query.error_updated_at, status, is_placeholder

    def turn_from(self, query: Query) -> None:
        """Another query is looked at from now on: keep the data of this one, for `placeholder_data` to show."""
        self._placeholder.drop()
        if query.has_data:
            self._previous.keep((query.data, query), _names(query))

    def emptied(self) -> None:
        """The query's data is gone, and what was made of it."""
        self._selection.drop()

    def close(self) -> None:
        """Remember nothing any more."""
        for memo in (self._selection, self._previous, self._placeholder):
            memo.drop()

    def spread(self) -> None:
        """Let the running function take on the identities of what it sees here."""
        self._selection.spread()
        self._placeholder.spread()

    def _selected(
        self, query: Query, data: object, names: Identities, selector: Selector, *, sharing: bool
    ) -> _Selection:
        """Return what `select` makes of the data; it is called once for each data object."""
        known = self._selection.value
        if known is not None and known.source is data and known.selector is selector:
            return known
        last = NO_DATA if known is None or known.query is not query else known.value
        value, error, used = self._under_record(lambda: selector(data), f"select of {query.key!r}")
        names = merged(names, used)
        if error is not None:
            value, names = last, merged(names, self._selection.identities)
        elif sharing and last is not NO_DATA and value is not NO_DATA:
            value = share(last, value)
        selection = _Selection(query, data, selector, value, error, self._runtime.now())
        if error is not None or value is not NO_DATA:
            self._selection.keep(selection, names)
        return selection

    def _stand_in(self, query: Query, rule: Callable[[Any, Query | None], Any]) -> object:
        """Return what a rule gives as placeholder, or NO_DATA; it is asked until it has given one, or failed."""
        known, previous = self._placeholder.value, self._previous.value
        if known is not None and known[0] is rule:
            return known[1]
        data, before = (None, None) if previous is None else previous
        value, error, names = self._under_record(
            lambda: rule(data, before), f"placeholder_data of {query.key!r}", self._previous
        )
        if value is None or value is skip:
            value = NO_DATA
        if error is not None or value is not NO_DATA:
            self._placeholder.keep((rule, value), names)
        return value

    def _under_record(
        self, call: Callable[[], Any], what: str, reads: Memo[Any] | None = None
    ) -> tuple[Any, BaseException | None, Identities]:
        """Call under a record; NO_DATA where it raises, which is reported, or where what it read is forgotten."""
        record = Record(self._ledger)
        try:
            with recording(record):
                if reads is not None:
                    reads.spread()
                value = call()
        except (Exception, asyncio.CancelledError) as error:
            self._ledger.spread(record.names)
            self._runtime.report(f"{what} raised {type(error).__name__}", error)
            return NO_DATA, kept(error), record.names
        return (NO_DATA if record.is_doomed else value), None, record.names


def _names(query: Query) -> Identities:
    return query.identities if query.layers is None else merged(query.identities, query.layers.names())
