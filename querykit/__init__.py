"""A reactive query cache for asyncio: server state by key, with freshness, observers and a life cycle."""

from querykit.cache import CacheEvent, QueryCache
from querykit.client import ClientStats, QueryClient
from querykit.context import QueryContext
from querykit.entry import Cause
from querykit.errors import (
    ApiError,
    ClientClosed,
    InvalidBody,
    MissingQueryFunction,
    QueryCancelled,
    QueryCycleError,
    QuerykitError,
    QueryTimeout,
    RequestTimeout,
    Unreachable,
    WrongThread,
)
from querykit.events import Subscription
from querykit.filters import QueryFilters
from querykit.identity import use_identity
from querykit.keys import QueryKey
from querykit.observer import Observation, QueryResult
from querykit.options import DefaultOptions, Options, QueryOptions, query_options
from querykit.pending import Pending
from querykit.portal import Portal
from querykit.query import Query
from querykit.state import QueryState, skip

__all__ = [
    "ApiError",
    "CacheEvent",
    "Cause",
    "ClientClosed",
    "ClientStats",
    "DefaultOptions",
    "InvalidBody",
    "MissingQueryFunction",
    "Observation",
    "Options",
    "Pending",
    "Portal",
    "Query",
    "QueryCache",
    "QueryCancelled",
    "QueryClient",
    "QueryContext",
    "QueryCycleError",
    "QueryFilters",
    "QueryKey",
    "QueryOptions",
    "QueryResult",
    "QueryState",
    "QueryTimeout",
    "QuerykitError",
    "RequestTimeout",
    "Subscription",
    "Unreachable",
    "WrongThread",
    "query_options",
    "skip",
    "use_identity",
]
