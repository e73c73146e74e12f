"""Which queries a call means."""

from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypedDict, cast

from querykit.checks import tag_set
from querykit.keys import FrozenKey, check_key, freeze, starts_with
from querykit.query import Query
from querykit.state import FetchStatus

__all__ = ["QueryFilters"]

Predicate = Callable[[Query], bool]


class QueryFilters(TypedDict, total=False):
    """Which queries are meant; all that is given must hold, and what is left out means all.

    Attributes:
        exact: only the query of exactly this key, not those it is a prefix of.
        type: `"active"` are the observed ones, `"inactive"` the others.
        stale: only those that are stale, or only those that are not.
        fetch_status: only those in this fetch status.
        predicate: only those for which this returns a true value.
        tags: only those that carry all of these tags.
    """

    exact: bool
    type: Literal["all", "active", "inactive"]
    stale: bool
    fetch_status: FetchStatus
    predicate: Predicate
    tags: Collection[Hashable]


_CHOICES: Final[dict[str, tuple[object, ...]]] = {
    "type": ("all", "active", "inactive"),
    "fetch_status": ("idle", "fetching", "paused"),
}


@dataclass(frozen=True, slots=True)
class Filters:
    """Filters that were checked, with the key as it is stored."""

    key: FrozenKey | None = None
    exact: bool = False
    type: str = "all"
    stale: bool | None = None
    fetch_status: FetchStatus | None = None
    predicate: Predicate | None = None
    tags: frozenset[Hashable] = field(default=frozenset())

    @property
    def is_key_alone(self) -> bool:
        """Whether these would match a key that is not in the cache."""
        return self.type == "all" and not self.tags and not self.is_conditional

    @property
    def is_conditional(self) -> bool:
        """Whether each match of the key has to be looked at."""
        return self.stale is not None or self.fetch_status is not None or self.predicate is not None

    @property
    def is_of_tags(self) -> bool:
        """Whether these ask for tags, perhaps under a key, and for nothing that changes by itself."""
        return bool(self.tags) and self.type == "all" and not self.is_conditional

    def means(self, query: Query) -> bool:
        """Whether the key and the tags hold for `query`."""
        key = self.key
        if key is not None and not (query.frozen == key if self.exact else starts_with(query.frozen, key)):
            return False
        return self.tags <= query.tags

    def accepts(self, query: Query, now: float) -> bool:
        """Whether all but the key holds for `query`."""
        if self.type != "all" and query.is_active is not (self.type == "active"):
            return False
        if not self.tags <= query.tags:
            return False
        if self.stale is not None and query.is_stale(now) is not self.stale:
            return False
        if self.fetch_status is not None and query.fetch_status != self.fetch_status:
            return False
        return self.predicate is None or bool(self.predicate(query))


def make_filters(key: object, given: dict[str, Any], *, unset: object) -> Filters:
    """Check filters, where `unset` is the key that was left out.

    Raises:
        TypeError: the key is no tuple, a filter is None, unknown or of a wrong type.
        ValueError: a filter has a value that it cannot have.
    """
    values: dict[str, Any] = {}
    if key is not unset:
        values["key"] = freeze(check_key(key, "key filter"))
    for name, value in given.items():
        values[name] = _check(name, value)
    if values.get("exact") and "key" not in values:
        raise TypeError("exact=True needs a key")
    return Filters(**values)


def _check(name: str, value: object) -> object:
    if name not in QueryFilters.__annotations__:
        raise TypeError(f"unknown filter {name!r}; there are key, {', '.join(QueryFilters.__annotations__)}")
    if value is None:
        raise TypeError(f"the filter {name}=None means nothing: leave it out to mean all")
    if name == "tags":
        if not (tags := tag_set(value)):
            raise ValueError("the filter tags is empty: leave it out to mean all")
        return tags
    if name == "predicate":
        if not callable(value):
            raise TypeError(f"predicate is a callable that takes the query, not {value!r}")
        return cast("Predicate", value)
    if name in {"exact", "stale"}:
        if not isinstance(value, bool):
            raise TypeError(f"the filter {name} is True or False, not {value!r}")
    elif value not in _CHOICES[name]:
        raise ValueError(f"the filter {name} is one of {_CHOICES[name]}, not {value!r}")
    return value
