"""A reactive query cache for asyncio: server state by key, with freshness, observers and a life cycle."""

from querykit.cache import CacheEvent, QueryCache
from querykit.cached import cached
from querykit.client import ClientStats, QueryClient
from querykit.context import QueryContext, current_context
from querykit.entry import Cause
from querykit.errors import (
    ApiError,
    ClientClosed,
    InvalidBody,
    MissingMutationFunction,
    MissingQueryFunction,
    ObserverClosed,
    QueryCancelled,
    QueryCycleError,
    QuerykitError,
    QueryTimeout,
    RequestTimeout,
    SourceEnded,
    Unreachable,
    WrongThread,
)
from querykit.events import Subscription
from querykit.filters import QueryFilters
from querykit.identity import use_identity
from querykit.infinite import (
    InfiniteObserverOptions,
    InfiniteOptions,
    InfiniteQueryOptions,
    infinite_query_options,
)
from querykit.infinite_observer import InfiniteObservation, InfiniteQueryObserver, InfiniteQueryResult
from querykit.keys import QueryKey
from querykit.live import LiveFn, live
from querykit.mutation import Mutation
from querykit.mutation_observer import MutationObserver
from querykit.mutation_options import (
    MutationCallbacks,
    MutationContext,
    MutationOptions,
    MutationSpec,
    mutation_options,
)
from querykit.mutation_state import MutationState
from querykit.mutations import MutationCache, MutationEvent, MutationFilters
from querykit.observation import Observation, Results
from querykit.observer import QueryObserver, keep_previous_data
from querykit.observers import QueriesObserver
from querykit.options import DefaultOptions, ObserverOptions, Options, QueryOptions, query_options
from querykit.outcome import Mutated
from querykit.pages import InfiniteData
from querykit.pending import Pending
from querykit.portal import Portal
from querykit.presence import FocusManager, OnlineManager
from querykit.query import Query
from querykit.result import QueryResult
from querykit.retry import is_transient
from querykit.state import LiveState, QueryState, skip
from querykit.streams import streamed

__all__ = [
    "ApiError",
    "CacheEvent",
    "Cause",
    "ClientClosed",
    "ClientStats",
    "DefaultOptions",
    "FocusManager",
    "InfiniteData",
    "InfiniteObservation",
    "InfiniteObserverOptions",
    "InfiniteOptions",
    "InfiniteQueryObserver",
    "InfiniteQueryOptions",
    "InfiniteQueryResult",
    "InvalidBody",
    "LiveFn",
    "LiveState",
    "MissingMutationFunction",
    "MissingQueryFunction",
    "Mutated",
    "Mutation",
    "MutationCache",
    "MutationCallbacks",
    "MutationContext",
    "MutationEvent",
    "MutationFilters",
    "MutationObserver",
    "MutationOptions",
    "MutationSpec",
    "MutationState",
    "Observation",
    "ObserverClosed",
    "ObserverOptions",
    "OnlineManager",
    "Options",
    "Pending",
    "Portal",
    "QueriesObserver",
    "Query",
    "QueryCache",
    "QueryCancelled",
    "QueryClient",
    "QueryContext",
    "QueryCycleError",
    "QueryFilters",
    "QueryKey",
    "QueryObserver",
    "QueryOptions",
    "QueryResult",
    "QueryState",
    "QueryTimeout",
    "QuerykitError",
    "RequestTimeout",
    "Results",
    "SourceEnded",
    "Subscription",
    "Unreachable",
    "WrongThread",
    "cached",
    "current_context",
    "infinite_query_options",
    "is_transient",
    "keep_previous_data",
    "live",
    "mutation_options",
    "query_options",
    "skip",
    "streamed",
    "use_identity",
]
