"""Every public signature used once, for mypy and pyright to read. Nothing here is run.

A line that must not pass carries an expected error: mypy's `warn_unused_ignores` and pyright's
`reportUnnecessaryTypeIgnoreComment` fail where it is not needed, so each is verified by both.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true
# mypy: disable-error-code=unused-awaitable
# (which `--strict` does not turn on: what has acted need not be awaited, and a user's checker must not ask for it)

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import timedelta
from typing import Any, assert_type

from blinker import Signal

from querykit import (
    ApiError,
    CacheEvent,
    Cause,
    ClientClosed,
    ClientStats,
    DefaultOptions,
    InfiniteData,
    InfiniteObservation,
    InfiniteOptions,
    InfiniteQueryObserver,
    InfiniteQueryResult,
    InvalidBody,
    LiveFn,
    LiveState,
    MissingMutationFunction,
    MissingQueryFunction,
    Mutated,
    Mutation,
    MutationCallbacks,
    MutationContext,
    MutationEvent,
    MutationFilters,
    MutationObserver,
    MutationOptions,
    MutationSpec,
    MutationState,
    Observation,
    ObserverOptions,
    Options,
    Pending,
    Portal,
    QueriesObserver,
    Query,
    QueryCache,
    QueryCancelled,
    QueryClient,
    QueryContext,
    QueryCycleError,
    QueryFilters,
    QueryKey,
    QuerykitError,
    QueryObserver,
    QueryOptions,
    QueryResult,
    QueryState,
    QueryTimeout,
    RequestTimeout,
    Subscription,
    Unreachable,
    WrongThread,
    cached,
    infinite_query_options,
    keep_previous_data,
    live,
    mutation_options,
    query_options,
    skip,
    streamed,
    use_identity,
)
from querykit.bulk import RefetchType
from querykit.checks import Seconds
from querykit.context import ContextClient
from querykit.mutation_options import MutationDefaults
from querykit.options import QueryDefaults
from querykit.retry import is_transient
from querykit.signals import Rule, auth_failed, bind_auth, emit, logged_out, query_updated, token_set
from querykit.state import Direction, FetchStatus, Skip, StaleTime, Status

Pods = list[dict[str, str]]


# Query functions: async or plain, with a context or without


async def fetch_pods() -> Pods:
    use_identity(("cluster", "prod"))
    use_identity(["cluster"])  # type: ignore[arg-type]  # not hashable
    return []


def read_pods() -> Pods:
    return []


async def fetch_in_context(ctx: QueryContext[Pods]) -> Pods:
    assert_type(ctx.client, ContextClient)
    assert_type(ctx.query_key, tuple[object, ...])
    assert_type(ctx.meta, Mapping[str, Any])
    assert_type(ctx.previous_data, Pods | None)
    assert_type(ctx.validators, object)
    assert_type(ctx.stale_time, float | None)
    ctx.stale_time = 30
    ctx.new_validators = '"etag"'
    ctx.previous_data = []  # type: ignore[misc]  # read only
    assert_type(await ctx.client.query(("nodes",), fetch_pods), Any)
    assert_type(await ctx.client.prefetch(("nodes",), fetch_pods), None)
    assert_type(ctx.client.get_query_data(("nodes",)), Any)
    ctx.client.set_query_data(("nodes",), [])
    ctx.client.invalidate_queries(("nodes",))
    await ctx.client.aclose()  # type: ignore[attr-defined]  # not a query function's business
    return []


def read_in_context(ctx: QueryContext[object]) -> Pods:
    assert_type(ctx.previous_data, object | None)
    return []


async def fetch_with_two(cluster: str, namespace: str) -> Pods:
    return [{cluster: namespace}]


def is_wider(ctx: QueryContext[Pods]) -> QueryContext[object]:
    return ctx


# Options: the data's type flows from the function to the result


def options() -> None:
    assert_type(query_options(("pods",), fetch_pods), Options[Pods, Pods])
    assert_type(query_options(("pods",), read_pods), Options[Pods, Pods])
    assert_type(query_options(("pods",), fetch_in_context), Options[Pods, Pods])
    assert_type(query_options(("pods",), read_in_context), Options[Pods, Pods])
    assert_type(query_options(("pods",), lambda: 1), Options[int, int])
    query_options("pods", fetch_pods)  # type: ignore[call-overload]  # a key is a tuple
    query_options(("pods",), 1)  # type: ignore[call-overload]  # a function is callable
    query_options(("pods",), fetch_with_two)  # type: ignore[arg-type]  # it takes a context at most
    query_options(("pods",), fetch_pods, fresh=1)  # type: ignore[call-overload]  # no such option

    pods = query_options(("pods",), fetch_pods, stale_time=30)
    assert_type(pods.key, QueryKey)
    assert_type(pods.options, ObserverOptions)
    assert_type(pods.select(len), Options[Pods, int])
    assert_type(pods.select(lambda data: data[0]), Options[Pods, dict[str, str]])
    assert_type(pods.select(len).select(str), Options[Pods, str])
    pods.select(str.upper)  # type: ignore[arg-type]  # it takes the data


def every_option() -> QueryOptions:
    def wants(failures: int, error: BaseException) -> bool:
        return failures < 3 and is_transient(error, also=(LookupError,))

    def waits(failures: int, error: BaseException) -> float:
        return failures if isinstance(error, ApiError) else 1.5

    for retry in (3, math.inf, False, wants):
        query_options(("pods",), read_pods, retry=retry)
    for delay in (0.5, timedelta(seconds=1), waits, None):
        query_options(("pods",), read_pods, retry_delay=delay)
    query_options(("pods",), read_pods, stale_time="stale")  # type: ignore[call-overload]
    query_options(("pods",), read_pods, gc_time="5 min")  # type: ignore[call-overload]
    query_options(("pods",), read_pods, timeout="5 s")  # type: ignore[call-overload]
    query_options(("pods",), read_pods, retry=lambda error: True)  # type: ignore[arg-type,misc]
    query_options(("pods",), read_pods, retry_on=ValueError())  # type: ignore[call-overload]
    query_options(("pods",), read_pods, identity=[])  # type: ignore[call-overload]
    query_options(("pods",), read_pods, tags=1)  # type: ignore[call-overload]
    query_options(("pods",), read_pods, structural_sharing="no")  # type: ignore[call-overload]
    return {
        "stale_time": "static",
        "gc_time": timedelta(minutes=5),
        "retry": wants,
        "retry_delay": waits,
        "retry_on": (LookupError,),
        "timeout": None,
        "stale_if_error": 60,
        "initial_data": list[str],
        "initial_data_age": 3,
        "identity": ("cluster", "prod"),
        "tags": {"pods"},
        "meta": {"why": "test"},
        "structural_sharing": False,
    }


# The client: made, opened, closed


async def life() -> None:
    queries: QueryDefaults = {"stale_time": 30, "fn": fetch_pods}
    defaults: DefaultOptions = {"queries": queries}
    wrong: DefaultOptions = {"queries": {"stale_tme": 30}}  # type: ignore[typeddict-unknown-key]
    made = QueryClient(
        default_options=defaults or wrong,
        max_entries=math.inf,
        close_timeout=timedelta(seconds=1),
        clock=lambda: 0.0,
        sleep=asyncio.sleep,
        jitter=lambda longest: longest / 2,
        report=lambda message, error: None,
    )
    QueryClient({})  # type: ignore[call-arg]  # by name only
    async with made as client:
        assert_type(client, QueryClient)
        assert_type(client.portal, Portal)
        assert_type(client.cache, QueryCache)
        assert_type(client.stats(), ClientStats)
        assert_type(client.stats().hits, int)
        assert_type(client.own(fetch_pods(), "fetch"), asyncio.Task[Pods])
    assert_type(await client.aclose(), None)


# Asking for data


async def query(client: QueryClient, *, enabled: bool) -> None:
    assert_type(await client.query(("pods",), fetch_pods), Pods)
    assert_type(await client.query(("pods",), read_pods), Pods)
    assert_type(await client.query(("pods",), fetch_in_context), Pods)
    assert_type(await client.query(("pods",), read_in_context), Pods)
    assert_type(await client.query(("pods",), lambda: 1), int)
    assert_type(await client.query(("pods",), lambda: fetch_pods()), Pods)
    assert_type(await client.query(("pods",), fetch_pods if enabled else skip), Pods)
    assert_type(await client.query(("pods",), read_pods if enabled else skip), Pods)
    assert_type(await client.query(("pods",), fetch_pods, swr=True, stale_time=30, gc_time=timedelta(hours=1)), Pods)
    assert_type(await client.query(("pods", "prod", 1, {"limit": 5})), Any)
    assert_type(await client.query(("pods",), skip), Any)
    await client.query("pods", fetch_pods)  # type: ignore[call-overload]
    await client.query(["pods"], fetch_pods)  # type: ignore[call-overload]
    await client.query(None, fetch_pods)  # type: ignore[call-overload]
    await client.query(("pods",), fetch_pods())  # type: ignore[call-overload]  # the function, not its result
    await client.query(("pods",), fetch_with_two)  # type: ignore[arg-type]
    await client.query(("pods",), fetch_pods, stale_time="soon")  # type: ignore[call-overload]
    await client.query(("pods",), fetch_pods, fresh=1)  # type: ignore[call-overload]

    pods = query_options(("pods",), fetch_pods)
    assert_type(await client.query(pods), Pods)
    assert_type(await client.query(pods, swr=True), Pods)
    assert_type(await client.query(pods.select(len)), int)
    await client.query(pods, read_pods)  # type: ignore[call-overload]  # the options have a function

    async with asyncio.TaskGroup() as group:
        assert_type(group.create_task(client.query(("pods",), fetch_pods)), asyncio.Task[Pods])


async def prefetch(client: QueryClient, *, enabled: bool) -> None:
    assert_type(client.prefetch(("pods",), fetch_pods, stale_time=3), Pending)
    assert_type(await client.prefetch(("pods",), read_in_context), None)
    client.prefetch(("pods",), fetch_in_context if enabled else skip)
    client.prefetch(query_options(("pods",), fetch_pods).select(len))
    client.prefetch("pods", fetch_pods)  # type: ignore[call-overload]
    async with asyncio.TaskGroup() as group:
        assert_type(group.create_task(client.prefetch(("pods",))), asyncio.Task[None])


async def observe(client: QueryClient, *, enabled: bool) -> None:
    assert_type(client.observe(("pods",), fetch_pods), Observation[Pods])
    assert_type(client.observe(("pods",), read_pods), Observation[Pods])
    assert_type(client.observe(("pods",), fetch_in_context), Observation[Pods])
    assert_type(client.observe(("pods",), read_in_context, stale_time="http"), Observation[Pods])
    assert_type(client.observe(("pods",), fetch_pods if enabled else skip), Observation[Pods])
    assert_type(client.observe(query_options(("pods",), fetch_pods)), Observation[Pods])
    assert_type(client.observe(query_options(("pods",), fetch_pods).select(len)), Observation[int])
    assert_type(client.observe(("pods",)), Observation[Any])
    client.observe("pods", fetch_pods)  # type: ignore[call-overload]
    async with client.observe(("pods",), fetch_pods) as results:
        assert_type(results, Observation[Pods])
        async for result in results:
            read_result(result)
        assert_type(results.result, QueryResult[Pods])
        assert_type(await results.refetch(), QueryResult[Pods])
        results.close()


def read_result(result: QueryResult[Pods]) -> QueryState[Pods]:
    assert_type(result.data, Pods | None)
    assert_type(result.has_data, bool)
    assert_type(result.data_updated_at, float | None)
    assert_type(result.data_update_count, int)
    assert_type(result.error, BaseException | None)
    assert_type(result.error_updated_at, float | None)
    assert_type(result.error_update_count, int)
    assert_type(result.fetch_failure_count, int)
    assert_type(result.fetch_failure_reason, BaseException | None)
    assert_type(result.is_invalidated, bool)
    assert_type(result.status, Status)
    assert_type(result.fetch_status, FetchStatus)
    assert_type(result.is_stale, bool)
    assert_type(result.is_pending, bool)
    assert_type(result.is_success, bool)
    assert_type(result.is_error, bool)
    assert_type(result.is_fetching, bool)
    assert_type(result.is_loading, bool)
    assert_type(result.is_refetching, bool)
    result.data = []  # type: ignore[misc]  # a snapshot
    return result


# Reading and writing


def read(client: QueryClient) -> None:
    pods = query_options(("pods",), fetch_pods)
    assert_type(client.get_query_data(("pods",)), Any)
    assert_type(client.get_query_data(("pods",), "none"), Any)
    assert_type(client.get_query_data(pods), Pods | None)
    assert_type(client.get_query_data(pods, 0), Pods | int)
    assert_type(client.get_query_data(pods.select(len)), Pods | None)
    assert_type(client.get_query_state(("pods",)), QueryState[Any] | None)
    assert_type(client.get_query_state(pods), QueryState[Pods] | None)
    assert_type(client.get_queries_data(("pods",)), list[tuple[QueryKey, Any]])
    client.get_query_data("pods")  # type: ignore[call-overload]
    client.get_query_state("pods")  # type: ignore[call-overload]


def write(client: QueryClient) -> None:
    client.set_query_data(("pods",), [], age=30, identity=("cluster", "prod"))
    client.set_query_data(query_options(("pods",), fetch_pods), lambda data: skip if data else [])
    client.set_queries_data(("pods",), updater=lambda data: data[:1], age=timedelta(seconds=1), type="active")
    client.set_query_data(("pods",))  # type: ignore[call-arg]
    client.set_query_data("pods", [])  # type: ignore[arg-type]
    client.set_query_data(("pods",), [], age="old")  # type: ignore[arg-type]


# Filters


async def change(client: QueryClient) -> None:
    every: QueryFilters = {
        "exact": False,
        "type": "all",
        "stale": True,
        "fetch_status": "idle",
        "predicate": lambda query: query.is_active,
        "tags": ["pods"],
    }
    kind: RefetchType = "inactive"
    client.invalidate_queries()
    assert_type(client.invalidate_queries(("pods",), exact=True), Pending)
    assert_type(await client.invalidate_queries(refetch_type=kind, cancel_refetch=False, **every), None)
    assert_type(client.refetch_queries(("pods",), cancel_refetch=False, throw_on_error=True, stale=True), Pending)
    assert_type(client.cancel_queries(("pods",), fetch_status="fetching"), Pending)
    assert_type(client.remove_queries(("pods",), tags=("pods",)), Pending)
    assert_type(client.reset_queries(("pods",), throw_on_error=True, type="inactive"), Pending)
    assert_type(client.clear(), Pending)
    assert_type(client.is_fetching(predicate=lambda query: not query.tags), int)
    client.invalidate_queries(None)  # type: ignore[arg-type]  # omitted means all, None never does
    client.invalidate_queries("pods")  # type: ignore[arg-type]
    client.remove_queries(["pods"])  # type: ignore[arg-type]
    client.remove_queries(("pods",), type="some")  # type: ignore[arg-type]
    client.remove_queries(("pods",), stale=None)  # type: ignore[arg-type]
    client.remove_queries(("pods",), key_prefix=True)  # type: ignore[call-arg]
    client.refetch_queries(("pods",), refetch_type="all")  # type: ignore[call-arg]


# Defaults, identities, events


def defaults(client: QueryClient) -> None:
    client.set_query_defaults(("pods",), stale_time=30, fn=fetch_pods)
    assert_type(client.get_query_defaults(("pods",)), QueryDefaults)
    client.set_query_defaults(("pods",), stale_tme=30)  # type: ignore[call-arg]
    assert_type(client.forget(("cluster", "prod"), restart=True), Pending)
    client.forget(["cluster", "prod"])  # type: ignore[arg-type]


def listen(client: QueryClient) -> None:
    def hear(event: CacheEvent) -> None:
        assert_type(event.query, Query)
        assert_type(event.query.key, QueryKey)
        assert_type(event.query.state, QueryState[Any])
        assert_type(event.cause, Cause)

    with client.cache.subscribe(hear) as undo:
        assert_type(undo, Subscription)
        undo()
    assert_type([query.key for query in client.cache], list[QueryKey])
    assert_type(client.cache.find(("pods",)), Query | None)
    client.cache.subscribe(None)  # type: ignore[arg-type]


def signals(client: QueryClient) -> None:
    def cluster_me(cluster: str, **_: object) -> QueryKey | None:
        return ("clusterMe", cluster) if cluster else None

    def hear(sender: object, event: CacheEvent) -> None:
        assert_type((sender, event), tuple[object, CacheEvent])

    rules: list[Rule] = [("pods",), cluster_me]
    assert_type(client.on(token_set, invalidate=rules[1], exact=True), Subscription)
    client.on(logged_out, remove=("auth",), sender=client)
    client.on(Signal(), remove=cluster_me)
    client.on(token_set, remove="auth")  # type: ignore[arg-type]
    assert_type(bind_auth(client), Subscription)
    emit(auth_failed, client, cluster="prod", error=ApiError("no", status=401))
    query_updated.connect(hear)


# From other threads


def elsewhere(client: QueryClient) -> None:
    assert_type(client.portal.call(fetch_pods), Pods)
    assert_type(client.portal.call(client.stats), ClientStats)
    assert_type(client.portal.call(client.invalidate_queries, ("pods",)), None)
    client.portal.call(fetch_with_two, "prod")  # type: ignore[call-overload]


# Errors, and the types that options are made of


def errors() -> None:
    error = ApiError("no", status=404, reason="NotFound", details={}, url="http://a", method="GET", retry_after=3)
    assert_type(error.status, int | None)
    assert_type(error.details, Mapping[str, Any] | None)
    assert_type(error.retry_after, float | None)
    assert_type(QueryCancelled(("pods",)).key, QueryKey)
    assert_type(QueryTimeout(("pods",), 3).timeout, float)
    assert_type(QueryCycleError([("a",), ("b",)]).keys, tuple[QueryKey, ...])
    answers: list[ApiError] = [RequestTimeout("slow"), Unreachable("away"), InvalidBody("bad")]
    all_of_them: list[QuerykitError] = [*answers, ClientClosed(), WrongThread(), MissingQueryFunction()]
    also: list[Exception] = [QueryTimeout(("pods",), 3), *all_of_them]
    timeouts: list[TimeoutError] = [QueryTimeout(("pods",), 3)]
    cancelled: asyncio.CancelledError = QueryCancelled(("pods",))  # type: ignore[assignment]
    assert_type((also, timeouts, cancelled)[1], list[TimeoutError])
    ApiError("no", 404)  # type: ignore[call-arg]  # by name only


def types(seconds: Seconds, stale_time: StaleTime, marker: Skip) -> Callable[[], object]:
    seconds = timedelta(seconds=1) if stale_time == "http" else seconds
    return lambda: (seconds, marker is skip)


# Functions whose calls are queries


async def decorated(client: QueryClient) -> None:
    @client.cached("pods", stale_time=30, retry=1, tags={"pods"}, timeout=timedelta(seconds=5))
    async def pods(cluster: str, *, limit: int = 50) -> Pods:
        return [{cluster: str(limit)}]

    def in_small(cluster: str) -> QueryKey:
        return (cluster.lower(),)

    @client.cached("count", stale_time="static", key=in_small)
    def count(cluster: str) -> int:
        return len(cluster)

    assert_type(await pods("prod"), Pods)
    assert_type(await pods(cluster="prod", limit=5), Pods)
    assert_type(await count("prod"), int)
    assert_type(pods.key("prod"), QueryKey)
    assert_type(pods.options("prod", limit=5), Options[Pods, Pods])
    assert_type(pods.get("prod"), Pods | None)
    assert_type(count.get("prod"), int | None)
    assert_type(pods.observe("prod"), Observation[Pods])
    assert_type(pods.prefetch("prod"), Pending)
    assert_type(pods.invalidate(), Pending)
    assert_type(pods.invalidate("prod", limit=5), Pending)
    assert_type(pods.remove(), Pending)
    assert_type(await pods.remove("prod"), None)
    assert_type(await client.query(pods.options("prod").select(len)), int)
    assert_type(client.get_query_data(pods.options("prod")), Pods | None)
    await pods()  # type: ignore[call-arg]
    await pods("prod", 5)  # type: ignore[call-arg]
    await pods(5)  # type: ignore[arg-type]
    pods.key()  # type: ignore[call-arg]
    pods.get("prod", namespace="web")  # type: ignore[call-arg]
    pods.options(5)  # type: ignore[arg-type]
    pods.observe(limit=5)  # type: ignore[call-arg]
    pods.prefetch(cluster=5)  # type: ignore[arg-type]
    pods.invalidate(5)  # type: ignore[call-overload]
    pods.remove(limit=5)  # type: ignore[call-overload]
    client.cached("pods")(fetch_with_two)  # type: ignore[call-arg]  # stale_time is required
    client.cached("pods", stale_time="soon")  # type: ignore[arg-type]
    client.cached(("pods",), stale_time=3)  # type: ignore[arg-type]
    client.cached("pods", stale_time=3, fresh=1)  # type: ignore[call-arg]
    client.cached("pods", stale_time=3)(1)  # type: ignore[call-overload]
    async with asyncio.TaskGroup() as group:
        assert_type(group.create_task(pods("prod")), asyncio.Task[Pods])


@cached("nodes", stale_time=30)
async def fetch_nodes(cluster: str) -> list[int]:
    return [len(cluster)]


class OfLibrary:
    def __init__(self, client: QueryClient, name: str) -> None:
        self.client = client
        self.__query_key__: QueryKey = (name,)

    @cached("pods", stale_time=30)
    async def pods(self, namespace: str = "default", *, limit: int = 50) -> Pods:
        return [{namespace: str(limit)}]

    @cached("count", stale_time=30)
    def count(self) -> int:
        return len(self.__query_key__)


class OfNobody:
    @cached("pods", stale_time=30)
    async def pods(self) -> Pods:
        return []


async def unbound(client: QueryClient) -> None:
    nodes = fetch_nodes.bind(client)
    assert_type(await nodes("prod"), list[int])
    fetch_nodes("prod")  # type: ignore[operator]  # whose cache?
    fetch_nodes.bind(None)  # type: ignore[arg-type]
    await nodes(1)  # type: ignore[arg-type]

    library = OfLibrary(client, "prod")
    assert_type(await library.pods(), Pods)
    assert_type(await library.pods("web", limit=5), Pods)
    assert_type(library.pods.get(namespace="web"), Pods | None)
    assert_type(library.pods.key("web"), QueryKey)
    assert_type(await library.count(), int)
    assert_type(library.count.observe(), Observation[int])
    assert_type(library.pods.invalidate(), Pending)
    await library.pods(5)  # type: ignore[arg-type]
    await library.pods("web", 5)  # type: ignore[call-arg]
    await library.pods(space="web")  # type: ignore[call-arg]
    library.count.key(1)  # type: ignore[call-arg]
    await OfNobody().pods()  # type: ignore[call-overload]


# Observers: one query, many queries, live and streamed ones


async def observers(client: QueryClient) -> None:
    observer = QueryObserver(client, ("pods",), fetch_pods, stale_time=30)
    assert_type(observer, QueryObserver[Pods])
    assert_type(QueryObserver(client, ("pods",), read_pods), QueryObserver[Pods])
    assert_type(QueryObserver(client, ("pods",)), QueryObserver[Any])
    assert_type(QueryObserver(client, query_options(("pods",), fetch_pods).select(len)), QueryObserver[int])
    QueryObserver(client, "pods", fetch_pods)  # type: ignore[call-overload]
    QueryObserver(client, ("pods",), fetch_pods, fresh=1)  # type: ignore[call-overload]
    QueryObserver(client, ("pods",), fetch_pods, refetch_interval="5 s")  # type: ignore[call-overload]
    QueryObserver(client, ("pods",), fetch_pods, refetch_on_focus="never")  # type: ignore[call-overload]
    QueryObserver(client, ("pods",), fetch_pods, network_mode="offlineFirst")  # type: ignore[call-overload]
    await client.query(("pods",), fetch_pods, refetch_interval=5)  # type: ignore[call-overload]  # an observer's
    QueryObserver(
        client,
        ("pods",),
        fetch_pods,
        enabled=lambda query: query.status != "error",
        refetch_interval=lambda query: 5.0 if query.has_data else None,
        refetch_interval_in_background=True,
        refetch_on_mount="always",
        refetch_on_reconnect=lambda query: "always",
        stale_time=lambda query: "static",
        placeholder_data=keep_previous_data,
        notify_on=["data", "is_fetching"],
        error_time=timedelta(seconds=5),
        network_mode="always",
    )

    assert_type(observer.result, QueryResult[Pods])
    assert_type(observer.result.data, Pods | None)
    assert_type(observer.result.live, LiveState | None)
    observer.result.data = []  # type: ignore[misc]  # read only
    assert_type(observer.query, Query)
    assert_type(observer.subscribe(read_result), Subscription)
    observer.subscribe(fetch_with_two)  # type: ignore[arg-type]
    assert_type(await observer.refetch(), QueryResult[Pods])
    assert_type(await observer.wait_for(lambda result: result.is_success, timeout=5), QueryResult[Pods])
    observer.set_options(("pods", "prod"), fetch_pods)
    observer.set_options(("pods",), lambda: 1)  # type: ignore[arg-type]
    with observer as entered:
        assert_type(entered, QueryObserver[Pods])
    await observer.aclose()

    assert_type(await client.wait_for(("pods",), lambda result: result.is_success), QueryResult[Any])
    waited = await client.wait_for(query_options(("pods",), fetch_pods), lambda result: result.data == [])
    assert_type(waited, QueryResult[Pods])
    with client.batch():
        client.set_query_data(("pods",), [])
    client.focus.set(False)
    client.online.set("no")  # type: ignore[arg-type]
    assert_type((client.focus.is_focused, client.online.is_online), tuple[bool, bool])


async def many(client: QueryClient) -> None:
    queries = [query_options(("pods", name), fetch_pods) for name in "ab"]
    assert_type(QueriesObserver(client, queries).result, tuple[QueryResult[Pods], ...])
    counted = QueriesObserver(client, queries, combine=lambda results: sum(len(each.data or []) for each in results))
    assert_type(counted.result, int)
    QueriesObserver(client, [("pods",)])  # type: ignore[arg-type]
    async with client.observe_many(
        queries, combine=lambda results: [each.error_update_count for each in results]
    ) as counts:
        async for each in counts:
            assert_type(each, list[int])
    async for results in client.observe_many(queries):
        assert_type(results, tuple[QueryResult[Pods], ...])


async def words() -> AsyncIterator[str]:
    yield "to"


async def watch_pods(ctx: QueryContext[Pods]) -> AsyncIterator[Pods | Callable[[Pods], Pods]]:
    yield []
    yield lambda pods: [*pods, {"name": str(ctx.query_key)}]


async def pushed(client: QueryClient) -> None:
    assert_type(await client.query(("words",), streamed(words)), list[str])
    total = streamed(words, reducer=lambda size, word: size + len(word), initial_value=0, refetch_mode="append")
    assert_type(await client.query(("words",), total), int)
    streamed(words, refetch_mode="both")  # type: ignore[call-overload]
    streamed(fetch_pods)  # type: ignore[arg-type]
    assert_type(live(watch_pods), LiveFn[Pods])
    assert_type(live(words, grace=timedelta(seconds=5)), LiveFn[str])
    assert_type(QueryObserver(client, ("pods",), live(watch_pods)), QueryObserver[Pods])
    assert_type(await client.query(query_options(("pods",), live(watch_pods)).select(len)), int)
    live(fetch_pods)  # type: ignore[arg-type]


async def pages(client: QueryClient) -> None:
    logs = infinite_query_options(("logs",), lambda ctx: ["line"], initial_page_param=0)
    async with client.observe(logs.select(lambda data: len(data.pages))) as results:
        assert_type(results.result, InfiniteQueryResult[int])
        assert_type(await results.observer.fetch_next_page(), InfiniteQueryResult[int])
        assert_type(await results.fetch_previous_page(), InfiniteQueryResult[int])
        assert_type(await asyncio.create_task(results.refetch(refetch_pages=[0])), InfiniteQueryResult[int])


# Infinite queries: the types of the page and of its parameter flow from the function and the first parameter


async def fetch_page(ctx: QueryContext[object]) -> Pods:
    assert_type(ctx.direction, Direction | None)
    return [{"page": ctx.page_param}]


def read_page(ctx: QueryContext[object]) -> Pods:
    return [{"page": ctx.page_param}]


def after(last_page: Pods, data: InfiniteData[Pods, int]) -> int | None:
    return data.page_params[-1] + 1 if last_page else None


def cursor_after(last_page: Pods, data: InfiniteData[Pods, str | None]) -> str | None:
    return last_page[0]["page"] if data.pages else None


Paged = InfiniteData[Pods, int]


async def infinite(client: QueryClient, *, enabled: bool) -> None:
    paged = infinite_query_options(("pods",), fetch_page, initial_page_param=0, get_next_page_param=after)
    assert_type(paged, InfiniteOptions[Pods, int, Paged])
    assert_type(infinite_query_options(("pods",), read_page, initial_page_param=0), InfiniteOptions[Pods, int, Paged])
    counted = infinite_query_options(
        ("pods",), fetch_page, initial_page_param=0, get_next_page_param=lambda page, data: data.page_params[-1] + 1
    )
    assert_type(counted, InfiniteOptions[Pods, int, Paged])
    assert_type(paged.select(lambda data: len(data.pages)), InfiniteOptions[Pods, int, int])
    assert_type(await client.infinite_query(paged), Paged)
    assert_type(await client.infinite_query(paged, swr=True), Paged)
    assert_type(await client.infinite_query(paged.select(lambda data: data.pages[0])), Pods)
    assert_type(await client.query(paged), Paged)
    assert_type(await client.prefetch(paged), None)
    assert_type(client.get_query_data(paged), Paged | None)
    assert_type(client.get_query_data(paged.select(lambda data: 1)), Paged | None)
    client.set_query_data(paged, InfiniteData(([],), (0,)))

    assert_type(
        await client.infinite_query(("pods",), fetch_page, initial_page_param=0, get_next_page_param=after, pages=2),
        Paged,
    )
    assert_type(await client.infinite_query(("pods",), read_page, initial_page_param=0), Paged)
    assert_type(await client.infinite_query(("pods",), fetch_page if enabled else skip, initial_page_param=0), Paged)
    first: str | None = None
    by_cursor = await client.infinite_query(
        ("pods",),
        fetch_page,
        initial_page_param=first,
        get_next_page_param=cursor_after,
        get_previous_page_param=lambda first_page, data: data.page_params[0],
        max_pages=3,
        refetch_pages=lambda page, index, data: index == 0,
        stale_time=30,
    )
    assert_type(by_cursor.page_params, tuple[str | None, ...])
    by_cursor.pages = ()  # type: ignore[misc]  # read only
    await client.infinite_query(("pods",), fetch_page)  # type: ignore[call-overload]  # no first parameter
    await client.infinite_query(("pods",), fetch_pods, initial_page_param=0)  # type: ignore[arg-type]  # which page?
    await client.infinite_query(query_options(("pods",), fetch_pods))  # type: ignore[call-overload]  # a plain query's
    await client.infinite_query(paged, pages=2)  # type: ignore[call-overload]  # the options have all
    await client.infinite_query(("pods",), fetch_page, initial_page_param=0, pages="2")  # type: ignore[call-overload]
    await client.infinite_query(("pods",), fetch_page, initial_page_param=0, max_page=2)  # type: ignore[call-overload]
    await client.infinite_query(("pods",), fetch_page, initial_page_param=0, enabled=True)  # type: ignore[call-overload]
    infinite_query_options(("pods",), fetch_page, initial_page_param="a", get_next_page_param=after)  # type: ignore[arg-type]
    infinite_query_options("pods", fetch_page, initial_page_param=0)  # type: ignore[call-overload]


async def infinite_observer(client: QueryClient) -> None:
    paged = infinite_query_options(("pods",), fetch_page, initial_page_param=0, get_next_page_param=after)
    observer = InfiniteQueryObserver(client, paged)
    assert_type(observer, InfiniteQueryObserver[Paged])
    assert_type(InfiniteQueryObserver(client, paged.select(lambda data: 1)), InfiniteQueryObserver[int])
    assert_type(
        InfiniteQueryObserver(
            client, ("pods",), fetch_page, initial_page_param=0, get_next_page_param=after, enabled=False
        ),
        InfiniteQueryObserver[Paged],
    )
    assert_type(observer.result, InfiniteQueryResult[Paged])
    assert_type((observer.result.has_next_page, observer.result.is_fetching_previous_page), tuple[bool, bool])
    assert_type(await observer.fetch_previous_page(throw_on_error=True), InfiniteQueryResult[Paged])
    assert_type(await observer.refetch(refetch_pages={0}), InfiniteQueryResult[Paged])
    assert_type(await observer.wait_for(lambda result: result.has_next_page), InfiniteQueryResult[Paged])
    observer.subscribe(lambda result: str(result.has_previous_page))
    observer.refetch(refetch_pages=0)  # type: ignore[arg-type]
    InfiniteQueryObserver(client, ("pods",), fetch_page)  # type: ignore[call-overload]
    InfiniteQueryObserver(client, query_options(("pods",), fetch_pods))  # type: ignore[call-overload]
    plain: QueryObserver[Paged] = QueryObserver(client, paged)
    assert_type(plain.result, QueryResult[Paged])
    assert_type(client.observe(paged), InfiniteObservation[Paged])
    async for result in client.observe(paged):
        assert_type(result, InfiniteQueryResult[Paged])
        result.has_next_page = False  # type: ignore[misc]  # read only


# Mutations: the function's types are those of the variables and of the data


async def rename(name: str) -> int:
    return len(name)


def rename_plainly(name: str, ctx: MutationContext) -> int:
    assert_type(ctx.client, ContextClient)
    assert_type((ctx.key, ctx.value), tuple[QueryKey | None, Any])
    ctx.value = 1
    ctx.key = ("pods",)  # type: ignore[misc]  # read only
    return len(name)


async def restart() -> Pods:
    return []


async def mutate(client: QueryClient) -> None:
    assert_type(client.mutate(rename, "web"), Mutated[int])
    assert_type(await client.mutate(rename, "web", key=("pods",), retry=3, scope="pods"), int)
    assert_type(await client.mutate(rename_plainly, "web", gc_time=timedelta(minutes=1)), int)
    assert_type(await client.mutate(restart), Pods)
    assert_type(await client.mutate(restart, invalidates=[("pods",)]), Pods)
    await client.mutate(
        rename,
        "web",
        on_mutate=lambda name, ctx: ctx.client.get_query_data(("pods",)),
        on_success=lambda data, name, ctx: None,
        on_error=lambda error, name, ctx: ctx.value,
        on_settled=lambda data, error, name, ctx: None,
        invalidates=lambda data, name: [("pods", name)],
        optimistic=[(("pods",), lambda pods: pods), (("pods", 1), lambda pods, name: [*pods, name])],
    )
    await client.mutate(rename, "web", optimistic=lambda name: [(("pods", name), lambda pods: pods)])
    assert_type(await client.mutate(variables="web", key=("rename",)), Any)
    async with asyncio.TaskGroup() as group:
        assert_type(group.create_task(client.mutate(rename, "web")), asyncio.Task[int])
    client.mutate(rename, 1)  # type: ignore[arg-type]
    client.mutate(rename, "web", retries=3)  # type: ignore[call-overload]
    client.mutate(rename, "web", invalidates="pods")  # type: ignore[arg-type]
    client.mutate(rename, "web", on_success=1)  # type: ignore[call-overload]
    client.mutate("web")  # type: ignore[call-overload]


async def mutation_specs(client: QueryClient) -> None:
    spec = mutation_options(rename, key=("rename",), retry=1)
    assert_type(spec, MutationSpec[int, str])
    assert_type(mutation_options(rename_plainly), MutationSpec[int, str])
    assert_type(spec.options, MutationOptions)
    assert_type(await client.mutate(spec, "web"), int)
    assert_type(await client.mutate(spec, "web", scope="pods"), int)
    client.mutate(spec, 1)  # type: ignore[misc]
    mutation_options(rename, keys=("rename",))  # type: ignore[call-overload]
    mutation_options(fetch_with_two)  # type: ignore[arg-type]


async def mutation_observers(client: QueryClient) -> None:
    observer = MutationObserver(client, rename, key=("rename",))
    assert_type(observer, MutationObserver[int, str])
    assert_type(MutationObserver(client, mutation_options(rename)), MutationObserver[int, str])
    assert_type(MutationObserver(client, key=("rename",)), MutationObserver[Any, Any])
    assert_type(await observer.mutate("web", on_success=lambda data, name, ctx: str(data + len(name))), int)
    assert_type(observer.result, MutationState[int, str])
    assert_type((observer.result.data, observer.result.variables), tuple[int | None, str | None])
    assert_type((observer.result.is_pending, observer.result.error), tuple[bool, BaseException | None])
    with observer.subscribe(lambda state: str(state.is_success)) as undo:
        assert_type(undo, Subscription)
    observer.set_options(rename, retry=1)
    observer.reset()
    observer.mutate(1)  # type: ignore[arg-type]
    observer.set_options(restart)  # type: ignore[arg-type]
    observer.result.data = 1  # type: ignore[misc]  # read only


def mutations(client: QueryClient) -> None:
    def hear(event: MutationEvent) -> None:
        assert_type((event.mutation, event.cause), tuple[Mutation, Cause])
        assert_type(event.mutation.state, MutationState[Any, Any])

    with client.mutations.subscribe(hear):
        pass
    filters: MutationFilters = {"status": "pending", "exact": True}
    assert_type(client.mutations.find(("rename",), **filters), Mutation | None)
    assert_type(client.mutations.match(predicate=lambda mutation: mutation.key is None), list[Mutation])
    assert_type(client.is_mutating(("rename",), status="pending"), int)
    client.set_mutation_defaults(("rename",), fn=rename, retry=1)
    assert_type(client.get_mutation_defaults(("rename",)), MutationDefaults)
    client.set_mutation_defaults(("rename",), key=("rename",))  # type: ignore[call-arg]
    client.is_mutating(status="done")  # type: ignore[arg-type]
    callbacks: MutationCallbacks = {"on_success": lambda data, variables, ctx: None}
    QueryClient(default_options={"mutations": {"retry": 1}}, mutation_callbacks=callbacks)
    assert_type([MissingMutationFunction("no")], list[MissingMutationFunction])
