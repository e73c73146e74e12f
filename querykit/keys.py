"""Query keys: when two keys are the same entry, and when a prefix matches one."""

import copy
import dataclasses
from collections.abc import Hashable, Iterator, Mapping, Set as AbstractSet
from types import MappingProxyType
from typing import Final, TypeAlias, cast

__all__ = ["QueryKey"]

QueryKey: TypeAlias = tuple[object, ...]
"""A tuple whose parts are hashable values, or lists, dicts, sets and dataclasses of such."""

FrozenKey: TypeAlias = tuple[Hashable, ...]


class Frozen:
    """A key part that stands for a value of another type: hashed and compared by kind and value."""

    __slots__ = ("_hash", "kind", "value")

    def __init__(self, kind: type, value: Hashable) -> None:
        self.kind: Final = kind
        self.value: Final = value
        self._hash = hash((kind, value))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frozen) and self.kind is other.kind and self.value == other.value

    def covers(self, other: Hashable) -> bool:
        """Whether `other` is a mapping that has all items of this one."""
        return isinstance(other, Frozen) and other.kind is dict and self._items() <= other._items()

    def _items(self) -> frozenset[Hashable]:
        return cast("frozenset[Hashable]", self.value)


# Python's True equals 1, and a key's must not: tanstack.md trap 14, design S5.
_TRUE: Final = Frozen(bool, 1)
_FALSE: Final = Frozen(bool, 0)


def check_key(key: object, what: str = "query key") -> QueryKey:
    """Return `key` if it is a tuple.

    Raises:
        TypeError: it is anything else; the message says what to write instead.
    """
    if isinstance(key, tuple):
        return cast("QueryKey", key)
    if isinstance(key, str):
        raise TypeError(f"a {what} is a tuple, not the string {key!r}: write ({key!r},)")
    if isinstance(key, list):
        raise TypeError(f"a {what} is a tuple, not a list: write tuple({key!r})")
    if key is None:
        raise TypeError(f"a {what} is a tuple, not None: leave the argument out to mean every key")
    if isinstance(getattr(key, "key", None), tuple):
        raise TypeError(f"a {what} is a tuple, not {type(key).__name__}: write its .key")
    raise TypeError(f"a {what} is a tuple such as ('pods', cluster), not {type(key).__name__}")


def freeze(key: QueryKey) -> FrozenKey:
    """Return the form by which a key is stored: equal for equal keys, hashable throughout.

    A key of plain hashable parts is returned as it is.

    Raises:
        TypeError: a part is neither hashable nor a container that is frozen by value.
    """
    for part in key:
        if type(part) is not str and type(part) is not int:
            return tuple([_freeze_part(part) for part in key])
    return key


def _freeze_part(part: object) -> Hashable:
    if isinstance(part, bool):
        return _TRUE if part else _FALSE
    if isinstance(part, (tuple, list)):
        return tuple([_freeze_part(item) for item in cast("list[object]", part)])
    if isinstance(part, Mapping):
        items = cast("Mapping[object, object]", part).items()
        return Frozen(dict, frozenset((_freeze_part(name), _freeze_part(value)) for name, value in items))
    if isinstance(part, AbstractSet):
        return frozenset(_freeze_part(item) for item in cast("AbstractSet[object]", part))
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        fields = [field for field in dataclasses.fields(part) if field.compare]
        return Frozen(type(part), tuple([_freeze_part(getattr(part, field.name)) for field in fields]))
    try:
        hash(part)
    except TypeError:
        raise TypeError(
            f"a query key cannot hold a {type(part).__name__}, which is not hashable: "
            "put what identifies it there instead, such as its id or its name"
        ) from None
    return part


def is_ambiguous(key: FrozenKey) -> bool:
    """Whether a different key may compare equal to this one as a Python tuple.

    Only a number equal to 0 or 1 can do that, since False and True equal it: a look-up
    by a caller's raw tuple that finds such an entry has to be verified.
    """
    return any(_has_zero_or_one(part) for part in key)


def _has_zero_or_one(part: Hashable) -> bool:
    if isinstance(part, str):
        return False
    if isinstance(part, (tuple, frozenset)):
        return any(_has_zero_or_one(item) for item in cast("tuple[Hashable, ...]", part))
    return not isinstance(part, Frozen) and part in (0, 1)


def snapshot(key: QueryKey) -> QueryKey:
    """Return a copy of `key` that later changes to its mutable parts do not reach."""
    return tuple([_snapshot_part(part) for part in key])


def _snapshot_part(part: object) -> object:
    if isinstance(part, (tuple, list)):
        return tuple([_snapshot_part(item) for item in cast("list[object]", part)])
    if isinstance(part, Mapping):
        items = cast("Mapping[object, object]", part).items()
        return MappingProxyType({name: _snapshot_part(value) for name, value in items})
    if isinstance(part, AbstractSet):
        return frozenset(cast("AbstractSet[object]", part))
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        copied = copy.copy(part)
        for field in dataclasses.fields(part):
            object.__setattr__(copied, field.name, _snapshot_part(getattr(part, field.name)))
        return copied
    return part


def matching(children: Mapping[Hashable, object], part: Hashable) -> Iterator[Hashable]:
    """Yield the names in `children` that one part of a prefix matches.

    A mapping matches every mapping of which it is a subset; anything else only its equal.
    """
    if isinstance(part, Frozen) and part.kind is dict:
        yield from (name for name in children if part.covers(name))
    elif part in children:
        yield part


def starts_with(key: FrozenKey, prefix: FrozenKey) -> bool:
    """Whether `prefix` matches `key` part by part, mapping parts by subset."""
    return len(prefix) <= len(key) and all(
        part.covers(own) if isinstance(part, Frozen) and part.kind is dict else part is own or part == own
        for part, own in zip(prefix, key, strict=False)
    )
