"""`@client.cached` and `@cached`: functions whose calls are queries."""

from __future__ import annotations

import asyncio
import inspect
from datetime import timedelta
from functools import partial

import pytest

from querykit import MissingQueryFunction, QueryCancelled, QueryClient, cached, use_identity
from querykit.cached import Cached, UnboundCached
from querykit.context import current_context
from tests.fetches import Gate, settled

pytestmark = pytest.mark.virtual_time


@pytest.fixture
async def client():
    async with QueryClient() as client:
        yield client


@pytest.fixture
def calls():
    return []


@pytest.fixture
def cluster_me(client, calls):
    @client.cached("clusterMe", stale_time=30)
    async def cluster_me(cluster: str = "prod") -> str:
        """Who I am there."""
        calls.append(cluster)
        return f"ada of {cluster} {len(calls)}"

    return cluster_me


# Calling


async def test_a_call_asks_the_cache_and_calls_the_function_only_if_that_has_no_fresh_data(cluster_me, calls):
    assert await cluster_me("prod") == await cluster_me("prod") == "ada of prod 1"
    assert await cluster_me("test") == "ada of test 2"
    await asyncio.sleep(30)
    assert await cluster_me("prod") == "ada of prod 3"
    assert calls == ["prod", "test", "prod"]


async def test_S1_calls_at_the_same_time_are_one(client):
    gate = Gate()

    @client.cached("slow", stale_time=30)
    async def slow(n: int) -> str:
        return f"{await gate()} {n}"

    callers = [asyncio.create_task(slow(1)) for _ in range(20)]
    await settled()
    await gate.answer("one")
    assert {await caller for caller in callers} == {"one 1"}
    assert gate.calls == 1


async def test_a_plain_function_is_called_in_the_loop_and_its_call_awaited_all_the_same(client):
    loops = []

    @client.cached("plain", stale_time=30)
    def plain(n: int) -> int:
        loops.append(asyncio.get_running_loop())
        return n + 1

    assert [await plain(1), await plain(1)] == [2, 2]
    assert loops == [asyncio.get_running_loop()]


async def test_a_call_is_a_coroutine_for_task_groups(cluster_me):
    async with asyncio.TaskGroup() as group:
        task = group.create_task(cluster_me("prod"))
    assert task.result() == "ada of prod 1"


async def test_what_the_function_raises_is_raised_and_retried_as_the_options_say(client):
    attempts = []

    @client.cached("broken", stale_time=30, retry=2, retry_delay=1)
    async def broken(n: int) -> int:
        attempts.append(n)
        raise ConnectionError("away")

    with pytest.raises(ConnectionError, match="away"):
        await broken(7)
    assert attempts == [7, 7, 7]
    assert client.get_query_state(broken.key(7)).status == "error"


async def test_a_cached_function_may_call_another(client, cluster_me):
    @client.cached("greeting", stale_time=30)
    async def greeting(cluster: str) -> str:
        return f"hello {await cluster_me(cluster)}"

    assert await greeting("prod") == "hello ada of prod 1"


async def test_S3_what_it_names_is_forgotten_with_its_identity(client):
    @client.cached("pods", stale_time=30)
    async def pods(cluster: str) -> str:
        use_identity(("cluster", cluster))
        return "web"

    await pods("a")
    await pods("b")
    client.forget(("cluster", "a"))
    assert (pods.get("a"), pods.get("b")) == (None, "web")


# Keys


def function(a, b="b", *, c="c"):
    return a, b, c


def with_all(a, /, b, *rest, c=3, **named):
    return a, b, rest, c, named


async def test_the_key_is_the_name_and_the_arguments(cluster_me):
    assert cluster_me.key("prod") == ("clusterMe", "prod")


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (("a",), {}),
        (("a", "b"), {}),
        ((), {"a": "a"}),
        (("a",), {"b": "b"}),
        ((), {"b": "b", "a": "a"}),
        (("a",), {"c": "c"}),
        ((), {"c": "c", "b": "b", "a": "a"}),
    ],
)
async def test_calls_that_mean_the_same_have_one_key(client, args, kwargs):
    assert client.cached("f", stale_time=1)(function).key(*args, **kwargs) == ("f", "a", "b", "c")


async def test_several_by_position_are_one_part_and_several_by_name_are_a_mapping(client):
    f = client.cached("f", stale_time=1)(with_all)
    assert f.key(1, 2) == f.key(1, b=2) == ("f", 1, 2, (), 3, {})
    assert f.key(1, 2, 4, 5, x=6, y=7) == ("f", 1, 2, (4, 5), 3, {"y": 7, "x": 6})
    assert await f(1, 2, 4, x=6, y=7) is await f(1, 2, 4, y=7, x=6)
    assert len(client.cache) == 1


async def test_a_function_without_arguments_has_its_name_for_a_key(client):
    f = client.cached("f", stale_time=1)(lambda: 1)
    assert f.key() == ("f",)
    assert await f() == f.get() == 1


@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), ((1, 2, 3), {}), ((1,), {"a": 1}), ((1,), {"d": 1}), ((), {"b": 1})]
)
async def test_wrong_arguments_are_a_TypeError_of_the_function(client, args, kwargs):
    f = client.cached("f", stale_time=1)(function)
    for act in (f, f.key, f.options, f.get, f.observe, f.prefetch):
        with pytest.raises(TypeError, match=r"^function\(\): "):
            act(*args, **kwargs)


async def test_True_and_1_are_two_arguments(client):
    f = client.cached("f", stale_time=1)(lambda of: type(of).__name__)
    assert [await f(1), await f(True), await f(1)] == ["int", "bool", "int"]


async def test_arguments_may_be_lists_and_dicts(client, calls):
    @client.cached("f", stale_time=30)
    def f(what: object) -> int:
        calls.append(what)
        return len(calls)

    assert await f({"b": [1], "a": 2}) == await f({"a": 2, "b": [1]}) == 1
    f.invalidate({"a": 2, "b": [1]})
    assert await f({"a": 2, "b": [1]}) == 2


async def test_an_argument_that_cannot_be_a_key_part_is_a_TypeError_that_names_the_function(client):
    class Opaque:
        __hash__ = None

    f = client.cached("f", stale_time=1)(function)
    for act in (f, f.key, f.get, f.invalidate):
        with pytest.raises(TypeError, match=r"an argument of function: .*hold a Opaque, which is not hashable.*key="):
            act(Opaque())


async def test_key_says_what_stands_for_the_arguments(client, calls):
    class Request:
        __hash__ = None
        user = "ada"

    @client.cached("me", stale_time=30, key=lambda request, page: (request.user, page))
    def me(request: Request, page: int = 1) -> str:
        calls.append(request)
        return request.user

    assert me.key(Request()) == me.key(Request(), 1) == me.key(page=1, request=Request()) == ("me", "ada", 1)
    assert await me(Request()) == await me(Request()) == "ada"
    assert len(calls) == 1
    with pytest.raises(TypeError, match=r"me\(\): missing a required argument"):
        me.key()


async def test_key_gets_arguments_by_name_where_the_function_takes_them_so(client):
    f = client.cached("f", stale_time=1, key=lambda first, second, *, c: (first + second + c,))(function)
    assert f.key("a") == f.key("a", c="c") == ("f", "abc")


async def test_a_key_rule_that_returns_no_tuple_is_a_TypeError(client):
    f = client.cached("f", stale_time=1, key=lambda *_, **__: "a")(function)
    with pytest.raises(TypeError, match=r"key= of function returns a tuple of key parts, not 'a'"):
        f.key("a")


# What stands beside the call


async def test_get_reads_and_fetches_nothing(cluster_me, calls):
    assert cluster_me.get("prod") is None
    await cluster_me("prod")
    assert cluster_me.get("prod") == cluster_me.get() == cluster_me.get(cluster="prod") == "ada of prod 1"
    assert calls == ["prod"]


async def test_options_are_the_call_for_the_methods_of_the_client(client, cluster_me, calls):
    options = cluster_me.options("prod")
    assert await client.query(options) == client.get_query_data(options) == "ada of prod 1"
    assert await client.query(options.select(len)) == 13
    assert await cluster_me("prod") == "ada of prod 1"
    async with client.observe(options) as results:
        assert results.result.data == "ada of prod 1"
    assert calls == ["prod"]


async def test_prefetch_begins_now_and_does_nothing_for_fresh_data(cluster_me, calls):
    await cluster_me.prefetch("prod")
    assert cluster_me.get("prod") == "ada of prod 1"
    await cluster_me.prefetch(cluster="prod")
    assert calls == ["prod"]


async def test_observe_follows_the_call(cluster_me):
    async with cluster_me.observe("prod") as results:
        assert (await results.wait_for(lambda result: result.is_success)).data == "ada of prod 1"
        await cluster_me.invalidate("prod")
        assert results.result.data == "ada of prod 2"


@pytest.mark.parametrize("how", ["invalidate", "remove"])
async def test_with_arguments_exactly_that_call_is_meant_and_without_any_every_call(client, how):
    @client.cached("pods", stale_time=30)
    def pods(cluster: str = "prod", *path: str) -> str:
        return "web"

    def fresh() -> list[bool]:
        found = [client.cache.find(key) for key in keys]
        return [query is not None and not query.is_invalidated for query in found]

    keys = [pods.key("prod"), pods.key("prod", "a"), pods.key("test"), ("podsOf", "prod")]
    client.set_query_data(keys[3], "another")
    act = getattr(pods, how)
    for key in ["prod"], ["prod", "a"], ["test"]:
        await pods(*key)
    await act("prod")
    assert fresh() == [False, True, True, True]
    await act(cluster="test")
    assert fresh() == [False, True, False, True]
    await act()
    assert fresh() == [False, False, False, True]


async def test_remove_ends_what_runs(client):
    gate = Gate()

    @client.cached("slow", stale_time=30)
    async def slow() -> object:
        return await gate()

    caller = asyncio.ensure_future(slow())
    await settled()
    slow.remove()
    with pytest.raises(QueryCancelled):
        await caller


async def test_tags_find_its_entries(client):
    @client.cached("pods", stale_time=30, tags=lambda data: {("pod", name) for name in data})
    async def pods(cluster: str) -> list[str]:
        return [f"{cluster}-web", "db"]

    await pods("a")
    await pods("b")
    client.invalidate_queries(tags=[("pod", "a-web")])
    assert [client.get_query_state(pods.key(name)).is_invalidated for name in "ab"] == [True, False]


async def test_it_looks_like_the_function_that_it_decorates(client):
    async def cluster_me(cluster: str, *, of: int = 1) -> str:
        """Who I am there."""
        return cluster

    cluster_me.mark = "kept"
    for f in (client.cached("me", stale_time=1)(cluster_me), cached("me", stale_time=1)(cluster_me)):
        assert (f.__name__, f.__doc__, f.__module__) == ("cluster_me", "Who I am there.", __name__)
        assert f.__qualname__ == cluster_me.__qualname__
        assert f.__wrapped__ is cluster_me
        assert f.mark == "kept"
        assert inspect.signature(f) == inspect.signature(cluster_me)
        assert "cluster_me" in repr(f)


async def test_what_has_no_name_can_be_decorated_too(client):
    f = client.cached("f", stale_time=1)(partial(function, "secret"))
    assert await f() == ("secret", "b", "c")
    assert repr(f) == "<cached function as ('f',)>"


@pytest.mark.parametrize(
    "stale_time", [30, timedelta(seconds=30), lambda query: 30, "static"], ids=["30", "timedelta", "rule", "static"]
)
async def test_a_stale_time_is_what_it_is_in_any_option(client, calls, stale_time):
    f = client.cached("f", stale_time=stale_time)(lambda: calls.append(1))
    await f()
    await asyncio.sleep(29)
    await f()
    assert len(calls) == 1
    await asyncio.sleep(1)
    await f()
    assert len(calls) == (1 if stale_time == "static" else 2)


async def test_a_function_learns_its_freshness_by_the_context_of_its_fetch(client, calls):
    @client.cached("f", stale_time="http")
    async def f() -> None:
        current_context().stale_time = 30
        calls.append(1)

    for seconds in (0, 29, 1):
        await asyncio.sleep(seconds)
        await f()
    assert len(calls) == 2


async def test_a_hit_is_counted_and_does_not_use_inspect(client, cluster_me, monkeypatch):
    await cluster_me("prod")
    monkeypatch.setattr(inspect.Signature, "bind", None)
    for hit in (cluster_me("prod"), cluster_me(), cluster_me(cluster="prod")):
        assert await hit == "ada of prod 1"
    assert (client.stats().hits, client.stats().misses) == (3, 1)


async def test_two_clients_do_not_share_what_one_function_gets(client, calls):
    @cached("f", stale_time=30)
    def f() -> int:
        calls.append(1)
        return len(calls)

    async with QueryClient() as other:
        mine, theirs = f.bind(client), f.bind(other)
        assert [await mine(), await theirs(), await mine()] == [1, 2, 1]


# What is refused


async def test_stale_time_is_required(client):
    for decorator in (client.cached, cached):
        with pytest.raises(TypeError, match="stale_time"):
            decorator("f")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"stale_time": "soon"}, ValueError, "stale_time"),
        ({"stale_time": -1}, ValueError, "stale_time"),
        ({"stale_time": 1, "fresh": 1}, TypeError, "unknown query option 'fresh'"),
        ({"stale_time": 1, "retry": "often"}, TypeError, "retry"),
        ({"stale_time": 1, "key": ("a",)}, TypeError, r"key= is a callable .* not \('a',\)"),
    ],
)
async def test_wrong_options_are_refused_where_they_are_written(client, options, error, message):
    for decorator in (client.cached, cached):
        with pytest.raises(error, match=message):
            decorator("f", **options)


@pytest.mark.parametrize("name", [function, ("f",), None], ids=["function", "tuple", "None"])
async def test_the_name_is_a_string(client, name):
    for decorator in (client.cached, cached):
        with pytest.raises(TypeError, match=r"cached takes a name"):
            decorator(name, stale_time=1)


async def test_only_functions_are_decorated(client):
    for decorator in (client.cached, cached):
        with pytest.raises(TypeError, match="cached decorates a function, not 3"):
            decorator("f", stale_time=1)(3)


# Without a client, and methods


def test_an_unbound_function_is_not_called():
    f = cached("f", stale_time=1)(function)
    assert isinstance(f, UnboundCached)
    with pytest.raises(TypeError, match=r"function has no client yet: call what \.bind\(client\) returns"):
        f("a")


async def test_bind_gives_the_function_a_client(client):
    f = cached("f", stale_time=1)(function).bind(client)
    assert isinstance(f, Cached)
    assert await f("a") == ("a", "b", "c")
    with pytest.raises(TypeError, match="function is bound to a QueryClient, not to None"):
        cached("f", stale_time=1)(function).bind(None)


class Cluster:
    """A class of a library's."""

    def __init__(self, client, *stands_for):
        self.client = client
        self.__query_key__ = stands_for
        self.calls = 0

    @cached("pods", stale_time=30)
    async def pods(self, namespace: str = "default", *, limit: int = 50) -> str:
        """All pods."""
        self.calls += 1
        return f"{namespace} {limit} of {self.__query_key__}"

    @cached("count", stale_time=30, key=lambda kind: (kind.lower(),))
    def count(self, kind: str) -> int:
        self.calls += 1
        return len(kind)

    @staticmethod
    @cached("version", stale_time=30)
    def version() -> str:
        return "1"


async def test_the_instance_gives_the_client_and_what_stands_for_it_in_keys(client):
    a, b = Cluster(client, "a"), Cluster(client, "b", 2)
    assert a.pods.key("web") == a.pods.key(namespace="web") == a.pods.key("web", limit=50) == ("pods", "a", "web", 50)
    assert b.pods.key() == ("pods", "b", 2, "default", 50)
    assert await a.pods() == await a.pods("default") == await Cluster(client, "a").pods() == "default 50 of ('a',)"
    assert await b.pods(limit=1) == b.pods.get(limit=1) == "default 1 of ('b', 2)"
    assert await a.count("Pod") == await a.count("POD") == a.count.get("pod") == 3
    assert (a.calls, b.calls) == (2, 1)


async def test_all_calls_are_those_of_the_instance(client):
    a, b = Cluster(client, "a"), Cluster(client, "b")
    for cluster in (a, b):
        await cluster.pods()
        await cluster.count("Pod")
    await a.pods.remove()
    assert sorted(query.key[:2] for query in client.cache) == [("count", "a"), ("count", "b"), ("pods", "b")]


async def test_a_method_can_be_observed(client):
    a = Cluster(client, "a")
    async with a.pods.observe("web") as results:
        assert (await results.wait_for(lambda result: result.is_success)).data == "web 50 of ('a',)"


async def test_a_method_looks_like_the_method(client):
    pods = Cluster(client, "a").pods
    assert (pods.__name__, pods.__doc__) == ("pods", "All pods.")
    assert list(inspect.signature(pods).parameters) == ["namespace", "limit"]
    assert isinstance(Cluster.pods, UnboundCached)
    assert list(inspect.signature(Cluster.pods).parameters) == ["self", "namespace", "limit"]


async def test_a_static_method_is_bound_by_hand(client):
    assert await Cluster.version.bind(client)() == "1"


async def test_an_instance_without_a_client_is_a_TypeError(client):
    for of in (None, "client"):
        with pytest.raises(TypeError, match=r"Cluster\.pods .*give Cluster a `client`, a QueryClient, which is "):
            _ = Cluster(of, "a").pods


async def test_an_instance_of_which_nothing_stands_in_keys_is_a_TypeError(client):
    class Nobody:
        def __init__(self, *args):
            self.client = client
            if args:
                self.__query_key__ = args[0]

        @cached("pods", stale_time=30)
        def pods(self) -> str:
            return "web"

    for nobody in (Nobody(), Nobody("prod"), Nobody(["prod"])):
        with pytest.raises(TypeError, match=r"Nobody\.pods .*give Nobody a `__query_key__`, a tuple, which is "):
            _ = nobody.pods


async def test_self_is_never_a_key_part(client):
    def method(self, namespace: str) -> str:
        return namespace

    for decorate in (client.cached("pods", stale_time=1), lambda f: cached("pods", stale_time=1)(f).bind(client)):
        with pytest.raises(
            TypeError, match=r"method is a method, and `self` is no key part: decorate it with querykit"
        ):
            decorate(method)


async def test_a_function_may_have_any_names_for_its_parameters(client):
    f = client.cached("f", stale_time=1)(lambda fn, key, args, kwargs, name: [fn, key, args, kwargs, name])
    assert await f(fn=1, key=2, args=3, kwargs=4, name=5) == [1, 2, 3, 4, 5]
    assert f.key(fn=1, key=2, args=3, kwargs=4, name=5) == ("f", 1, 2, 3, 4, 5)


def test_the_cache_can_be_asked_for_no_data_before_a_loop_runs():
    client = QueryClient()
    f = client.cached("f", stale_time=30)(lambda: "fetched")
    client.set_query_data(f.key(), "set")
    assert f.get() == "set"
    assert asyncio.run(f()) == "set"


async def test_a_key_of_a_cached_function_has_a_function_only_once_it_was_called(client, cluster_me):
    with pytest.raises(MissingQueryFunction):
        await client.query(cluster_me.key("prod"))
    await cluster_me("prod")
    await cluster_me.invalidate("prod")
    assert await client.query(cluster_me.key("prod")) == "ada of prod 2"
