"""One call on a key: its arguments put together, checked, and carried out on the query."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

from querykit.context import Fn
from querykit.errors import MissingQueryFunction
from querykit.flight import Source, Waiter, is_bound, make_source, waits
from querykit.identity import Ledger
from querykit.keys import FrozenKey, QueryKey, check_key, freeze
from querykit.options import Defaults, Options, ResolvedOptions, check_fn, overlaid
from querykit.query import Query
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

    @property
    def has_initial_data(self) -> bool:
        """Whether the options give the entry data from its beginning."""
        return self.options.initial_data is not UNSET

    def mounted(self) -> "Call":
        """Return the call as an observer keeps it: initial data that belongs to an identity is used once only (S3)."""
        if self.has_initial_data and is_bound(self.options):
            return replace(self, options=replace(self.options, initial_data=UNSET))
        return self

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
