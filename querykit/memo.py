"""What an observer remembers, until an identity under which it was made is forgotten (S3)."""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from querykit.identity import Identities, Ledger

__all__: list[str] = []

V = TypeVar("V")


class Memo(Generic[V]):
    """One remembered value.

    Args:
        ledger: the client's, which tells it when an identity is forgotten, and does not hold it.
        gone: called when it is dropped for that reason.

    Attributes:
        value: what is remembered, or None.
        identities: under which it was made.
    """

    __slots__ = ("__weakref__", "_gone", "_ledger", "identities", "value")

    def __init__(self, ledger: Ledger, gone: Callable[[], None]) -> None:
        self._ledger = ledger
        self._gone = gone
        self.identities: Identities = {}
        self.value: V | None = None

    def keep(self, value: V, identities: Identities) -> None:
        """Remember a value that was made under these identities."""
        self.value, self.identities = value, identities
        if identities:
            self._ledger.remind(self, identities)

    def drop(self) -> None:
        """Remember nothing."""
        self.value, self.identities = None, {}

    def spread(self) -> None:
        """Let the running function take on the identities of what it reads here."""
        if self.identities:
            self._ledger.spread(self.identities)

    def uses(self, identity: Hashable) -> bool:
        """Whether the value was made under `identity`."""
        return identity in self.identities

    def forget(self, identity: Hashable) -> None:
        """Drop it: what it was made of is gone."""
        if identity in self.identities:
            self.drop()
            self._gone()
