"""Identities (S3): which credentials a running callable used, and since when.

A *record* travels in a context variable with everything whose value the client keeps. Who uses a credential
names it with `use_identity`; the record remembers the epoch at which it first did. Forgetting an identity
stamps it with a newer epoch: whatever was computed under an older one is refused from then on.
"""

import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ParamSpec, Protocol, TypeVar

__all__ = ["use_identity"]

P = ParamSpec("P")
R = TypeVar("R")

Identities = Mapping[Hashable, int]
"""Identities, each with the epoch at which it was first used."""


class Holder(Protocol):
    """What holds, or computes, results of an identity: an entry or a flight, seen from below."""

    def uses(self, identity: Hashable) -> bool:
        """Whether what is here was, or is being, computed under `identity`."""
        ...

    def forget(self, identity: Hashable) -> None:
        """Let go of what was computed under `identity`."""
        ...


class Record:
    """What one run of a callable used: a query function, an updater, a mutation.

    Attributes:
        ledger: the ledger of the client it runs for.
        began: the epoch at which it began.
        holder: what is told when one of its identities is forgotten, if anything.
        names: the identities used so far, each with the epoch of its first use.
    """

    __slots__ = ("__weakref__", "began", "holder", "ledger", "names")

    def __init__(self, ledger: "Ledger", holder: Holder | None = None) -> None:
        self.ledger = ledger
        self.began = ledger.tick()
        self.holder = holder
        self.names: dict[Hashable, int] = {}
        ledger.living.add(self)

    def name(self, identity: Hashable) -> None:
        """Note the use of `identity` now; an earlier use of it counts for more."""
        if identity not in self.names:
            self.take_on({identity: self.ledger.epoch})

    def take_on(self, identities: Identities) -> None:
        """Take on the identities of data that was read, with their epochs: the earlier wins."""
        for identity, epoch in tuple(identities.items()):
            if self.names.get(identity, epoch) >= epoch:
                self.names[identity] = epoch
                if self.holder is not None and self.holder.uses(identity):
                    self.ledger.index(identity, self.holder)

    @property
    def counts_from_its_beginning(self) -> bool:
        """Whether what it writes counts as begun with it: so for a fetch, whose answer would too."""
        return self.holder is not None

    def enter(self) -> None:
        """Make this the running record of the present context."""
        _record.set(self)

    @property
    def is_doomed(self) -> bool:
        """Whether one of its identities was forgotten after its first use."""
        return self.ledger.dooms(self.names)


class Ledger:
    """One client's epochs: a counter that every event raises, and the identities stamped with it.

    Attributes:
        epoch: the number of the last event.
        living: the records of what still runs, or may still write.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self.living: weakref.WeakSet[Record] = weakref.WeakSet()
        self._stamps: dict[Hashable, int] = {}
        self._holders: dict[Hashable, set[Holder]] = {}

    def tick(self) -> int:
        """Return a new epoch, later than all others."""
        self.epoch += 1
        return self.epoch

    def oldest(self) -> int:
        """Return the epoch at which the oldest living record began, or the present one."""
        return min((record.began for record in tuple(self.living)), default=self.epoch)

    def current(self) -> Record | None:
        """Return the running record if it is one of this ledger."""
        record = _record.get()
        return record if record is not None and record.ledger is self else None

    def spread(self, identities: Identities) -> None:
        """Let the running record, if any, take on what it has read here.

        The record of another client's callable names them now, since two clients' epochs cannot be compared.
        """
        record = _record.get()
        if record is None:
            return
        if record.ledger is self:
            record.take_on(identities)
        else:
            for identity in tuple(identities):
                record.name(identity)

    def dooms(self, names: Identities) -> bool:
        """Whether any of `names` was forgotten after the epoch beside it."""
        stamps = self._stamps
        return bool(stamps) and any(stamps.get(name, -1) > epoch for name, epoch in tuple(names.items()))

    def stamp(self, identity: Hashable) -> list[Holder]:
        """Forget `identity`: what named it until now is doomed. Return the holders to be told."""
        oldest = self.oldest()
        self._stamps = {name: epoch for name, epoch in self._stamps.items() if epoch >= oldest}
        self._stamps[identity] = self.tick()
        return [holder for holder in self._holders.pop(identity, ()) if holder.uses(identity)]

    def index(self, identity: Hashable, holder: Holder) -> None:
        """Make `holder` findable by an identity that it uses."""
        self._holders.setdefault(identity, set()).add(holder)

    def unindex(self, identities: Iterable[Hashable], holder: Holder) -> None:
        """Take `holder` out where it no longer uses the identity."""
        for identity in tuple(identities):
            holders = self._holders.get(identity)
            if holders is not None and not holder.uses(identity):
                holders.discard(holder)
                if not holders:
                    del self._holders[identity]


_record: ContextVar[Record | None] = ContextVar("querykit_record", default=None)


def use_identity(identity: Hashable) -> None:
    """Say that what runs now uses the credential of `identity`.

    Call it at each use of the credential, in the caller's task, with no await between it and reading the
    credential; never where a connection or a token is cached for others. Outside of any function that the
    client runs it does nothing.

    Args:
        identity: any hashable value that stands for the source of the credential.

    Raises:
        TypeError: `identity` is not hashable.

    Example:
        >>> async def fetch_me() -> str:
        ...     use_identity(("cluster", "prod"))
        ...     return "ada"
    """
    hash(identity)
    record = _record.get()
    if record is not None:
        record.name(identity)


@contextmanager
def recording(record: Record | None) -> Iterator[None]:
    """Run the block under `record`, or outside of every record."""
    token = _record.set(record)
    try:
        yield
    finally:
        _record.reset(token)


def outside(callback: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call `callback` outside of every record: what it does is not the running function's doing."""
    if _record.get() is None:
        return callback(*args, **kwargs)
    with recording(None):
        return callback(*args, **kwargs)
