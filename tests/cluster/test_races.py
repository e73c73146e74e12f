"""S3 by way of requests: nothing computed under a former login is read, delivered or written afterwards.

The server says who asks, so that data shows under which login it was computed.
"""

import asyncio
from contextvars import Context

import pytest
from aiohttp import ClientSession, CookieJar, web

from querykit.errors import ApiError, QueryCancelled
from querykit.http import HttpTransport
from querykit.testing import Hold

PODS = "/api/v1/pods"


class AtStep:
    """Awaits a coroutine; when it has suspended for the n-th time, something happens, inside of it or outside."""

    def __init__(self, coro, step, event, *, inside=False):
        self.coro, self.step, self.event, self.inside = coro, step, event, inside
        self.happened = False

    def __await__(self):
        running = self.coro.__await__()
        step = 0
        try:
            got = next(running)
            while True:
                if step == self.step:
                    self.happen()
                step += 1
                try:
                    sent = yield got
                except BaseException as error:
                    got = running.throw(error)
                else:
                    got = running.send(sent)
        except StopIteration as stop:
            return stop.value

    def happen(self):
        self.happened = True
        if self.inside:
            self.event()
        else:
            asyncio.get_running_loop().call_soon(self.event, context=Context())


@pytest.fixture
def tokens():
    return {"main": "ada"}


@pytest.fixture
def cluster(server, connect, tokens):
    """A client of a server that answers with the token it got; an override keeps the tokens."""

    async def who(request):
        return web.json_response({"user": request.headers.get("Authorization", "nobody")})

    server.handler = who
    cluster = connect(server.url, current_cluster="main")

    async def read(name):
        await asyncio.sleep(0)
        return tokens.get(name)

    cluster.auth.override(set_token=tokens.__setitem__, get_token=read)
    return cluster


def change_token(cluster, begun):
    """Set another token at once: the override is plain, so nothing is awaited before it is in force."""

    def change():
        coro = cluster.set_token("main", "bob")
        with pytest.raises(StopIteration):
            coro.send(None)
        begun.append(asyncio.sleep(0))

    return change


def log_out(cluster, begun):
    return lambda: begun.append(cluster.logout("main"))


def shown(client):
    return [query.state.data for query in client.cache if query.state.has_data]


async def settle():
    for _ in range(50):
        await asyncio.sleep(0)


async def run_to_every_step(client, cluster, begin, act, *, inside=False):
    """Let `act` happen at each await point of a fetch in turn; check what S3 says; return how many there are."""
    for step in range(100):
        cluster.auth._setters[-1]("main", "ada")
        begun = []
        event = act(cluster, begun)
        at = []

        async def fn(step=step, event=event, at=at):
            at.append(AtStep(begin(), step, event, inside=inside))
            return await at[-1]

        key = ("who", step)
        task = asyncio.create_task(client.query(key, fn, retry=0))
        await asyncio.wait([task])
        for one in begun:
            await one
        await settle()
        if at[0].happened:
            assert "Bearer ada" not in str(shown(client)), step
            assert isinstance(task.exception(), QueryCancelled | type(None))
            if task.exception() is None:
                assert "ada" not in str(task.result()), step
        else:
            assert task.result()
            return step
    raise AssertionError("no end")


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("act", [change_token, log_out])
async def test_S3_a_change_at_each_await_point_of_a_running_fetch(act, inside, client, cluster):
    steps = await run_to_every_step(client, cluster, lambda: cluster.request("/me"), act, inside=inside)
    assert steps >= 2


@pytest.mark.parametrize("act", [change_token, log_out])
async def test_S3_a_change_at_each_await_point_of_a_composite_query(act, client, cluster):
    async def inner():
        return await cluster.request("/me")

    async def begin():
        one = await client.query(("inner",), inner)
        return [one, await cluster.request("/again")]

    assert await run_to_every_step(client, cluster, begin, act) >= 3


@pytest.mark.parametrize("act", [change_token, log_out])
async def test_S3_a_change_at_each_await_point_of_one_with_child_tasks(act, client, cluster):
    async def begin():
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(cluster.request(path)) for path in ("/a", "/b")]
        return [task.result() for task in tasks]

    await run_to_every_step(client, cluster, begin, act)


@pytest.mark.parametrize("act", [change_token, log_out])
async def test_S3_a_change_in_a_retry_delay(act, client, cluster, server):
    begun, at = [], []

    async def handler(request):
        if not at:
            at.append(request)
            act(cluster, begun)()
            return web.Response(status=503)
        return web.json_response({"user": request.headers.get("Authorization", "nobody")})

    server.handler = handler
    with pytest.raises(QueryCancelled):
        await client.query(("who",), lambda: cluster.request("/me"), retry=1)
    for one in begun:
        await one
    assert not shown(client)


@pytest.mark.parametrize("act", [change_token, log_out])
async def test_S3_an_answer_that_has_come_is_not_delivered_to_who_has_not_woken(act, client, cluster):
    begun = []
    event = act(cluster, begun)
    client.cache.subscribe(lambda told: told.cause.name == "SUCCESS" and not begun and event())
    with pytest.raises(QueryCancelled):
        await client.query(("who",), lambda: cluster.request("/me"))
    assert begun
    for one in begun:
        await one
    assert not shown(client)


async def test_S3_stale_if_error_previous_data_and_sharing_bring_nothing_back(client, cluster, server):
    async def fetch(context):
        before = context.previous_data
        return {"before": before, "now": await cluster.request("/me")}

    await client.query(("who",), fetch)
    await cluster.set_token("main", "bob")
    data = await client.query(("who",), fetch, stale_if_error=1e9)
    assert data == {"before": None, "now": {"user": "Bearer bob"}}

    async def broken(request):
        return web.Response(status=404)

    server.handler = broken
    await cluster.logout("main")
    with pytest.raises(ApiError):
        await client.query(("who",), fetch, stale_if_error=1e9)


async def test_S3_an_observer_sees_no_old_result(client, cluster):
    async with client.observe(("who",), lambda: cluster.request("/me")) as results:
        async for result in results:
            if result.data:
                break
        assert result.data == {"user": "Bearer ada"}
        coro = cluster.set_token("main", "bob")
        with pytest.raises(StopIteration):
            coro.send(None)
        seen = []
        async for result in results:
            seen.append(result.data)
            if result.data:
                break
    assert seen[-1] == {"user": "Bearer bob"}
    assert set(map(str, seen[:-1])) <= {"None"}


async def test_S3_data_of_another_cluster_stays(client, cluster, tokens):
    tokens["other"] = "eve"
    await client.query(("main",), lambda: cluster.request("/me"))
    await client.query(("other",), lambda: cluster.request("/me", cluster="other"))
    await cluster.logout("main")
    assert shown(client) == [{"user": "Bearer eve"}]


async def test_S3_what_was_asked_anonymously_is_of_an_identity_too(client, cluster, tokens):
    tokens.clear()
    assert await client.query(("who",), lambda: cluster.request("/me")) == {"user": "nobody"}
    await cluster.set_token("main", "bob")
    assert not shown(client)


# A 401 inside of a query function


@pytest.fixture
def refusing(server):
    """The server refuses everything but set-token."""

    async def handler(request):
        return web.Response(status=200 if request.path.endswith("set-token") else 401)

    server.handler = handler


async def test_a_401_inside_a_query_function_logs_out_without_killing_itself(client, cluster, refusing, heard):
    after = []

    async def fn():
        try:
            return await cluster.request("/me")
        finally:
            await asyncio.sleep(0)
            after.append("lived")

    with pytest.raises(ApiError) as raised:
        await client.query(("me",), fn)
    assert raised.value.status == 401
    assert after == ["lived"]
    assert heard[-1] == ("logged_out", {"cluster": "main"})
    assert len(client.cache) == 0


async def test_a_401_inside_a_composite_query_reaches_all_who_wait(client, cluster, refusing):
    async def outer():
        return await client.query(("me",), lambda: cluster.request("/me"))

    # Its own key is among those that a logout removes.
    with pytest.raises(ApiError) as raised:
        await client.query(("auth", "main"), outer)
    assert raised.value.status == 401
    assert len(client.cache) == 0


async def test_a_401_in_an_observed_query_leaves_it_blank_and_parked(client, cluster, refusing, server):
    async with client.observe(("clusterMe", "main"), lambda: cluster.request("/me")) as results:
        async for result in results:
            if result.fetch_status == "idle":
                break
        await settle()
        assert (result.status, result.data) == ("pending", None)
        asked = len(server.requests)
        await client.invalidate_queries(("clusterMe",))
        assert len(server.requests) == asked


async def test_many_queries_that_get_a_401_log_out_once(client, cluster, refusing, heard):
    asking = [client.query(("q", i), lambda: cluster.request("/me")) for i in range(20)]
    errors = await asyncio.gather(*asking, return_exceptions=True)
    assert {type(error) for error in errors} <= {ApiError, QueryCancelled}
    assert ApiError in {type(error) for error in errors}
    assert [name for name, _ in heard].count("logged_out") == 1


async def test_a_query_function_that_logs_out_or_sets_a_token_is_left_to_end(client, cluster):
    async def out():
        await cluster.request("/me")
        await cluster.logout("main")
        return "done"

    async def over():
        await cluster.request("/me")
        await cluster.set_token("main", "bob")
        return "done"

    for fn in (out, over):
        with pytest.raises(QueryCancelled):  # what it read is of the former login
            await client.query(("fn",), fn)
        assert len(client.cache) == 0


# Late cookies


async def test_a_late_set_cookie_of_an_older_login_is_not_taken(server, connect):
    hold, came = asyncio.Event(), asyncio.Event()

    async def handler(request):
        if request.path.endswith("slow"):
            came.set()
            await hold.wait()
            return web.json_response({}, headers={"Set-Cookie": "session=old"})
        if request.path.endswith("set-token"):
            token = (await request.json())["token"]
            return web.Response(headers={"Set-Cookie": f"session={token}"} if token else {})
        return web.json_response({})

    server.handler = handler
    cluster = connect(server.url, current_cluster="main")
    for change in (lambda: cluster.set_token("main", "new"), lambda: cluster.logout("main")):
        await cluster.set_token("main", "old")
        hold.clear()
        came.clear()
        late = asyncio.create_task(cluster.request("/slow"))
        await came.wait()
        await change()
        hold.set()
        await late
        await cluster.request("/x")
    assert [request.headers.get("Cookie") for request in server.requests if request.path.endswith("x")] == [
        "session=new",
        None,
    ]


async def test_a_set_cookie_of_the_present_login_is_taken(server, connect):
    async def handler(request):
        return web.json_response({}, headers={"Set-Cookie": "headlamp-auth-main.0=refreshed"})

    server.handler = handler
    cluster = connect(server.url, current_cluster="main")
    await cluster.request("/x")
    await cluster.request("/x")
    await cluster.backend_fetch("/x")
    assert server.seen("Cookie") == [None, "headlamp-auth-main.0=refreshed", None]


async def test_cookies_of_one_backend_do_not_reach_another_on_the_same_host(backend, server, connect):
    one, other = connect(backend.url), connect(server.url)
    await one.set_token("main", await backend.issue_token("main"))
    await other.request("/x", cluster="main")
    assert server.seen("Cookie") == [None]


async def test_a_sessions_own_jar_neither_keeps_nor_sends_a_clusters_cookies(server, connect):
    async def handler(request):
        return web.json_response({}, headers={"Set-Cookie": "session=1; Path=/"})

    server.handler = handler
    jar = CookieJar(unsafe=True)
    async with ClientSession(cookie_jar=jar) as session:
        cluster = connect(HttpTransport(server.url, session=session), current_cluster="main")
        await cluster.set_token("main", "t")
        await cluster.request("/x")
        await cluster.logout("main")
        await cluster.request("/x")
    assert not list(jar)
    assert server.seen("Cookie") == [None, "session=1", "session=1", None]


async def test_a_held_answer_of_the_old_login_never_gets_into_the_cache(backend, connect, client):
    cluster = connect(backend.url, current_cluster="main")
    await cluster.set_token("main", await backend.issue_token("main", user="ada"))
    hold = await backend.set_fault(Hold(handled=True), path="/me$", times=1)
    old = asyncio.create_task(cluster.cluster_me())
    await backend.wait_requests(1, path="/clusters/main/me")
    await cluster.set_token("main", await backend.issue_token("main", user="bob"))
    assert (await cluster.cluster_me())["username"] == "bob"
    await backend.release(hold)
    with pytest.raises(QueryCancelled):
        await old
    assert client.get_query_data(("clusterMe", "main"))["username"] == "bob"
