"""The client's methods that read and write the data of the cache, and fetch nothing."""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar, Unpack, overload

from querykit.cache import QueryCache
from querykit.checks import Seconds, seconds
from querykit.core import Core
from querykit.fetching import refuse_unusable
from querykit.filters import QueryFilters, make_filters
from querykit.identity import Identities, Record, merged, recording
from querykit.keys import QueryKey, check_key, freeze
from querykit.options import Options
from querykit.query import Query
from querykit.state import NO_DATA, UNSET, QueryState, Unset, skip

__all__ = ["DataMethods"]

T = TypeVar("T")
R = TypeVar("R")


class DataMethods:
    """What reads and writes data as it stands.

    Attributes:
        cache: all queries of this client.
    """

    core: Core
    cache: QueryCache
    _entries: dict[Any, Query]

    @overload
    def get_query_data(self, key: Options[T, object], default: None = None) -> T | None: ...
    @overload
    def get_query_data(self, key: Options[T, object], default: R) -> T | R: ...
    @overload
    def get_query_data(self, key: QueryKey, default: Any = None) -> Any: ...
    def get_query_data(self, key: Any, default: Any = None) -> Any:
        """Return the data of a key as it stands in the cache, or `default` if there is none.

        Raises:
            TypeError: the key is no tuple.
        """
        try:
            query: Query | None = self._entries[key]
        except (KeyError, TypeError):  # no such key as it stands
            query = None
        if query is None or query.ambiguous:
            query = self._find_one(key)
        if query is None or query.data is NO_DATA:
            return default
        query.touched = True
        if query.identities or query.layers is not None:
            query.spread()
        return query.data

    @overload
    def get_query_state(self, key: Options[T, object]) -> QueryState[T] | None: ...
    @overload
    def get_query_state(self, key: QueryKey) -> QueryState[Any] | None: ...
    def get_query_state(self, key: Any) -> QueryState[Any] | None:
        """Return a snapshot of a query's state, or None if the key is not in the cache."""
        query = self._find_one(key)
        if query is None:
            return None
        query.spread()
        return query.state

    def set_query_data(
        self,
        key: QueryKey | Options[object, object],
        value: object | Callable[[Any], object],
        *,
        age: Seconds = 0,
        identity: Hashable = UNSET,
    ) -> None:
        """Write the data of a key. A running fetch of it is out of date and cancelled; its callers get this data.

        Args:
            key: a tuple, or what `query_options` returns.
            value: the data; or a function that gets the present data and returns the new one, which is called
                only if there is data. `skip` leaves the entry as it is.
            age: how many seconds old the data is.
            identity: the identity the data belongs to, where it was carried out of the cache before (S3).

        Raises:
            TypeError: the key is no tuple, or the value can be read only once, such as a coroutine.
            ValueError: `age` is negative.

        Example:
            >>> from querykit.client import QueryClient
            >>> client = QueryClient()
            >>> client.set_query_data(("count",), 1)
            >>> client.set_query_data(("count",), lambda count: count + 1)
            >>> client.get_query_data(("count",))
            2
        """
        key = key.key if isinstance(key, Options) else key
        age = seconds(age, "age")
        self.core.runtime.check()
        self._write(check_key(key), self.cache.find(key), value, age, identity)

    def set_queries_data(
        self,
        key: QueryKey | Unset = UNSET,
        *,
        updater: object | Callable[[Any], object],
        age: Seconds = 0,
        **filters: Unpack[QueryFilters],
    ) -> None:
        """Write the data of all queries that match and have data: see `set_query_data`."""
        age = seconds(age, "age")
        self.core.runtime.check()
        for query in self.cache.match(make_filters(key, {**filters}, unset=UNSET)):
            if query.has_data:
                self._write(query.key, query, updater, age, UNSET)

    def _write(self, key: QueryKey, query: Query | None, value: Any, age: float, identity: Hashable) -> None:
        ledger = self.cache.ledger
        names: Identities = {}
        if callable(value):
            if query is None or not query.has_data:
                return
            record = ledger.carried() or Record(ledger)
            record.take_on(query.names)
            with recording(record):
                value = value(query.known(query.epoch_by(ledger.current(), ledger.epoch + 1)))
            ledger.spread(record.names)
            names = record.names
        refuse_unusable(value, key)
        if value is skip or (written := ledger.written_by()) is None or ledger.dooms(names):
            return
        names = merged(names, written, {} if identity is UNSET else {identity: ledger.epoch})
        writer = ledger.current()
        frozen = freeze(key)
        if (
            writer is not None
            and writer.counts_from_its_beginning
            and self.cache.was_removed_since(frozen, writer.began)
        ):
            return
        with self.cache.delivery:
            query = self.core.entry(key)
            query.touched = True
            query.set(value, writer, names, age=age)
            query.settle_down()

    def _find_one(self, key: Any) -> Query | None:
        return self.cache.find(key.key if isinstance(key, Options) else key)
