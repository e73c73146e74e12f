"""Default options by key prefix."""

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, cast

from querykit.keys import FrozenKey, QueryKey, freeze, starts_with

__all__: list[str] = []

D = TypeVar("D", bound=Mapping[str, Any])


class PrefixDefaults(Generic[D]):
    """Default options: for all, and by key prefix. Prefixes that match are merged in the order of registration."""

    def __init__(self, options: D, check: Callable[[D], object]) -> None:
        check(options)
        self._base = cast("D", {**options})
        self._check = check
        self._prefixes: dict[FrozenKey, D] = {}

    @property
    def differ_by_key(self) -> bool:
        """Whether any prefix has defaults of its own."""
        return bool(self._prefixes)

    def set(self, prefix: QueryKey, options: D) -> None:
        """Set the defaults of the keys that begin with `prefix`, in place of those set for it before."""
        self._check(options)
        self._prefixes[freeze(prefix)] = cast("D", {**options})

    def get(self, key: FrozenKey) -> D:
        """Return what is set for `key`, the defaults for all included."""
        merged: dict[str, Any] = {**self._base}
        for prefix, options in self._prefixes.items():
            if starts_with(key, prefix):
                merged.update(options)
        return cast("D", merged)
