"""What a client consists of below its face: what its methods, observers and mutations stand on."""

from functools import partial
from typing import Any, Final, Protocol, cast

from querykit.cache import QueryCache, Relay
from querykit.calls import Call, make_call
from querykit.context import ContextClient
from querykit.entry import Cause
from querykit.flight import Source
from querykit.keys import QueryKey, freeze
from querykit.mutation_options import MutationCallbacks
from querykit.mutations import MutationCache
from querykit.options import DefaultOptions, Defaults, QueryDefaults, part_of
from querykit.presence import Occasion
from querykit.query import Query, initial_data
from querykit.runtime import Runtime

__all__ = ["Core", "HasCore"]


class Core:
    """One client's parts. It is public for those who build observers of their own; a user needs none of it.

    Attributes:
        runtime: the loop, its tasks and its clock.
        cache: all queries.
        defaults: the default options of queries.
        mutations: all mutations.
        presence: whether anybody looks, and whether the network is there.
        timetable: what happens later.
        hits: how many calls of `query` were answered from the cache.
        misses: how many waited for a fetch.
    """

    def __init__(
        self,
        client: ContextClient,
        runtime: Runtime,
        relay: Relay,
        default_options: DefaultOptions | None,
        mutation_callbacks: MutationCallbacks | None,
        max_entries: float,
    ) -> None:
        self.runtime: Final = runtime
        self.cache: Final = QueryCache(runtime, client, relay, max_entries)
        self.presence: Final = self.cache.presence
        self.timetable: Final = self.cache.timetable
        self.defaults: Final = Defaults(cast("QueryDefaults", part_of(default_options, "queries")))
        mutation_defaults = part_of(default_options, "mutations")
        self.mutations: Final = MutationCache(
            runtime, self.cache, self.entry, mutation_defaults, mutation_callbacks, max_entries
        )
        self.presence.returned = self._returned
        self.hits = 0
        self.misses = 0

    def call(self, key: object, fn: Any, options: dict[str, Any]) -> Call:
        """Put one call together: see `make_call`."""
        return make_call(self.defaults, key, fn, options)

    def entry(self, key: QueryKey) -> Query:
        """Return the query of a key for who changes its data, made if need be."""
        frozen = freeze(key)
        query = self.cache.entries.get(frozen)
        return self.cache.build(key, frozen, self.defaults.resolve(frozen, {})) if query is None else query

    def _returned(self, occasion: Occasion) -> None:
        """Let paused mutations end before what they change is fetched again."""
        self.mutations.resume(occasion, partial(self._look_again, occasion))

    def _look_again(self, occasion: Occasion) -> None:
        if self.presence.holds(occasion):  # nobody has left meanwhile
            self.cache.back(occasion)

    def prepared(self, call: Call) -> tuple[Query, Source | None]:
        """Return the query of a call, made if need be, and with what to fetch it; raise before anything changes."""
        self.runtime.check()
        entries = self.cache.entries
        source = call.source(entries.get(call.frozen))
        if source is None and call.frozen not in entries and not call.has_initial_data:
            raise call.missing()
        return self.built(call), source

    def built(self, call: Call) -> Query:
        """Return the query of a call, made if need be."""
        query = self.cache.entries.get(call.frozen)
        initial = None
        if query is None or not query.has_data:  # before anything is made: it may raise, or use this client
            initial = initial_data(call.options, self.cache.ledger, call.key)
            query = self.cache.entries.get(call.frozen)
        if query is None:
            query = self.cache.build(call.key, call.frozen, self.defaults.resolve(call.frozen, {}))
            query.gc_time = 0.0  # the default counts only for who gives no other
        query.gc_time = max(query.gc_time, call.options.gc_time, call.options.error_time)
        query.mark(call.options.tags)
        if query.start_with(initial, call.options) and query.observers:
            self.cache.changed(query, Cause.SET)
        return query


class HasCore(Protocol):
    """A client, as observers need it."""

    @property
    def core(self) -> Core:
        """Its parts."""
        ...


def core_of(client: HasCore) -> Core:
    """Return the parts of the client that an observer was given.

    Raises:
        TypeError: it was given anything else.
    """
    core: object = getattr(client, "core", None)
    if not isinstance(core, Core):
        raise TypeError(f"an observer's first argument is a QueryClient, not {client!r}")
    return core
