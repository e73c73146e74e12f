"""One mutation's life: its callbacks, attempts and optimistic changes, and those who wait for it."""

import asyncio
import inspect
import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol, cast

from querykit.cache import QueryCache
from querykit.callables import called
from querykit.entry import Cause
from querykit.errors import ClientClosed, QueryCancelled, kept
from querykit.flight import Failure, Waited
from querykit.identity import Identities, Record, recording
from querykit.keys import FrozenKey, QueryKey, freeze, snapshot
from querykit.mutation_options import MutationContext, ResolvedMutation, check_mutation_fn, keys, pairs
from querykit.mutation_state import IDLE, MutationState, MutationStatus
from querykit.optimistic import Changes
from querykit.outcome import Outcome
from querykit.query import Query
from querykit.retry import attempt
from querykit.state import Unset

__all__ = ["Mutation"]


class Follower(Protocol):
    """Who observes a mutation, seen from below."""

    def changed(self) -> None:
        """The mutation has changed: tell of it when that is due."""
        ...

    def ended(self, data: object, error: BaseException | None, variables: object, context: MutationContext) -> None:
        """The mutation has ended; `changed` follows."""
        ...


class Keeper(Protocol):
    """All mutations of a client, seen from below."""

    @property
    def cache(self) -> QueryCache:
        """All queries of the client."""
        ...

    @property
    def callbacks(self) -> Mapping[str, Callable[..., object]]:
        """The client's own callbacks for every mutation."""
        ...

    def entry(self, key: QueryKey, /) -> Query:
        """Return the query of a key, made if need be."""
        ...

    def changed(self, mutation: "Mutation", cause: Cause) -> None:
        """Tell of a change."""
        ...

    def drop(self, mutation: "Mutation", cause: Cause) -> None:
        """The mutation is no longer part of the cache."""
        ...

    def settle(self, mutation: "Mutation") -> None:
        """The mutation may be unused from now on."""
        ...

    def is_next(self, mutation: "Mutation") -> bool:
        """Whether it is the mutation's turn in its scope."""
        ...

    def following(self, mutation: "Mutation") -> "Mutation | None":
        """Return what waits in the scope for the mutation to end."""
        ...

    def ended(self, mutation: "Mutation") -> None:
        """The next one of its scope may run."""
        ...

    def stopped(self, mutation: "Mutation") -> None:
        """It does not go on for now: it has ended, or it waits."""
        ...


class Mutation(Waited):
    """One call of `client.mutate`: its `key`, `scope`, `meta` and `state` are for reading."""

    def __init__(
        self,
        keeper: Keeper,
        number: int,
        options: ResolvedMutation,
        variables: object,
        record: Record,
        outcome: Outcome[Any],
    ) -> None:
        self.key: QueryKey | None = None if options.key is None else snapshot(options.key)
        self.frozen_key: FrozenKey = () if options.key is None else freeze(options.key)
        self.scope: Hashable = options.scope
        self.options = options
        self.frozen: FrozenKey = (number,)  # by which it rests
        self.gc_time = options.gc_time
        self.touched = self.rests = False
        self.observer: Follower | None = None
        self.is_gone = False
        self.task: asyncio.Task[Any] | None = None
        self.is_paused = self.waits_for_presence = self._is_revoked = False
        self._keeper = keeper
        self._cache = keeper.cache
        self._record: Record | None = record
        self._names: Identities = {}
        self._failures = 0
        self._changes = Changes(keeper.cache, keeper.entry)
        self._turn: asyncio.Future[None] | None = None
        self._state: MutationState[Any, Any] = MutationState("pending", variables=variables)
        self.outcome: Outcome[Any] | None = outcome
        outcome.of(self)
        record.belongs_to(self)

    def __repr__(self) -> str:
        return f"<Mutation {self.label!r} {self._state.status}>"

    # What others may know

    @property
    def state(self) -> MutationState[Any, Any]:
        """A snapshot of the state; a function that reads it takes on its identities (S3)."""
        self._cache.ledger.spread(self.names)
        return self._state

    @property
    def meta(self) -> Mapping[str, Any]:
        """The `meta` option."""
        return self.options.meta

    @property
    def status(self) -> MutationStatus:
        """What has become of it."""
        return self._state.status

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._record is not None

    @property
    def label(self) -> QueryKey:
        """What names it in an error: its key, or else its function."""
        fn = self.options.fn
        # Not its repr: what is bound to it may be secret.
        return (called(fn),) if self.key is None else self.key

    @property
    def names(self) -> Identities:
        """The identities that it has used."""
        return self._names if self._record is None else self._record.names

    def readers(self) -> Iterator[Record]:
        """Yield the records of those who wait for it: who awaits it, and who is next in its scope."""
        if self.outcome is not None:
            yield from self.outcome.readers
        following = self._keeper.following(self)
        if following is not None and following._record is not None:
            yield following._record

    def set_options(self, options: ResolvedMutation) -> None:
        """Go on with other options, as far as they still matter."""
        self.options = replace(options, fn=self.options.fn) if isinstance(options.fn, Unset) else options
        self.gc_time = options.gc_time

    # S3

    def uses(self, identity: Hashable) -> bool:
        """Whether anything here was, or is being, computed under `identity`."""
        return not self.is_gone and identity in self.names

    def forget(self, identity: Hashable) -> None:
        """Let go of all of it; it runs on for its caller alone."""
        if self.uses(identity):
            self.vanish(Cause.FORGET)

    def vanish(self, cause: Cause) -> None:
        """Hold nothing any more."""
        self.is_gone = True
        self._is_revoked = cause is Cause.FORGET and self._state.submitted_at is not None
        self._state = IDLE
        if cause is Cause.FORGET:
            self._changes.withdraw()
        self._cache.ledger.unindex(self.names, self)
        self._keeper.drop(self, cause)
        self._tell_observer()

    def _set(self, cause: Cause, **changes: Any) -> None:
        if self.is_gone:
            return
        if self._record is not None and self._record.is_doomed:  # it has read what was forgotten before
            self.vanish(Cause.FORGET)
            return
        fields = {name: getattr(self._state, name) for name in self._state.__struct_fields__}
        self._state = MutationState(**{**fields, **changes})
        self._tell_observer()
        self._keeper.changed(self, cause)

    def _tell_observer(self) -> None:
        if self.observer is not None:
            self.observer.changed()

    def _tell_end(self, *ending: Any) -> None:
        if self.observer is not None and not self.is_gone:
            self.observer.ended(*ending)

    # Optimistic changes

    def show_changes(self, variables: object) -> None:
        """Let the changes that are hoped for be seen at once."""
        record = self._record
        if record is None or self.is_gone:
            return
        given = self.options.optimistic
        try:
            with recording(record):
                changes = pairs(given(variables)) if callable(given) else cast("list[Any]", given)
        except (Exception, asyncio.CancelledError) as error:
            self._cache.report(f"optimistic of {self!r}: {called(given)} raised {type(error).__name__}", error)
            return
        self._changes.show(changes, variables, record)

    # Running

    def begin(self, variables: object) -> None:
        """Be pending from now on; all this is in place before the task is made."""
        paused = self.is_paused = not self._may_run()
        self._set(Cause.MUTATE, variables=variables, is_paused=paused, submitted_at=self._cache.now())

    async def run(self, variables: object) -> None:
        """Run to the end, whoever waits."""
        task = self.task = cast("asyncio.Task[Any]", asyncio.current_task())
        options = self.options
        context = MutationContext(self._cache.client, self.key, options.meta)
        data: object = None
        error: BaseException | None = None
        try:
            try:
                data = await self._perform(variables, context)
            except asyncio.CancelledError:
                if task.cancelling():
                    raise
                error = QueryCancelled(self.label, "cancelled by its own function", "mutation")
            except Exception as raised:
                error = raised
            if error is not None:
                await self._fail(error, variables, context, task)
            self._end(data, error, variables, context)
        except BaseException:
            self._end(None, QueryCancelled(self.label, "interrupted", "mutation"), variables, context)
            raise
        finally:
            del error  # else it holds this frame, which holds it

    async def _perform(self, variables: object, context: MutationContext) -> object:
        await self._call("on_mutate", False, variables, context)
        context.value = await self._call("on_mutate", True, variables, context)
        if context.value is not None:
            self._set(Cause.MUTATE, value=context.value)
        data = await attempt(
            lambda: self._attempt(variables, context),
            self.options.retry,
            failed=self._failed,
            time_left=lambda: math.inf,
            sleep=self._cache.sleep,
            jitter=self._cache.jitter,
        )
        self._failures = 0
        self._changes.confirm()
        try:
            for own in (False, True):
                await self._call("on_success", own, data, variables, context)
        finally:  # whatever was raised: the server has changed
            self._invalidate(data, variables)
        for own in (False, True):
            await self._call("on_settled", own, data, None, variables, context)
        return data

    async def _call(self, name: str, own: bool, *arguments: object) -> object:
        callback = getattr(self.options, name) if own else self._keeper.callbacks.get(name)
        result = None if callback is None else callback(*arguments)
        return await result if inspect.isawaitable(result) else result

    async def _attempt(self, variables: object, context: MutationContext) -> object:
        await self._permitted()
        if self._is_revoked:  # it was called under a credential that is gone, and would use another
            raise QueryCancelled(self.label, "forgotten", "mutation")
        fn = cast("Callable[..., object]", self.options.fn)
        arguments = (variables, context)[: check_mutation_fn(fn)]
        result = fn(*arguments)
        return await result if inspect.isawaitable(result) else result

    def _failed(self, failures: int, error: Exception) -> bool:
        """Note a failed attempt, and return whether another one is of use: not under a credential that is gone."""
        self._failures = failures
        self._set(Cause.FAILURE, failure_count=failures, failure_reason=kept(error))
        return not self.is_gone

    @property
    def is_permitted(self) -> bool:
        """Whether an attempt may be made now, as far as the network and those who look are concerned."""
        return self._cache.presence.permits(self.options.network_mode, retrying=self._failures > 0)

    def _may_run(self) -> bool:
        return self.is_permitted and self._keeper.is_next(self)

    async def _permitted(self) -> None:
        if self.outcome is None:
            raise QueryCancelled(self.label, "closed with its client", "mutation")
        while not self._may_run():
            if not self.is_paused:
                self.is_paused = True
                self._set(Cause.PAUSE, is_paused=True)
            self._keeper.stopped(self)
            if self._keeper.is_next(self):
                self.waits_for_presence = True
                mode, retrying = self.options.network_mode, self._failures > 0
                await self._cache.presence.permitted(mode, retrying=retrying)
                self.waits_for_presence = False
            else:
                self._turn = self._cache.loop().create_future()
                await self._turn
        if self.is_paused:
            self.is_paused = False
            self._set(Cause.CONTINUE, is_paused=False)

    def take_turn(self) -> None:
        """It is the first of its scope now."""
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)

    async def _fail(
        self, error: BaseException, variables: object, context: MutationContext, task: asyncio.Task[Any]
    ) -> None:
        self._changes.withdraw()
        calls: list[tuple[str, tuple[object, ...]]] = [
            ("on_error", (error, variables, context)),
            ("on_settled", (None, error, variables, context)),
        ]
        for name, arguments in calls:
            for own in (False, True):
                try:
                    await self._call(name, own, *arguments)
                except (Exception, asyncio.CancelledError) as raised:
                    if task.cancelling():
                        raise
                    self._cache.report(f"{name} of {self!r} raised {type(raised).__name__}", raised)

    def _invalidate(self, data: object, variables: object) -> None:
        given = self.options.invalidates
        try:
            wanted = keys(given(data, variables)) if callable(given) else cast("list[Any]", given)
            with self._cache.delivery, suppress(ClientClosed):
                for key in wanted:
                    _ = self._cache.client.invalidate_queries(key)
        except (Exception, asyncio.CancelledError) as error:
            self._cache.report(f"invalidates of {self!r}: {called(given)} raised {type(error).__name__}", error)

    # Ending

    def _end(self, data: object, error: BaseException | None, variables: object, context: MutationContext) -> None:
        outcome, record = self.outcome, self._record
        if outcome is None or record is None:  # it was closed with its client
            return
        self._changes.withdraw()
        with self._cache.delivery:
            self._cache.delivery.call(lambda: self._tell_end(data, error, variables, context))
            if error is None:
                ending = {"status": "success", "data": data, "has_data": True, "failure_count": 0}
                self._set(Cause.SUCCESS, **ending, failure_reason=None, is_paused=False)
            else:
                reason, failures = kept(error), self._failures or 1
                ending = {"status": "error", "error": reason, "failure_count": failures}
                self._set(Cause.ERROR, **ending, failure_reason=reason, is_paused=False)
            self._names, self._record, self.outcome = dict(record.names), None, None
            self.task = None  # its context holds the record
            self._keeper.ended(self)
        outcome.settle(data, None if error is None else Failure(error, record))

    def close(self) -> None:
        """The client ends: those who wait get `QueryCancelled`."""
        outcome, record = self.outcome, self._record
        self.vanish(Cause.REMOVE)
        self._names, self._record, self.outcome = {}, None, None
        if outcome is not None and record is not None:
            error = QueryCancelled(self.label, "closed with its client", "mutation")
            outcome.settle(None, Failure(error, record))
