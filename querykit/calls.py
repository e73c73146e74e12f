"""One call on a key: its arguments put together, checked, and carried out on the query."""

from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from querykit.cache import QueryCache
from querykit.context import Fn
from querykit.errors import MissingQueryFunction
from querykit.flight import Source, Waiter, is_bound, make_source, waits
from querykit.identity import Ledger
from querykit.keys import FrozenKey, QueryKey, check_key, freeze
from querykit.observer import Follower
from querykit.options import Defaults, Options, ResolvedOptions, check_fn, overlaid
from querykit.pending import Pending
from querykit.query import Query
from querykit.runtime import Runtime
from querykit.state import UNSET, Skip, Unset, skip

__all__: list[str] = []


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A key with the function and the resolved options of one call."""

    key: QueryKey
    frozen: FrozenKey
    fn: Fn[Any] | Skip | Unset
    options: ResolvedOptions
    selector: Callable[[Any], Any] | None
    given: Collection[str] = ()

    def source(self, query: Query | None) -> Source | None:
        """Return with what to fetch: the call's function, or the query's own with what the call adds to its options.

        None if there is neither.

        Raises:
            TypeError: the function needs more than one argument.
        """
        if isinstance(self.fn, Unset):
            own = None if query is None else query.source
            if own is None or not self.given:
                return own
            return make_source(own.fn, overlaid(own.options, self.options, self.given))
        return None if isinstance(self.fn, Skip) else make_source(self.fn, self.options)

    def missing(self) -> MissingQueryFunction:
        """Return the error that says that there is nothing to fetch with."""
        why = "its function is `skip`" if self.fn is skip else "no query function was given"
        return MissingQueryFunction(
            f"there is no fresh data for {self.key!r} and {why}: pass fn, or set a default for it"
        )


def make_call(defaults: Defaults, key: object, fn: Any, given: dict[str, Any]) -> Call:
    """Put one call together from a key or an `Options` value.

    Raises:
        TypeError: the key, the function or an option is of a wrong type.
        ValueError: an option's value is impossible.
    """
    selector = None
    if isinstance(key, Options):
        if fn is not UNSET:
            raise TypeError("the options hold a query function already: pass options.key to use another")
        fn, selector, given = key.fn, key.selector, {**key.options, **given}
        key = key.key
    checked = check_key(key)
    check_fn(fn)
    frozen = freeze(checked)
    options = defaults.resolve(frozen, given)
    if fn is UNSET:
        fn = defaults.fn(frozen) or UNSET
    return Call(checked, frozen, fn, options, selector, given)


def begin(query: Query, source: Source, ledger: Ledger) -> Waiter | None:
    """Fetch for nobody in particular; nothing, where waiting for it would close a circle of queries."""
    return None if waits(ledger.current(), query.flight) is not None else query.ask(source, held=True)


class Mounting:
    """How an observation gets at its query."""

    def __init__(self, runtime: Runtime, cache: QueryCache, call: Call, build: Callable[[Call], Query]) -> None:
        self.ledger = cache.ledger
        self.now = cache.now
        self._cache = cache
        self._runtime = runtime
        self._call = call
        self._build = build

    def attach(self, follower: Follower) -> Query:
        """Attach to the query; fetch it if it is not fresh and there is a function."""
        self._runtime.check()
        self._runtime.bound_loop()
        source = self._source()
        with self._cache.delivery:
            query = self._built()
            query.attach(follower)
            if source is not None:
                query.mount(source, wanted=not query.is_fresh(self._call.options.stale_time, self.now()))
        return query

    def refetch(self) -> Coroutine[Any, Any, None]:
        """Ask for a new answer, as a caller does who finds nothing fresh."""
        self._runtime.check()
        source = self._source()
        if source is None:
            raise self._call.missing()
        with self._cache.delivery:
            query = self._built()
            waiter = begin(query, source, self.ledger)
            query.settle_down()
        return Pending(self.ledger, [] if waiter is None else [(query, waiter)])

    def _source(self) -> Source | None:
        return self._call.source(self._cache.entries.get(self._call.frozen))

    def _built(self) -> Query:
        """Return the query; initial data that belongs to an identity is used the first time only (S3)."""
        query = self._build(self._call)
        options = self._call.options
        if options.initial_data is not UNSET and is_bound(options):
            self._call = replace(self._call, options=replace(options, initial_data=UNSET))
        return query

    def in_thread(self, callback: Callable[[], None]) -> None:
        """Call back in the client's thread: the garbage collector may run in any."""
        self._runtime.in_thread(callback)
