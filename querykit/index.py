"""Finding keys by prefix, at a cost that follows the matches and not the size (S6)."""

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from querykit.keys import FrozenKey, matching, starts_with

__all__: list[str] = []

T = TypeVar("T")


class _Node(dict[Any, Any]):
    """What lies below a key part: values at the parts that end a key, nodes at the others."""

    __slots__ = ()


# The place in a node of the value whose key ends there, while longer keys go on.
_HERE: Final = object()


class PrefixIndex(Generic[T]):
    """Values by key, as a tree with a node for each key part; the last part's value stands in its parent."""

    def __init__(self) -> None:
        self._root = _Node()

    def add(self, key: FrozenKey, value: T) -> None:
        """Put `value` at `key`."""
        node = self._root
        for part in key[:-1]:
            below = node.get(part)
            if not isinstance(below, _Node):
                below = node[part] = _Node({_HERE: below}) if part in node else _Node()
            node = below
        last = key[-1] if key else _HERE
        below = node.get(last)
        if isinstance(below, _Node):
            below[_HERE] = value
        else:
            node[last] = value

    def discard(self, key: FrozenKey) -> None:
        """Take out the value at `key`, if there is one, and the nodes that nothing needs any more."""
        path: list[tuple[_Node, object]] = []
        below: Any = self._root
        for part in (*key, _HERE):
            if not isinstance(below, _Node) or part not in below:
                break
            path.append((below, part))
            below = below[part]
        if len(path) < len(key) or not path or isinstance(below, _Node):
            return
        for node, part in reversed(path):
            del node[part]
            if node:
                break

    def under(self, prefix: FrozenKey) -> list[T]:
        """Return the values whose keys `prefix` matches."""
        nodes: list[Any] = [self._root]
        for part in prefix:
            nodes = [node[name] for node in nodes if isinstance(node, _Node) for name in matching(node, part)]
        found: list[T] = []
        for node in nodes:
            found.extend(_leaves(node))
        return found


def _leaves(node: Any) -> list[Any]:
    if not isinstance(node, _Node):
        return [node]
    found: list[Any] = []
    stack = [node]
    while stack:
        for below in stack.pop().values():
            (stack if isinstance(below, _Node) else found).append(below)
    return found


class Journal:
    """When keys and prefixes were last invalidated, or removed, for those who write with an older epoch.

    It is kept only while something older than its notes runs: a key need not be in the cache for that.
    """

    def __init__(self) -> None:
        self._exact: dict[FrozenKey, int] = {}
        self._prefixes: dict[FrozenKey, int] = {}
        self._prune_at = 64

    def note(self, key: FrozenKey, epoch: int, *, exact: bool, oldest: Callable[[], int]) -> None:
        """Note that `key`, or all keys it is a prefix of, were concerned at `epoch`.

        From time to time, what is older than the `oldest` that runs is dropped.
        """
        notes = self._exact if exact else self._prefixes
        notes[key] = max(epoch, notes.get(key, epoch))
        if len(self) > self._prune_at:
            limit = oldest()
            self._exact = {noted: when for noted, when in self._exact.items() if when >= limit}
            self._prefixes = {noted: when for noted, when in self._prefixes.items() if when >= limit}
            self._prune_at = max(64, 2 * len(self))

    def latest(self, key: FrozenKey) -> int:
        """Return the last epoch at which `key` was concerned, or -1."""
        latest = self._exact.get(key, -1)
        for prefix, epoch in self._prefixes.items():
            if epoch > latest and starts_with(key, prefix):
                latest = epoch
        return latest

    def clear(self) -> None:
        """Drop all notes: nothing runs."""
        self._exact.clear()
        self._prefixes.clear()

    def __len__(self) -> int:
        return len(self._exact) + len(self._prefixes)
