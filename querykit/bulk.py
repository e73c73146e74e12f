"""The client's methods that take filters. They act at once; what they return may be awaited, or not."""

from typing import Any, Final, Literal, Unpack

from querykit.cache import QueryCache
from querykit.core import Core
from querykit.filters import Filters, QueryFilters, make_filters
from querykit.keys import QueryKey
from querykit.pending import Pending
from querykit.query import Query
from querykit.state import UNSET, Unset

__all__ = ["BulkMethods", "RefetchType"]

RefetchType = Literal["active", "inactive", "all", "none"]

_REFETCH_TYPES: Final = ("active", "inactive", "all", "none")


class BulkMethods:
    """What can be done to many queries at once.

    In each method `key` is a prefix unless `exact=True`, and leaving it out means every key.

    Attributes:
        cache: all queries of this client.
    """

    core: Core
    cache: QueryCache

    def invalidate_queries(
        self,
        key: QueryKey | Unset = UNSET,
        *,
        refetch_type: RefetchType = "active",
        cancel_refetch: bool = True,
        throw_on_error: bool = False,
        **filters: Unpack[QueryFilters],
    ) -> Pending:
        """Flag queries as out of date, and fetch those anew that are observed.

        A fetch that runs is out of date as well: where a newer answer is wanted it is begun anew.

        Args:
            key: the key or prefix that is meant.
            refetch_type: which of the matches to fetch anew.
            cancel_refetch: False lets a running fetch end; one more follows.
            throw_on_error: whether awaiting the result raises the first error of these fetches.
            filters: see `QueryFilters`.

        Raises:
            TypeError: the key or a filter is None or of a wrong type.
            ValueError: a filter has a value that it cannot have.

        Example:
            >>> from querykit.client import QueryClient
            >>> client = QueryClient()
            >>> client.set_query_data(("pods", "prod"), ["web"])
            >>> _ = client.invalidate_queries(("pods",))
            >>> client.get_query_state(("pods", "prod")).is_invalidated
            True
        """
        if refetch_type not in _REFETCH_TYPES:
            raise ValueError(f"refetch_type is one of {_REFETCH_TYPES}, not {refetch_type!r}")
        meant, queries = self._find(key, filters)
        epoch = self.cache.ledger.tick()
        wanted = [query for query in _of(queries, refetch_type) if query.source is not None and not query.is_static]
        if wanted:
            self.core.runtime.bound_loop()
        if meant.is_key_alone:
            self.cache.note_invalidated(meant.key or (), epoch, exact=meant.exact)
        elif meant.is_of_tags:
            self.cache.note_invalidated_tags(meant, epoch, refetch=refetch_type in {"active", "all"})
        with self.cache.delivery:
            self.cache.invalidate(queries, epoch)
            return self._refetch(wanted, epoch, cancel=cancel_refetch, throw_on_error=throw_on_error)

    def refetch_queries(
        self,
        key: QueryKey | Unset = UNSET,
        *,
        cancel_refetch: bool = True,
        throw_on_error: bool = False,
        **filters: Unpack[QueryFilters],
    ) -> Pending:
        """Fetch queries anew, observed or not, that were ever fetched with a function.

        Args:
            key: the key or prefix that is meant.
            cancel_refetch: False joins a running fetch that is not out of date.
            throw_on_error: whether awaiting the result raises the first error.
            filters: see `QueryFilters`.
        """
        _, queries = self._find(key, filters)
        wanted = [query for query in queries if not (query.is_static or query.is_disabled)]
        return self._refetch(wanted, None, cancel=cancel_refetch, throw_on_error=throw_on_error)

    def cancel_queries(self, key: QueryKey | Unset = UNSET, **filters: Unpack[QueryFilters]) -> Pending:
        """Stop running fetches. Data, errors and flags stay; callers get the data there is, or `QueryCancelled`."""
        _, queries = self._find(key, filters)
        record = self.cache.ledger.current()
        with self.cache.delivery:
            for query in queries:
                query.cancel(record)
        return Pending(self.cache.ledger)

    def remove_queries(self, key: QueryKey | Unset = UNSET, **filters: Unpack[QueryFilters]) -> Pending:
        """Take queries out of the cache; callers get `QueryCancelled`. An observed one becomes a blank entry."""
        meant, queries = self._find(key, filters)
        ledger = self.cache.ledger
        if meant.is_key_alone:
            self.cache.note_removed(meant.key or (), ledger.tick(), exact=meant.exact)
        record = ledger.current()
        with self.cache.delivery:
            for query in queries:
                query.remove(record)
        return Pending(ledger)

    def reset_queries(
        self, key: QueryKey | Unset = UNSET, *, throw_on_error: bool = False, **filters: Unpack[QueryFilters]
    ) -> Pending:
        """Put queries back into their initial state, initial data included, and fetch the observed ones anew."""
        _, queries = self._find(key, filters)
        ledger = self.cache.ledger
        record = ledger.current()
        with self.cache.delivery:
            awaits = [(query, waiter) for query in queries if (waiter := query.reset(record)) is not None]
        return Pending(ledger, awaits, throw_on_error=throw_on_error)

    def clear(self) -> Pending:
        """Take every query out of the cache, and let go of every mutation."""
        self.core.mutations.clear()
        return self.remove_queries()

    def is_fetching(self, key: QueryKey | Unset = UNSET, **filters: Unpack[QueryFilters]) -> int:
        """Return how many of the queries are being fetched; a paused fetch does not count."""
        meant = make_filters(key, {**filters}, unset=UNSET)
        return sum(query.fetch_status == "fetching" for query in self.cache.match(meant))

    def get_queries_data(
        self, key: QueryKey | Unset = UNSET, **filters: Unpack[QueryFilters]
    ) -> list[tuple[QueryKey, Any]]:
        """Return the keys and data of the queries that have data."""
        found = self.cache.match(make_filters(key, {**filters}, unset=UNSET))
        for query in found:
            query.spread()
        return [(query.key, query.data) for query in found if query.has_data]

    def _find(self, key: object, given: Any) -> tuple[Filters, list[Query]]:
        self.core.runtime.check()
        meant = make_filters(key, {**given}, unset=UNSET)
        return meant, self.cache.match(meant)

    def _refetch(self, queries: list[Query], after: int | None, *, cancel: bool, throw_on_error: bool) -> Pending:
        ledger = self.cache.ledger
        record = ledger.current()
        with self.cache.delivery:
            awaits = [
                (query, waiter)
                for query in queries
                if (waiter := query.refetch(record, after=after, cancel=cancel)) is not None
            ]
        return Pending(ledger, awaits, throw_on_error=throw_on_error)


def _of(queries: list[Query], refetch_type: RefetchType) -> list[Query]:
    if refetch_type == "none":
        return []
    if refetch_type == "active":
        return [query for query in queries if query.observers and query.is_active]
    return [query for query in queries if not (query.is_disabled or (refetch_type == "inactive" and query.observers))]
