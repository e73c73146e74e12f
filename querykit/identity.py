"""Identities (S3): which credentials a running callable used, and since when.

A *record* travels in a context variable with everything whose value the client keeps. Who uses a credential
names it with `use_identity`; the record remembers the epoch at which it first did. Forgetting an identity
stamps it with a newer epoch: whatever was computed under an older one is refused from then on.
"""

import asyncio
import threading
import weakref
from collections.abc import Callable, Generator, Hashable, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ParamSpec, Protocol, TypeVar

__all__ = ["use_identity"]

P = ParamSpec("P")
R = TypeVar("R")

Identities = Mapping[Hashable, int]
"""Identities, each with the epoch at which it was first used."""


def merged(*several: Identities) -> dict[Hashable, int]:
    """Return the identities of data that was made from several; the earlier use of one counts."""
    names: dict[Hashable, int] = {}
    for identities in several:
        for identity, epoch in tuple(identities.items()):
            names[identity] = min(epoch, names.get(identity, epoch))
    return names


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
        counts_from_its_beginning: whether what it writes counts as begun with it: so for a fetch, whose answer
            would too.
        was_told: whether the own error of a doomed fetch was raised in it: what it raises then is told as well.
        names: the identities used so far, each with the epoch of its first use.
        context: what the query function that runs was given; None between its attempts, and for all else.
    """

    __slots__ = (
        "__weakref__", "_holder", "began", "context", "counts_from_its_beginning", "ledger", "names", "was_told",
    )  # fmt: skip

    def __init__(self, ledger: "Ledger") -> None:
        self.ledger = ledger
        self.began = ledger.tick()
        self.counts_from_its_beginning = False
        self.was_told = False
        self.names: dict[Hashable, int] = {}
        self.context: object = None
        self._holder: Callable[[], Holder | None] = _nobody
        ledger.living.add(self)

    @property
    def holder(self) -> Holder | None:
        """What is told when one of its identities is forgotten: what it is the record of, while that lives."""
        return self._holder()

    def belongs_to(self, holder: Holder) -> None:
        """Let `holder` be told of what is forgotten; it holds this record, so this one does not hold it."""
        self._holder = weakref.ref(holder)

    def name(self, identity: Hashable) -> None:
        """Note the use of `identity` now; an earlier use of it counts for more."""
        if identity not in self.names:
            self.take_on({identity: self.ledger.epoch})

    def take_on(self, identities: Identities) -> None:
        """Take on the identities of data that was read, with their epochs: the earlier wins."""
        names = self.names
        for identity, epoch in tuple(identities.items()):
            if names.get(identity, epoch + 1) > epoch:
                self.ledger.note(self, identity, epoch)

    def enter(self) -> None:
        """Make this the running record of the present context."""
        _record.set(self)

    @property
    def is_doomed(self) -> bool:
        """Whether one of its identities was forgotten after its first use."""
        return self.ledger.dooms(self.names)


def _nobody() -> None:
    """Return the holder of a record that has none."""


class Ledger:
    """One client's epochs: a counter that every event raises, and the identities stamped with it.

    Threads name identities too, so that names and the index change behind a lock; all else is the loop's.

    Attributes:
        epoch: the number of the last event.
        living: the records of what still runs, or may still write.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self.living: weakref.WeakSet[Record] = weakref.WeakSet()
        self._stamps: dict[Hashable, int] = {}
        self._holders: dict[Hashable, set[Holder]] = {}
        self._memos: dict[Hashable, weakref.WeakSet[Holder]] = {}
        self._prune_memos_at = 64
        self._lock = threading.RLock()

    def tick(self) -> int:
        """Return a new epoch, later than all others."""
        self.epoch += 1
        return self.epoch

    def oldest(self) -> int:
        """Return the epoch at which the oldest living record began, or the next one."""
        return min((record.began for record in tuple(self.living)), default=self.epoch + 1)

    def oldest_writer(self) -> int:
        """The same of those whose writes count from their beginning: fetches, which end, and not live sources."""
        writers = [record.began for record in tuple(self.living) if record.counts_from_its_beginning]
        return min(writers, default=self.epoch + 1)

    def current(self) -> Record | None:
        """Return the record of what runs now, if it is one of this ledger.

        A plain loop callback carries the record of who scheduled it, and yet is outside of what that one does:
        it runs in no task.
        """
        record = self.carried()
        return None if record is None or _in_plain_callback() else record

    def carried(self) -> Record | None:
        """Return the record that names and dooms what runs now; a plain callback's counts here."""
        record = _record.get()
        return record if record is not None and record.ledger is self else None

    def written_by(self) -> Identities | None:
        """Return the identities of a plain value that is set now; None where its writer is doomed.

        Two clients' epochs cannot be compared: what another client's callable used, it uses here now.
        """
        record = _record.get()
        if record is None:
            return {}
        if record.is_doomed:
            return None
        return record.names if record.ledger is self else dict.fromkeys(tuple(record.names), self.epoch)

    def spread(self, identities: Identities) -> None:
        """Let the running record, if any, take on what it has read here.

        Two clients' epochs cannot be compared: the record of another client's callable has used them since it
        began.
        """
        record = _record.get()
        if record is not None:
            ours = record.ledger is self
            record.take_on(identities if ours else dict.fromkeys(tuple(identities), record.began))

    def tell(self) -> None:
        """Let the running record, if any, have been told of a doomed fetch's own error."""
        record = _record.get()
        if record is not None:
            record.was_told = True

    def dooms(self, names: Identities) -> bool:
        """Whether any of `names` was forgotten after the epoch beside it."""
        stamps = self._stamps
        return bool(stamps) and any(stamps.get(name, -1) > epoch for name, epoch in tuple(names.items()))

    def stamp(self, identity: Hashable) -> list[Holder]:
        """Forget `identity`: what named it until now is doomed. Return the holders to be told."""
        with self._lock:
            self._stamps[identity] = self.tick()
            holders = {*self._holders.pop(identity, ()), *self._memos.pop(identity, ())}
        oldest = self.oldest()
        self._stamps = {name: epoch for name, epoch in self._stamps.items() if epoch > oldest}
        return [holder for holder in holders if holder.uses(identity)]

    def note(self, record: Record, identity: Hashable, epoch: int) -> None:
        """Let `record` have used `identity` since `epoch`, or earlier, and make its holder findable by it."""
        with self._lock:
            record.names[identity] = min(epoch, record.names.get(identity, epoch))
            holder = record.holder
            if holder is not None and holder.uses(identity):
                self.index(identity, holder)

    def remind(self, memo: Holder, identities: Identities) -> None:
        """Tell `memo` when one of these is forgotten, as long as somebody else holds it."""
        with self._lock:
            for identity in identities:
                self._memos.setdefault(identity, weakref.WeakSet()).add(memo)
            if len(self._memos) > self._prune_memos_at:
                every = self._memos.items()
                self._memos = {name: memos for name, memos in every if any(memo.uses(name) for memo in memos)}
                self._prune_memos_at = max(64, 2 * len(self._memos))

    def index(self, identity: Hashable, holder: Holder) -> None:
        """Make `holder` findable by an identity that it uses."""
        with self._lock:
            self._holders.setdefault(identity, set()).add(holder)

    def unindex(self, identities: Iterable[Hashable], holder: Holder) -> None:
        """Take `holder` out where it no longer uses the identity."""
        with self._lock:
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
    try:
        hash(identity)
    except TypeError:
        raise TypeError(f"an identity is a hashable value such as ('cluster', name), not {identity!r}") from None
    record = _record.get()
    if record is not None:
        record.name(identity)


def running_names() -> Identities:
    """Return what the running record, if any, has used so far, whichever client's it is."""
    record = _record.get()
    return {} if record is None else record.names


def running_context() -> object:
    """Return what the query function that runs here was given, or None if none does."""
    record = _record.get()
    return None if record is None else record.context


@contextmanager
def recording(record: Record | None) -> Generator[None, None, None]:
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


def _in_plain_callback() -> bool:
    try:
        return asyncio.current_task() is None
    except RuntimeError:  # a thread without a loop: it works for whoever started it
        return False
