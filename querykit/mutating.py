"""The client's methods that change what the server has."""

from typing import Any, TypeVar, Unpack, overload

from querykit.core import Core
from querykit.keys import QueryKey, check_key, freeze
from querykit.mutation_options import (
    AsyncMutationFn,
    MutationDefaults,
    MutationOptions,
    MutationSpec,
    PlainMutationFn,
)
from querykit.mutations import MutationCache, MutationFilters
from querykit.outcome import Mutated
from querykit.state import UNSET, Unset

__all__ = ["MutatingMethods"]

T = TypeVar("T")
V = TypeVar("V")


class MutatingMethods:
    """What changes something on the server, and what is known of it.

    Attributes:
        mutations: all mutations of this client.
    """

    core: Core
    mutations: MutationCache

    @overload
    def mutate(self, fn: MutationSpec[T, V], variables: V = ..., **options: Unpack[MutationOptions]) -> Mutated[T]: ...
    @overload
    def mutate(
        self, fn: AsyncMutationFn[T, V], variables: V = ..., **options: Unpack[MutationOptions]
    ) -> Mutated[T]: ...
    @overload
    def mutate(
        self, fn: PlainMutationFn[T, V], variables: V = ..., **options: Unpack[MutationOptions]
    ) -> Mutated[T]: ...
    @overload
    def mutate(self, *, variables: object = ..., **options: Unpack[MutationOptions]) -> Mutated[Any]: ...
    def mutate(self, fn: Any = UNSET, variables: Any = None, **options: Any) -> Mutated[Any]:
        """Change something on the server, beginning now; it goes on to its end whether this is awaited or not.

        Callbacks are awaited one after the other, the client's own (`mutation_callbacks`) before the mutation's:
        `on_mutate`, the function, `on_success` and `on_settled`; or `on_error` and `on_settled`. What one before
        the end raises makes the mutation fail; what those of a failed one raise is reported.

        Args:
            fn: async or plain; takes no argument, or the variables, or the variables and a `MutationContext`;
                or what `mutation_options` returns. Without it the default for the mutation's key is used.
            variables: what it is about; None if left out.
            options: see `MutationOptions`.

        Returns:
            What may be awaited for the result; an error that nobody awaits is on the mutation's state.

        Raises:
            TypeError: `fn` or an option is unknown or of a wrong type.
            ValueError: an option's value is impossible.
            MissingMutationFunction: there is no function.
            ClientClosed: the client was closed.

        Awaiting raises:
            QueryCancelled: the client was closed meanwhile, or an identity that it had used was forgotten before
                its function was called.
            QueryCycleError: what awaits it runs inside of what it waits for.
            Exception: what the function or a callback raised.

        Example:
            >>> import asyncio
            >>> from querykit.client import QueryClient
            >>> async def main() -> str:
            ...     async with QueryClient() as client:
            ...         client.set_query_data(("pods",), ["web"])
            ...         add = lambda pods, name: [*pods, name]
            ...         saved = client.mutate(lambda name: "saved " + name, "db", optimistic=[(("pods",), add)])
            ...         print(client.get_query_data(("pods",)))
            ...         return await saved
            >>> asyncio.run(main())
            ['web', 'db']
            'saved db'
        """
        mutations = self.core.mutations
        return Mutated(mutations.begin(mutations.options(fn, options), variables)[1])

    def is_mutating(self, key: QueryKey | Unset = UNSET, **filters: Unpack[MutationFilters]) -> int:
        """Return how many of the mutations that are meant are pending."""
        found = self.core.mutations.match(key, **filters)
        return sum(mutation.status == "pending" for mutation in found)

    def set_mutation_defaults(self, prefix: QueryKey, **options: Unpack[MutationDefaults]) -> None:
        """Set default options for mutations whose key begins with `prefix`; later matches win over earlier ones.

        Example:
            >>> from querykit.client import QueryClient
            >>> client = QueryClient()
            >>> client.set_mutation_defaults(("rename",), fn=str.title)
            >>> list(client.get_mutation_defaults(("rename", "pods")))
            ['fn']
        """
        self.core.runtime.check_thread()
        self.core.mutations.defaults.set(check_key(prefix, "key prefix"), options)

    def get_mutation_defaults(self, key: QueryKey) -> MutationDefaults:
        """Return the defaults that hold for a mutation of `key`."""
        return self.core.mutations.defaults.get(freeze(check_key(key, "mutation key")))
