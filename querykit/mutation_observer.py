"""Observing the mutations that one place of a program makes: the state of the latest, and callbacks for each call."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar, Unpack, overload

from querykit.callables import called
from querykit.core import HasCore, core_of
from querykit.events import Subscription
from querykit.lifetime import Lifetime
from querykit.mutation import Mutation
from querykit.mutation_options import (
    AsyncMutationFn,
    MutationContext,
    MutationOptions,
    MutationSpec,
    PlainMutationFn,
    checked,
)
from querykit.mutation_state import IDLE, MutationState
from querykit.outcome import Mutated
from querykit.state import UNSET
from querykit.subscribers import Subscriber, Subscribers

__all__ = ["MutationObserver"]

T = TypeVar("T")
V = TypeVar("V")

_NOTHING: Any = None


class MutationObserver(Lifetime, Generic[T, V]):
    """Makes mutations with the same function and options, and shows the state of the latest.

    Use it with `with` to let it live for a block, whether anybody subscribes or not.

    Args:
        client: the client whose mutations they are.
        fn: the function, or what `mutation_options` returns; without it the default for the key is used.
        options: see `MutationOptions`.

    Raises:
        TypeError: `fn` or an option is unknown or of a wrong type.
        ValueError: an option's value is impossible.

    Example:
        >>> import asyncio
        >>> from querykit.client import QueryClient
        >>> async def main() -> None:
        ...     async with QueryClient() as client:
        ...         observer = MutationObserver(client, str.title)
        ...         with observer.subscribe(lambda state: print(state.status, state.data)):
        ...             await observer.mutate("ada")
        >>> asyncio.run(main())
        pending None
        success Ada
    """

    @overload
    def __init__(self, client: HasCore, fn: MutationSpec[T, V], **options: Unpack[MutationOptions]) -> None: ...
    @overload
    def __init__(self, client: HasCore, fn: AsyncMutationFn[T, V], **options: Unpack[MutationOptions]) -> None: ...
    @overload
    def __init__(self, client: HasCore, fn: PlainMutationFn[T, V], **options: Unpack[MutationOptions]) -> None: ...
    @overload
    def __init__(self: "MutationObserver[Any, Any]", client: HasCore, **options: Unpack[MutationOptions]) -> None: ...
    def __init__(self, client: HasCore, fn: Any = UNSET, **options: Any) -> None:
        self._core = core_of(client)
        self._mutations = self._core.mutations
        self._options = self._mutations.options(fn, options)
        self._mutation: Mutation | None = None
        self._calls: dict[str, Callable[..., object] | None] = {}
        self._is_news = False
        self._subscribers = Subscribers(self._core.runtime, self._read, "a mutation observer", self._left)

    def __repr__(self) -> str:
        return f"<MutationObserver of {self._options.key!r}, {len(self._subscribers)} subscribers>"

    # What its users ask

    @property
    def result(self) -> MutationState[T, V]:
        """The state of the latest mutation: the same object as long as nothing has changed."""
        return IDLE if self._mutation is None else self._mutation.state

    def subscribe(self, callback: Callable[[MutationState[T, V]], object]) -> Subscription:
        """Call `callback` with each new state from now on, plain or async; returns what undoes it.

        Raises:
            TypeError: `callback` cannot be called.
            ObserverClosed: the observer was closed.
            ClientClosed: the client was closed.
        """
        self._refuse_closed()
        subscription = self._subscribers.add(callback)
        self._attach()
        return subscription

    def mutate(
        self,
        variables: V = _NOTHING,
        *,
        on_success: Callable[[T, V, MutationContext], object] | None = None,
        on_error: Callable[[BaseException, V, MutationContext], object] | None = None,
        on_settled: Callable[[T | None, BaseException | None, V, MutationContext], object] | None = None,
    ) -> Mutated[T]:
        """Begin a mutation; from now on it is the one whose state is shown.

        The callbacks given here are called after all others, if this mutation is still the latest when it ends
        and somebody is subscribed. What they raise is reported.

        Args:
            variables: what it is about.
            on_success: `(data, variables, ctx)`.
            on_error: `(error, variables, ctx)`.
            on_settled: `(data, error, variables, ctx)`.

        Raises:
            MissingMutationFunction: there is no function.
            ObserverClosed: the observer was closed.
            ClientClosed: the client was closed.
        """
        self._refuse_closed()
        given: dict[str, Any] = {"on_success": on_success, "on_error": on_error, "on_settled": on_settled}
        calls = checked(given)
        _, outcome = self._mutations.begin(self._options, variables, partial(self._follow, calls))
        return Mutated(outcome)

    def reset(self) -> None:
        """Show no mutation any more; one that runs goes on."""
        self._refuse_closed()
        self._forget()
        self.changed()

    @overload
    def set_options(self, fn: MutationSpec[T, V], **options: Unpack[MutationOptions]) -> None: ...
    @overload
    def set_options(self, fn: AsyncMutationFn[T, V], **options: Unpack[MutationOptions]) -> None: ...
    @overload
    def set_options(self, fn: PlainMutationFn[T, V], **options: Unpack[MutationOptions]) -> None: ...
    @overload
    def set_options(self, **options: Unpack[MutationOptions]) -> None: ...
    def set_options(self, fn: Any = UNSET, **options: Any) -> None:
        """Mutate with this function and these options from now on, and with no others.

        A mutation that runs goes on with them, but for its scope and its key; with another key none is shown.
        """
        self._refuse_closed()
        before, self._options = self._options, self._mutations.options(fn, options)
        if self._options.key != before.key:
            self.reset()
        elif self._mutation is not None and self._mutation.is_running:
            self._mutation.set_options(self._options)

    # What the mutation asks of who observes it

    def changed(self) -> None:
        """The mutation has changed: the subscribers are told once, whatever more may change before that."""
        if not self._is_news:
            self._is_news = True
            self._core.cache.delivery.call(self._tell)

    def _tell(self) -> None:
        self._is_news = False
        self._subscribers.tell()

    def ended(self, data: object, error: BaseException | None, variables: object, context: MutationContext) -> None:
        """The mutation has ended: call what was given for it alone."""
        calls = self._calls
        if error is None:
            self._call(calls.get("on_success"), data, variables, context)
        else:
            self._call(calls.get("on_error"), error, variables, context)
        self._call(calls.get("on_settled"), data, error, variables, context)

    def _call(self, callback: Callable[..., object] | None, *arguments: object) -> None:
        if callback is None:
            return
        what = f"a callback of {self!r}"
        result = self._core.cache.delivery.isolated(callback, *arguments, what=what)
        if inspect.isawaitable(result):
            _ = self._core.runtime.spawn(_awaited(result), f"{what}, {called(callback)},")

    # Attaching and leaving

    @property
    def _lives(self) -> bool:
        return self._is_held or len(self._subscribers) > 0

    def _read(self) -> MutationState[T, V]:
        return self.result

    def _follow(self, calls: dict[str, Callable[..., object] | None], mutation: Mutation) -> None:
        self._forget()
        self._mutation, self._calls = mutation, calls
        if self._lives:
            mutation.observer = self

    def _attach(self) -> None:
        mutation = self._mutation
        if mutation is not None:
            mutation.observer = self
            self._mutations.wake(mutation)

    def _leave(self, mutation: Mutation) -> None:
        mutation.observer = None
        self._mutations.settle(mutation)

    def _left(self) -> None:
        if not self._is_held and self._mutation is not None:
            self._leave(self._mutation)

    def _forget(self) -> None:
        mutation, self._mutation, self._calls = self._mutation, None, {}
        if mutation is not None:
            self._leave(mutation)

    def _end(self) -> list[Subscriber[MutationState[T, V]]]:
        closing = self._subscribers.close()
        self._forget()
        return closing


async def _awaited(result: Any) -> None:
    await result
