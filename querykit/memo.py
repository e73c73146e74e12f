"""What an observer remembers, until an identity under which it was made is forgotten (S3)."""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from querykit.identity import Identities, Ledger

__all__: list[str] = []

V = TypeVar("V")


class Memo(Generic[V]):
    """One remembered value.

    Args:
        ledger: the client's, by which it is found when an identity is forgotten.
        gone: called when it is dropped for that reason.

    Attributes:
        value: what is remembered, or None.
    """

    __slots__ = ("__weakref__", "_gone", "_identities", "_ledger", "value")

    def __init__(self, ledger: Ledger, gone: Callable[[], None]) -> None:
        self._ledger = ledger
        self._gone = gone
        self._identities: Identities = {}
        self.value: V | None = None

    def keep(self, value: V, identities: Identities) -> None:
        """Remember a value that was made under these identities."""
        before, self._identities = self._identities, identities
        self.value = value
        for identity in identities:
            self._ledger.index(identity, self)
        if before:
            self._ledger.unindex(before, self)

    def drop(self) -> None:
        """Remember nothing."""
        before, self._identities = self._identities, {}
        self.value = None
        if before:
            self._ledger.unindex(before, self)

    def spread(self) -> None:
        """Let the running function take on the identities of what it reads here."""
        if self._identities:
            self._ledger.spread(self._identities)

    def uses(self, identity: Hashable) -> bool:
        """Whether the value was made under `identity`."""
        return identity in self._identities

    def forget(self, identity: Hashable) -> None:
        """Drop it: what it was made of is gone."""
        if identity in self._identities:
            self.drop()
            self._gone()
