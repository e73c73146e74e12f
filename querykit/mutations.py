"""All mutations of a client: their events, filters, scopes and default options."""

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextvars import copy_context
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, Literal, TypedDict, Unpack, cast

from querykit.bound import Rest, Timer
from querykit.cache import QueryCache
from querykit.entry import Cause
from querykit.errors import MissingMutationFunction
from querykit.events import Listeners, Subscription
from querykit.identity import Record
from querykit.keys import QueryKey, check_key, freeze, starts_with
from querykit.mutation import Mutation
from querykit.mutation_options import (
    MutationDefaults,
    MutationSpec,
    ResolvedMutation,
    check_defaults,
    checked_callbacks,
    resolved,
)
from querykit.mutation_state import MutationStatus
from querykit.outcome import Outcome
from querykit.prefix_defaults import PrefixDefaults
from querykit.presence import Occasion
from querykit.query import Query
from querykit.runtime import Runtime
from querykit.state import UNSET, Unset

__all__ = ["MutationCache", "MutationEvent", "MutationFilters"]

_STATUSES: Final = ("idle", "pending", "success", "error")


@dataclass(frozen=True, slots=True, eq=False)
class MutationEvent:
    """One change among the mutations.

    Attributes:
        kind: whether a mutation came, changed or went.
        mutation: the mutation; its `state` is the present one.
        cause: why it did.
    """

    kind: Literal["added", "updated", "removed"]
    mutation: Mutation
    cause: Cause


class MutationFilters(TypedDict, total=False):
    """Which mutations are meant; all that is given must hold, and what is left out means all.

    Attributes:
        exact: only those of exactly this key, not those it is a prefix of.
        status: only those in this status.
        predicate: only those for which this returns a true value.
    """

    exact: bool
    status: MutationStatus
    predicate: Callable[[Mutation], bool]


def _accepts(key: object, given: dict[str, Any]) -> Callable[[Mutation], bool]:
    for name, value in given.items():
        if name not in MutationFilters.__annotations__:
            raise TypeError(f"unknown filter {name!r}; there are key, {', '.join(MutationFilters.__annotations__)}")
        if value is None:
            raise TypeError(f"the filter {name}=None means nothing: leave it out to mean all")
    exact, status = given.get("exact", False), given.get("status")
    predicate: Callable[[Mutation], object] | None = given.get("predicate")
    if not isinstance(exact, bool):
        raise TypeError(f"the filter exact is True or False, not {exact!r}")
    if exact and key is UNSET:
        raise TypeError("exact=True needs a key")
    if status is not None and status not in _STATUSES:
        raise ValueError(f"the filter status is one of {_STATUSES}, not {status!r}")
    if predicate is not None and not callable(predicate):
        raise TypeError(f"predicate is a callable that takes the mutation, not {predicate!r}")
    prefix = None if key is UNSET else freeze(check_key(key, "key filter"))

    def accepts(mutation: Mutation) -> bool:
        if prefix is not None:
            own = mutation.frozen_key
            if mutation.key is None or not (own == prefix if exact else starts_with(own, prefix)):
                return False
        return (status is None or mutation.status == status) and (predicate is None or bool(predicate(mutation)))

    return accepts


class MutationCache:
    """All mutations of a client, from their call until some time after their end. Read it and subscribe to it.

    Attributes:
        cache: the client's queries.
        callbacks: what the client was made to call for every mutation.
        defaults: the default options.

    Example:
        >>> import asyncio
        >>> from querykit.client import QueryClient
        >>> async def main() -> None:
        ...     async with QueryClient() as client:
        ...         with client.mutations.subscribe(lambda event: print(event.kind, event.mutation.status)):
        ...             await client.mutate(str.title, "ada", key=("rename",))
        >>> asyncio.run(main())
        added pending
        updated pending
        updated success
    """

    def __init__(
        self,
        runtime: Runtime,
        cache: QueryCache,
        entry: Callable[[QueryKey], Query],
        defaults: Mapping[str, Any],
        callbacks: object,
        max_entries: float,
    ) -> None:
        self.cache: Final = cache
        self.callbacks: Final = checked_callbacks(callbacks)
        self.defaults: Final[PrefixDefaults[MutationDefaults]] = PrefixDefaults(
            cast("MutationDefaults", defaults), check_defaults
        )
        self.entry: Final = entry
        self._runtime = runtime
        self._numbers = count()
        self._all: dict[Mutation, None] = {}
        self._running: dict[Mutation, None] = {}
        self._scopes: dict[Hashable, list[Mutation]] = {}
        self._resumed: set[Mutation] = set()
        self._after_resumed: dict[Occasion, Callable[[], None]] = {}
        self._listeners: Listeners[MutationEvent] = Listeners()
        self._resting: Rest[Mutation] = Rest(max_entries, now=cache.now, later=self._later, gone=self._gone)

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Mutation]:
        return iter(tuple(self._all))

    def subscribe(self, listener: Callable[[MutationEvent], object]) -> Subscription:
        """Call `listener` with each event from now on; returns what undoes it."""
        self._runtime.check_thread()
        return self._listeners.subscribe(listener)

    def match(self, key: QueryKey | Unset = UNSET, **filters: Unpack[MutationFilters]) -> list[Mutation]:
        """Return the mutations that are meant, the oldest first; `key` is a prefix unless `exact=True`.

        Raises:
            TypeError: the key or a filter is None or of a wrong type.
            ValueError: a filter has a value that it cannot have.
        """
        accepts = _accepts(key, {**filters})
        return [mutation for mutation in self if accepts(mutation)]

    def find(self, key: QueryKey | Unset = UNSET, **filters: Unpack[MutationFilters]) -> Mutation | None:
        """Return the oldest mutation that is meant, or None: see `match`."""
        return next(iter(self.match(key, **filters)), None)

    def clear(self) -> None:
        """Let go of all mutations; those that run do so to their end."""
        self._runtime.check_thread()
        with self.cache.delivery:
            for mutation in self:
                self.drop(mutation, Cause.REMOVE)
                self.settle(mutation)

    # Beginning

    def options(self, fn: Any, given: Mapping[str, Any]) -> ResolvedMutation:
        """Put a mutation's function and options together with the defaults.

        Raises:
            TypeError: the function or an option is unknown or of a wrong type.
            ValueError: an option's value is impossible.
        """
        if isinstance(fn, MutationSpec):
            return self.options(*fn.joined(given))
        frozen = freeze(check_key(given["key"], "mutation key")) if "key" in given else ()
        values: dict[str, Any] = {**self.defaults.get(frozen), **given}
        if fn is not UNSET:
            values["fn"] = fn
        return resolved(values)

    def begin(
        self, options: ResolvedMutation, variables: object, follow: Callable[[Mutation], None] | None = None
    ) -> tuple[Mutation, Outcome[Any]]:
        """Begin a mutation in a task of its own; `follow` is called with it before anybody is told.

        Raises:
            MissingMutationFunction: there is no function.
            ClientClosed: the client was closed.
            RuntimeError: no event loop runs, or another one than the client's.
        """
        self._runtime.check()
        self._runtime.bound_loop()
        if isinstance(options.fn, Unset):
            raise MissingMutationFunction(
                f"the mutation of key {options.key!r} has no function: pass fn, or set a default for its key"
            )
        ledger = self.cache.ledger
        record = Record(ledger)
        outcome: Outcome[Any] = Outcome(record, self.cache.loop())
        mutation = Mutation(self, next(self._numbers), options, variables, record, outcome)
        caller = ledger.carried()
        record.take_on((ledger.written_by() or {}) if caller is None else caller.names)
        if options.identity is not UNSET:
            record.name(options.identity)
        context = copy_context()
        context.run(record.enter)
        with self.cache.delivery:
            self._running[mutation] = None
            if options.scope is not None:
                self._scopes.setdefault(options.scope, []).append(mutation)
            if follow is not None:
                follow(mutation)
            if record.is_doomed:
                mutation.vanish(Cause.FORGET)
            else:
                self._all[mutation] = None
                self.changed(mutation, Cause.CREATE)
            mutation.begin(variables)
            mutation.show_changes(variables)
        if mutation.is_running:  # who was told has not closed the client
            task = self._runtime.spawn(mutation.run(variables), f"querykit mutation {mutation!r}", context)
            mutation.task = None if task.done() else task  # whose context holds the record
        return mutation, outcome

    def resume(self, occasion: Occasion, then: Callable[[], None]) -> None:
        """Somebody looks again, or the network is there: call `then` when what was paused for that has ended."""
        for mutation in self._running:
            if mutation.waits_for_presence and mutation.is_permitted:
                self._resumed.update([mutation] if mutation.scope is None else self._scopes[mutation.scope])
        if self._resumed:
            self._after_resumed[occasion] = then
        else:
            then()

    def close(self, inside: Callable[[Mutation], bool]) -> list[Mutation]:
        """Let go of everything; return those that are left to end, since `inside` says so."""
        spared = [mutation for mutation in self._running if inside(mutation)]
        self._resting.clear()
        everything = {**self._all, **self._running}
        self._all.clear()
        for mutation in everything:
            if mutation in spared:
                mutation.vanish(Cause.REMOVE)
            else:
                mutation.close()
        self._running.clear()
        self._scopes.clear()
        return spared

    # What mutations ask of their keeper

    def changed(self, mutation: Mutation, cause: Cause) -> None:
        """Tell the listeners of a change."""
        if mutation in self._all:
            self._post("added" if cause is Cause.CREATE else "updated", mutation, cause)

    def drop(self, mutation: Mutation, cause: Cause) -> None:
        """Take a mutation out of the cache."""
        if mutation in self._all:
            del self._all[mutation]
            self._resting.release(mutation)
            self._post("removed", mutation, cause)

    def settle(self, mutation: Mutation) -> None:
        """Let a mutation rest that has ended and that nobody observes; what is not in the cache goes."""
        if mutation.is_running or mutation.observer is not None or mutation.is_gone:
            return
        if mutation not in self._all:
            mutation.vanish(Cause.REMOVE)
        elif not mutation.rests:
            self._resting.admit(mutation)

    def wake(self, mutation: Mutation) -> None:
        """A mutation is observed: it is not collected."""
        self._resting.release(mutation)

    def is_next(self, mutation: Mutation) -> bool:
        """Whether it is the mutation's turn in its scope."""
        queue = self._scopes.get(mutation.scope)
        return not queue or queue[0] is mutation

    def following(self, mutation: Mutation) -> Mutation | None:
        """Return what waits in the scope for the mutation to end."""
        queue = self._scopes.get(mutation.scope, [])
        after = queue.index(mutation) + 1 if mutation in queue else len(queue)
        return queue[after] if after < len(queue) else None

    def ended(self, mutation: Mutation) -> None:
        """Let the next one of the scope run."""
        self._running.pop(mutation, None)
        queue = self._scopes.get(mutation.scope, [])
        if mutation in queue:
            queue.remove(mutation)
            if queue:
                queue[0].take_turn()
            else:
                del self._scopes[mutation.scope]
        self.stopped(mutation)
        self.settle(mutation)

    def stopped(self, mutation: Mutation) -> None:
        """It does not go on for now."""
        self._resumed.discard(mutation)
        if not self._resumed:
            following, self._after_resumed = self._after_resumed, {}
            for then in following.values():
                self.cache.delivery.call(then)

    def _post(self, kind: Literal["added", "updated", "removed"], mutation: Mutation, cause: Cause) -> None:
        if self._listeners:
            event = MutationEvent(kind, mutation, cause)
            what = f"a listener of the mutations, told of {cause} of {mutation!r}"
            self.cache.delivery.post(self._listeners, event, what)

    def _gone(self, mutation: Mutation, evicted: bool) -> None:
        mutation.vanish(Cause.EVICT if evicted else Cause.EXPIRE)

    def _later(self, due: float, callback: Callable[[], None]) -> Timer:
        return self._runtime.later(due, callback)
