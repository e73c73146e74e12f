"""Logging in and out, and what it does to the cache."""

import asyncio

import pytest
from aiohttp import web

from querykit.cluster import ClusterClient
from querykit.errors import ApiError, ClientClosed, Unreachable, WrongThread
from querykit.signals import auth_failed, logged_out, token_cleared, token_set
from querykit.testing import Drop, Hold, Respond

PODS = "/api/v1/pods"
SET_TOKEN = "/clusters/main/set-token"


async def login(cluster, backend, user="ada", name="main", **options):
    token = await backend.issue_token(name, user=user, **options)
    await cluster.set_token(name, token)
    return token


async def tellings(backend):
    return await backend.requests(method="POST", path=SET_TOKEN)


def fill(client):
    client.set_query_data(("clusterMe", "main"), "ada")
    client.set_query_data(("clusterMe", "main", "more"), "ada")
    client.set_query_data(("auth", "main"), "ok")
    client.set_query_data(("auth", "other"), "ok")
    client.set_query_data(("of", "main"), "ada", identity=("cluster", "main"))
    client.set_query_data(("of", "other"), "bob", identity=("cluster", "other"))


def keys(client):
    return {query.key for query in client.cache}


# Setting a token


async def test_a_token_that_is_set_is_sent_as_cookies_from_then_on(cluster, backend):
    await login(cluster, backend)
    assert (await cluster.request(PODS))["kind"] == "PodList"
    (sent,) = await backend.requests(path=f"/clusters/main{PODS}")
    assert "cookie" in sent.header_names
    with pytest.raises(ApiError, match="Unauthorized"):
        await cluster.request(PODS, cluster="other")
    (elsewhere,) = await backend.requests(path=f"/clusters/other{PODS}")
    assert "cookie" not in elsewhere.header_names


async def test_a_token_of_9000_characters_comes_in_chunks_and_none_is_lost(cluster, backend):
    token = await login(cluster, backend, padding=9000)
    assert len(token) > 9000
    assert (await cluster.cluster_me())["username"] == "ada"
    assert (await cluster.request(PODS))["kind"] == "PodList"
    await login(cluster, backend, user="bob")  # one chunk now, none of the former's
    assert (await cluster.cluster_me())["username"] == "bob"


async def test_a_cookie_too_long_for_a_header_is_an_error_and_no_silent_loss(server, connect, client):
    async def handler(request):
        return web.Response(headers={"Set-Cookie": f"auth={'x' * 9000}; Path=/"})

    server.handler = handler
    cluster = connect(server.url)
    fill(client)
    with pytest.raises(ApiError):
        await cluster.set_token("main", "x" * 9000)
    assert len(keys(client)) == 6


async def test_setting_a_token_forgets_what_the_former_brought_and_invalidates_who_it_is(
    cluster, backend, client, heard
):
    fill(client)
    token = await backend.issue_token("main")
    assert await cluster.set_token("main", token) is True
    assert keys(client) == {
        ("clusterMe", "main"),
        ("clusterMe", "main", "more"),
        ("auth", "main"),
        ("auth", "other"),
        ("of", "other"),
    }
    assert client.get_query_state(("clusterMe", "main")).is_invalidated
    assert not client.get_query_state(("clusterMe", "main", "more")).is_invalidated
    assert heard == [("token_set", {"cluster": "main"})]


@pytest.mark.parametrize("token", [None, ""])
async def test_none_and_the_empty_token_clear(token, cluster, backend, client, heard):
    await login(cluster, backend)
    fill(client)
    assert await cluster.set_token("main", token) is True
    assert ("clusterMe", "main") not in keys(client)
    assert ("of", "main") not in keys(client)
    assert ("auth", "main") in keys(client)
    assert [name for name, _ in heard] == ["token_set", "token_cleared"]
    with pytest.raises(ApiError):
        await cluster.request(PODS)
    assert "cookie" not in (await backend.requests(path=f"/clusters/main{PODS}"))[0].header_names


async def test_a_rejected_token_leaves_cache_and_token_as_they_were(cluster, backend, client, heard):
    await login(cluster, backend)
    await client.query(("pods",), lambda: cluster.request(PODS))
    fill(client)
    before = keys(client)
    heard.clear()
    await backend.set_fault(Respond(401), path="set-token", times=1)
    await backend.set_fault(Respond(500, text="no luck"), path="set-token", times=1, after=1)
    await backend.set_fault(Drop(), path="set-token", times=1, after=2)
    errors = []
    for _ in range(3):
        with pytest.raises(ApiError) as raised:
            await cluster.set_token("main", "other")
        errors.append(raised.value)
    assert {error.cluster for error in errors} == {"main"}
    assert {name for name, _ in heard} <= {"auth_failed"}  # and no logout for a set-token's own 401
    assert keys(client) == before
    assert (await cluster.request(PODS))["kind"] == "PodList"


async def test_a_renewal_by_the_same_user_keeps_the_cache(cluster, backend, client, heard):
    await login(cluster, backend)
    await client.query(("pods",), lambda: cluster.request(PODS))
    fill(client)
    new = await backend.issue_token("main", user="ada")
    assert await cluster.set_token("main", new, renewal=True) is True
    assert ("pods",) in keys(client)
    assert ("of", "main") in keys(client)
    assert [name for name, _ in heard] == ["token_set", "token_set"]
    await backend.clear_faults()
    assert (await cluster.cluster_me())["username"] == "ada"


async def test_a_renewal_of_a_login_that_another_has_replaced_meanwhile_is_no_renewal(cluster, backend, client):
    await login(cluster, backend)
    ada, bob = [await backend.issue_token("main", user=user) for user in ("ada", "bob")]
    first = await backend.set_fault(Hold(), path="set-token", times=1)
    second = await backend.set_fault(Hold(), path="set-token", times=1, after=1)
    other = asyncio.create_task(cluster.set_token("main", bob))
    await backend.wait_requests(2, path=SET_TOKEN)
    renewal = asyncio.create_task(cluster.set_token("main", ada, renewal=True))
    await backend.wait_requests(3, path=SET_TOKEN)
    await backend.release(first)
    await other
    client.set_query_data(("of", "bob"), 1, identity=("cluster", "main"))
    await backend.release(second)
    await renewal
    assert ("of", "bob") not in keys(client)
    assert (await cluster.cluster_me())["username"] == "ada"


async def test_a_renewal_after_a_logout_is_a_login(cluster, backend, client):
    await login(cluster, backend)
    await cluster.logout("main")
    fill(client)
    await cluster.set_token("main", await backend.issue_token("main"), renewal=True)
    assert ("of", "main") not in keys(client)


async def test_observed_queries_are_fetched_again_once_a_token_is_set(cluster, backend, client):
    await login(cluster, backend)

    async def me():
        return (await cluster.request("/me"))["username"]

    async with client.observe(("me",), me) as results:
        async for result in results:
            if result.data == "ada":
                break
        await cluster.logout("main")
        async for result in results:
            assert result.data is None
            break
        await login(cluster, backend, user="bob")
        async for result in results:
            if result.data is not None:
                break
        assert result.data == "bob"


@pytest.mark.parametrize(
    ("cluster_name", "token", "error"),
    [("", "t", ValueError), (None, "t", TypeError), ("..", "t", ValueError), ("main", 5, TypeError)],
)
async def test_what_is_no_cluster_or_no_token_is_refused(cluster_name, token, error, cluster, backend):
    with pytest.raises(error):
        await cluster.set_token(cluster_name, token)
    if error is not TypeError or cluster_name is None:
        with pytest.raises(error):
            cluster.logout(cluster_name)
    assert not await backend.requests()


# Logging out


async def test_a_logout_forgets_before_anything_is_awaited(cluster, backend, client, heard):
    await login(cluster, backend)
    fill(client)
    heard.clear()
    ended = cluster.logout("main")
    assert keys(client) == {("clusterMe", "main", "more"), ("of", "other")}
    assert heard == [("token_cleared", {"cluster": "main"}), ("logged_out", {"cluster": "main"})]
    assert len(await tellings(backend)) <= 2
    await ended
    assert [record.status for record in await tellings(backend)] == [200, 200]


async def test_what_a_listener_does_under_the_old_login_while_it_is_forgotten_is_forgotten_too(
    cluster, backend, client
):
    await login(cluster, backend)
    fill(client)
    cookies = []

    def listen(event):
        if event.cause.name == "FORGET" and not cookies:
            with pytest.raises(StopIteration) as read:
                cluster.auth.credential("main").send(None)
            cookies.append(read.value.value.cookie)
            client.set_query_data(("late",), cookies[0], identity=("cluster", "main"))

    client.cache.subscribe(listen)
    await cluster.logout("main")
    assert cookies[0]
    assert client.get_query_data(("late",)) is None


async def test_a_logout_need_not_be_awaited(cluster, backend):
    await login(cluster, backend)
    cluster.logout("main")
    assert len(await backend.wait_requests(2, path=SET_TOKEN)) == 2


async def test_what_a_logout_returns_is_as_good_as_a_coroutine(cluster, backend):
    await login(cluster, backend)
    async with asyncio.TaskGroup() as group:
        group.create_task(cluster.logout("main"))
    never_started = cluster.logout("main")
    never_started.close()
    started = cluster.logout("main")
    started.send(None)
    started.close()
    thrown = cluster.logout("main")
    with pytest.raises(KeyError):
        thrown.throw(KeyError("x"))
    thrown = cluster.logout("main")
    with pytest.raises(KeyError):
        thrown.throw(KeyError, KeyError("x"))
    await cluster.logout("main")


async def test_parallel_logouts_share_one_message(cluster, backend, heard):
    await login(cluster, backend)
    heard.clear()
    await asyncio.gather(*(cluster.logout("main") for _ in range(20)))
    assert len(await tellings(backend)) == 2
    assert [name for name, _ in heard] == ["token_cleared", "logged_out"]


async def test_who_waits_for_a_logout_may_be_cancelled_without_harm_to_it(cluster, backend):
    await login(cluster, backend)
    hold = await backend.set_fault(Hold(), path="set-token")
    one, other = asyncio.create_task(cluster.logout("main")), asyncio.create_task(cluster.logout("main"))
    await backend.wait_requests(2, path=SET_TOKEN)
    one.cancel()
    await asyncio.wait([one])
    assert one.cancelled()
    await backend.release(hold)
    await other
    assert [record.status for record in await tellings(backend)] == [200, 200]


async def test_a_logout_that_cannot_be_told_has_still_forgotten_here_and_raises(
    cluster, backend, client, reports, heard
):
    await login(cluster, backend)
    fill(client)
    await backend.aclose()
    with pytest.raises(Unreachable):
        await cluster.logout("main")
    assert ("of", "main") not in keys(client)
    assert not reports
    assert heard[-1][0] == "logged_out"
    sent = await cluster.auth.credential("main")
    assert not sent.cookie


async def test_a_failed_logout_that_nobody_waits_for_is_reported(cluster, backend, client, reports):
    await login(cluster, backend)
    await backend.set_fault(Respond(500), path="set-token")
    cluster.logout("main")
    await backend.wait_requests(2, path=SET_TOKEN)
    await cluster.aclose()
    ((message, error),) = reports
    assert message == "the logout of 'main' failed with ApiError"
    assert error.status == 500


async def test_logout_all_tries_every_cluster_and_raises_the_first_failure(cluster, backend, client, reports):
    await login(cluster, backend)
    await login(cluster, backend, name="other")
    cluster.current_cluster = "third"
    fill(client)
    await cluster.logout_all()
    told = [record.cluster for record in await backend.requests(method="POST")]
    assert told == ["main", "other", "main", "other", "third"]
    assert keys(client) == {("clusterMe", "main", "more")}
    await backend.set_fault(Respond(500), path="set-token")
    cluster.current_cluster = None
    with pytest.raises(ApiError) as raised:
        await cluster.logout_all()
    assert raised.value.cluster == "main"
    assert [error.cluster for _, error in reports] == ["other", "third"]


async def test_a_logout_tells_the_backend_which_cookies_it_ends_but_sends_them_with_nothing_else(server, connect):
    async def handler(request):
        headers = {"Set-Cookie": "session=abc"} if request.path.endswith("set-token") else {}
        return web.json_response({}, headers=headers)

    server.handler = handler
    cluster = connect(server.url)
    await cluster.set_token("main", "t")
    ended = cluster.logout("main")
    await cluster.request("/during", cluster="main")
    await ended
    await cluster.request("/after", cluster="main")
    sent = {request.path: request.headers.get("Cookie") for request in server.requests[1:]}
    assert sent["/clusters/main/set-token"] == "session=abc"
    assert sent["/clusters/main/during"] is None
    assert sent["/clusters/main/after"] is None  # the reply to the logout itself brought one too


async def test_outside_of_a_loop_a_logout_forgets_and_says_that_nobody_can_be_told(cluster, backend, client):
    await login(cluster, backend)
    fill(client)
    with pytest.raises(WrongThread):
        await asyncio.to_thread(cluster.logout, "main")
    assert ("of", "main") in keys(client)
    assert (await cluster.auth.credential("main")).cookie


async def test_after_the_client_is_closed_a_logout_says_so_and_has_forgotten(cluster, backend, client):
    await login(cluster, backend)
    await client.aclose()
    with pytest.raises(ClientClosed):
        cluster.logout("main")
    assert not (await cluster.auth.credential("main")).cookie


async def test_a_client_that_is_closed_meanwhile_cuts_a_logout_short(cluster, backend, client):
    await login(cluster, backend)
    await backend.set_fault(Hold(), path="set-token")
    ended = asyncio.create_task(cluster.logout("main"))
    await backend.wait_requests(2, path=SET_TOKEN)
    await client.aclose()
    with pytest.raises(ClientClosed, match="cut short"):
        await ended


# Overlapping calls


async def test_a_logout_overtakes_a_token_that_is_still_being_set(cluster, backend, heard):
    token = await backend.issue_token("main")
    hold = await backend.set_fault(Hold(handled=True), path="set-token", times=1)
    setting = asyncio.create_task(cluster.set_token("main", token))
    await backend.wait_requests(1, path=SET_TOKEN)
    await cluster.logout("main")
    await backend.release(hold)
    assert await setting is True  # as if it had been in force until the logout
    assert [name for name, _ in heard] == ["token_cleared", "logged_out"]
    with pytest.raises(ApiError):
        await cluster.request(PODS)


async def test_of_two_tokens_that_are_set_at_once_the_later_call_wins(cluster, backend):
    first = await backend.issue_token("main", user="ada")
    second = await backend.issue_token("main", user="bob")
    hold = await backend.set_fault(Hold(handled=True), path="set-token", times=1)
    setting = asyncio.create_task(cluster.set_token("main", first))
    await backend.wait_requests(1, path=SET_TOKEN)
    await cluster.set_token("main", second)
    await backend.release(hold)
    await setting
    assert (await cluster.cluster_me())["username"] == "bob"


async def test_a_token_set_while_a_logout_is_told_is_in_force(cluster, backend):
    await login(cluster, backend)
    hold = await backend.set_fault(Hold(), path="set-token", times=1)
    ended = asyncio.create_task(cluster.logout("main"))
    await backend.wait_requests(2, path=SET_TOKEN)
    await login(cluster, backend, user="bob")
    again = cluster.logout("main")  # of another login, so it is another logout
    await login(cluster, backend, user="eve")
    await backend.release(hold)
    await ended
    await again
    assert (await cluster.cluster_me())["username"] == "eve"
    assert len(await tellings(backend)) == 5


# A 401


@pytest.mark.parametrize("kind", ["bearer", "cookie", "header"])
async def test_a_401_logs_out_whatever_the_token_came_as(kind, cluster, backend, client, heard):
    token = await backend.issue_token("main")
    headers = None
    if kind == "bearer":
        cluster.auth.override(get_token=lambda _: token)
    elif kind == "cookie":
        await cluster.set_token("main", token)
    else:
        headers = {"Authorization": f"Bearer {token}"}
    assert await cluster.request(PODS, headers=headers)
    fill(client)
    await backend.expire_token(token)
    heard.clear()
    with pytest.raises(ApiError) as raised:
        await cluster.request(PODS, headers=headers)
    assert raised.value.status == 401
    assert [name for name, _ in heard] == ["auth_failed", "token_cleared", "logged_out"]
    assert heard[0][1] == {"cluster": "main", "error": raised.value}
    assert keys(client) == {("clusterMe", "main", "more"), ("of", "other")}
    assert (await tellings(backend))[-1].status == 200  # awaited


async def test_reload_is_told_before_the_auth_failure_and_that_before_the_logout(server, connect, heard):
    async def handler(request):
        if request.path.endswith("set-token"):
            return web.Response()
        return web.Response(status=401, headers={"X-Reload": "reload"})

    server.handler = handler
    cluster = connect(server.url)
    await cluster.set_token("main", "t")
    heard.clear()
    with pytest.raises(ApiError):
        await cluster.cluster_fetch("/x", cluster="main")
    assert [name for name, _ in heard] == ["reload_requested", "auth_failed", "token_cleared", "logged_out"]


async def test_where_auto_logout_is_off_only_auth_failed_is_sent(cluster, backend, heard):
    token = await login(cluster, backend)
    await backend.expire_token(token)
    heard.clear()
    for call in (cluster.request(PODS, auto_logout_on_auth_error=False), cluster.test_auth()):
        with pytest.raises(ApiError):
            await call
    assert [name for name, _ in heard] == ["auth_failed", "auth_failed"]
    assert len(await tellings(backend)) == 1


async def test_an_anonymous_401_and_one_without_a_cluster_never_log_out(server, connect, heard):
    async def handler(request):
        return web.Response(status=401, headers={"Set-Cookie": "INGRESSCOOKIE=1"})

    server.handler = handler
    cluster = connect(server.url)
    for name in ("main", "main", None):  # the second time with a cookie that is no login
        with pytest.raises(ApiError):
            await cluster.cluster_request("/x", cluster=name)
    assert [(name, given["cluster"]) for name, given in heard] == [
        ("auth_failed", "main"),
        ("auth_failed", "main"),
        ("auth_failed", None),
    ]
    assert server.seen("Cookie") == [None, "INGRESSCOOKIE=1", None]


async def test_a_hundred_401s_at_once_are_one_logout(cluster, backend, heard):
    token = await login(cluster, backend)
    hold = await backend.set_fault(Hold(), path="/pods$")
    asking = [asyncio.create_task(cluster.request(PODS)) for _ in range(100)]
    await backend.wait_requests(100, path=f"/clusters/main{PODS}")
    await backend.expire_token(token)
    await backend.release(hold)
    errors = await asyncio.gather(*asking, return_exceptions=True)
    assert {error.status for error in errors} == {401}
    assert len(await tellings(backend)) == 2
    assert [name for name, _ in heard].count("logged_out") == 1


async def test_everyone_whose_401_is_of_the_same_token_waits_for_the_logout(cluster, backend, reports, heard):
    token = await login(cluster, backend)
    await backend.expire_token(token)
    hold = await backend.set_fault(Hold(), path="set-token")
    slow = await backend.set_fault(Hold(handled=True), path="/nodes$")
    second = asyncio.create_task(cluster.request("/api/v1/nodes"))
    await backend.wait_requests(1, path="/clusters/main/api/v1/nodes")
    first = asyncio.create_task(cluster.request(PODS))
    await backend.wait_requests(2, path=SET_TOKEN)
    await backend.release(slow)
    while [name for name, _ in heard].count("auth_failed") < 2:
        await asyncio.sleep(0)
    assert not first.done()
    assert not second.done()
    await backend.release(hold)
    errors = await asyncio.gather(first, second, return_exceptions=True)
    assert [error.status for error in errors] == [401, 401]
    assert not reports


async def test_a_late_401_of_an_older_token_does_not_end_the_new_login(cluster, backend, heard):
    token = await login(cluster, backend)
    await backend.expire_token(token)
    hold = await backend.set_fault(Hold(handled=True), path="/pods$", times=1)
    late = asyncio.create_task(cluster.request(PODS))
    await backend.wait_requests(1, path=f"/clusters/main{PODS}")
    await login(cluster, backend, user="bob")
    await backend.release(hold)
    with pytest.raises(ApiError) as raised:
        await late
    assert raised.value.status == 401
    assert "logged_out" not in [name for name, _ in heard]
    assert (await cluster.cluster_me())["username"] == "bob"


async def log_in_anew_while_a_401_comes(cluster, backend):
    """Return a login that the backend holds back, once a 401 of the token before it has logged out."""
    token = await login(cluster, backend)
    await backend.expire_token(token)
    new = await backend.issue_token("main", user="bob")
    hold = await backend.set_fault(Hold(handled=True), path="set-token", times=1)
    setting = asyncio.create_task(cluster.set_token("main", new))
    await backend.wait_requests(2, path=SET_TOKEN)
    return setting, hold


async def test_a_401_of_the_old_token_does_not_overtake_a_token_that_is_being_set(cluster, backend, heard):
    setting, hold = await log_in_anew_while_a_401_comes(cluster, backend)
    with pytest.raises(ApiError) as raised:
        await cluster.request(PODS)
    assert raised.value.status == 401
    await backend.release(hold)
    assert await setting is True
    assert [name for name, _ in heard][-3:] == ["token_cleared", "logged_out", "token_set"]
    assert (await cluster.cluster_me())["username"] == "bob"


async def test_a_logout_that_joins_one_after_a_401_overtakes_a_token_that_is_being_set(cluster, backend, heard):
    setting, hold = await log_in_anew_while_a_401_comes(cluster, backend)
    goodbye = await backend.set_fault(Hold(), path="set-token", times=1)
    refused = asyncio.create_task(cluster.request(PODS))
    await backend.wait_requests(3, path=SET_TOKEN)
    ended = asyncio.create_task(cluster.logout("main"))
    await asyncio.sleep(0)
    await backend.release(hold)
    assert await setting is True
    await backend.release(goodbye)
    await ended
    with pytest.raises(ApiError):
        await refused
    assert [name for name, _ in heard].count("token_set") == 1
    assert len(await tellings(backend)) == 3
    with pytest.raises(ApiError):
        await cluster.request(PODS)


async def test_a_logout_that_fails_is_reported_and_never_takes_the_place_of_the_401(cluster, backend, reports):
    token = await login(cluster, backend)
    await backend.expire_token(token)
    await backend.set_fault(Respond(500), path="set-token")
    errors = await asyncio.gather(*(cluster.request(PODS) for _ in range(5)), return_exceptions=True)
    assert [error.status for error in errors] == [401] * 5
    ((message, error),) = reports
    assert message == "the logout of 'main' after a 401 failed"
    assert error.status == 500


async def test_a_401_while_the_login_is_being_ended_tells_nothing_new(cluster, backend, heard):
    await login(cluster, backend)
    hold = await backend.set_fault(Hold(), path="set-token")
    ended = asyncio.create_task(cluster.logout("main"))
    await backend.wait_requests(2, path=SET_TOKEN)
    with pytest.raises(ApiError):
        await cluster.request(PODS, headers={"Authorization": "Bearer old"})
    assert [name for name, _ in heard].count("logged_out") == 1
    await backend.release(hold)
    await ended


async def test_a_lapsed_login_is_a_login_that_has_ended(server, connect, heard):
    async def handler(request):
        if request.path.endswith("set-token"):
            return web.Response(headers={"Set-Cookie": "session=1; Max-Age=0"})
        return web.Response(status=401)

    server.handler = handler
    cluster = connect(server.url)
    await cluster.set_token("main", "t")
    with pytest.raises(ApiError):
        await cluster.request("/x", cluster="main")
    assert heard[-1][0] == "logged_out"


async def test_a_receiver_that_raises_or_logs_out_itself_disturbs_nothing(cluster, backend, client, reports):
    token = await login(cluster, backend)
    await backend.expire_token(token)

    def broken(sender, **arguments):
        raise RuntimeError("receiver")

    async def logs_out(sender, cluster, **arguments):
        await self.logout(cluster)

    self = cluster
    with (
        auth_failed.connected_to(broken, sender=client),
        auth_failed.connected_to(logs_out, sender=client),
        logged_out.connected_to(broken, sender=client),
        pytest.raises(ApiError) as raised,
    ):
        await cluster.request(PODS)
    assert raised.value.status == 401
    assert {str(error) for _, error in reports} == {"receiver"}
    assert len(await tellings(backend)) == 2


# Overrides


async def test_overrides_may_be_plain_or_async_and_what_set_token_returns_is_returned(server, connect, client, heard):
    cluster = connect(server.url)
    tokens = {}

    async def store(name, token):
        tokens[name] = token
        return "stored"

    async def read(name):
        return tokens.get(name)

    undo = cluster.auth.override(set_token=store, get_token=read)
    fill(client)
    assert await cluster.set_token("main", "t0ken") == "stored"
    assert ("of", "main") not in keys(client)
    assert client.get_query_state(("clusterMe", "main")).is_invalidated
    assert await cluster.get_token("main") == "t0ken"
    await cluster.request("/x", cluster="main")
    await cluster.request("/x", cluster="other")
    assert server.seen("Authorization") == ["Bearer t0ken", None]
    assert await cluster.set_token("main", "") == "stored"
    assert tokens == {"main": None}
    await cluster.set_token("main", "t")
    await cluster.logout("main")
    assert tokens == {"main": None}
    assert [name for name, _ in heard] == ["token_set", "token_cleared", "token_set", "token_cleared", "logged_out"]
    assert not [path for path in server.paths() if "set-token" in path]
    undo()
    assert await cluster.get_token("main") is None
    assert await cluster.set_token("main", "x") is True
    assert server.paths()[-1] == f"POST {SET_TOKEN}"


async def test_an_override_may_be_plain_and_may_return_anything(server, connect):
    cluster = connect(server.url)
    tokens = {}
    undo = cluster.auth.override(set_token=tokens.__setitem__)
    assert await cluster.set_token("main", "t") is None
    assert tokens == {"main": "t"}
    undo()
    undo()


async def test_an_override_that_raises_leaves_everything_as_it_was(server, connect, client, heard, reports):
    cluster = connect(server.url)

    def refuse(name, token):
        raise PermissionError("no")

    cluster.auth.override(set_token=refuse)
    fill(client)
    with pytest.raises(PermissionError):
        await cluster.set_token("main", "t")
    assert len(keys(client)) == 6
    assert not heard
    with pytest.raises(PermissionError):
        await cluster.logout("main")
    assert ("of", "main") not in keys(client)
    assert not reports  # since it was waited for


@pytest.mark.parametrize("hooks", [{}, {"set_token": 5}, {"get_token": "t"}])
async def test_what_is_no_override_is_refused(hooks, cluster):
    with pytest.raises(TypeError, match="override"):
        cluster.auth.override(**hooks)


async def test_another_source_of_tokens_forgets_what_the_former_brought(cluster, backend, client):
    await login(cluster, backend)
    fill(client)
    undo = cluster.auth.override(get_token=lambda _: None)
    assert ("of", "main") not in keys(client)
    assert not (await cluster.auth.credential("main")).cookie  # it is of the former source
    fill(client)
    undo()
    assert ("of", "main") not in keys(client)
    assert ("of", "other") in keys(client)


@pytest.mark.parametrize(("token", "error"), [("s3cret\n", ValueError), (b"s3cret", TypeError)])
async def test_a_token_that_fits_in_no_header_is_an_error_that_does_not_show_it(token, error, server, connect):
    cluster = connect(server.url)
    cluster.auth.override(get_token=lambda _: token)
    with pytest.raises(error, match="get_token") as raised:
        await cluster.request("/x", cluster="main")
    assert "s3cret" not in str(raised.value)
    assert not server.requests


async def test_a_token_that_changes_while_an_override_is_asked_is_asked_for_anew(server, connect):
    cluster = connect(server.url)
    asked, go_on = asyncio.Event(), asyncio.Event()
    tokens = {"main": "old"}

    async def read(name):
        token = tokens[name]
        asked.set()
        await go_on.wait()
        return token

    cluster.auth.override(set_token=tokens.__setitem__, get_token=read)
    task = asyncio.create_task(cluster.request("/x", cluster="main"))
    await asked.wait()
    await cluster.set_token("main", "new")
    go_on.set()
    await task
    assert server.seen("Authorization") == ["Bearer new"]


async def test_no_override_is_asked_while_its_login_is_being_ended_and_what_came_meanwhile_goes(
    server, connect, client
):
    cluster = connect(server.url)
    go_on = asyncio.Event()
    tokens = {"main": "old"}

    async def store(name, token):
        await go_on.wait()
        tokens[name] = token

    cluster.auth.override(set_token=store, get_token=tokens.get)
    await cluster.request("/before", cluster="main")
    ended = asyncio.create_task(cluster.logout("main"))
    await asyncio.sleep(0)
    await client.query(("x",), lambda: cluster.request("/during", cluster="main"))
    go_on.set()
    await ended
    assert client.get_query_data(("x",)) is None
    assert server.seen("Authorization") == ["Bearer old", None]


async def test_a_later_logout_is_not_ended_by_the_end_of_an_earlier_one(server, connect):
    cluster = connect(server.url)
    gates = [asyncio.Event(), asyncio.Event()]
    clears = iter(gates)

    async def store(name, token):
        if token is None:
            await next(clears).wait()

    cluster.auth.override(set_token=store, get_token=lambda _: "old")
    first = asyncio.create_task(cluster.logout("main"))
    await asyncio.sleep(0)
    await cluster.set_token("main", "new")
    second = asyncio.create_task(cluster.logout("main"))
    await asyncio.sleep(0)
    gates[0].set()
    await first
    await cluster.request("/x", cluster="main")
    assert server.seen("Authorization") == [None]
    gates[1].set()
    await cluster.aclose()  # waits for it
    assert second.done() or await second is None


async def test_a_query_function_in_an_override_that_gets_a_401_waits_for_nobody(server, connect, heard):
    async def handler(request):
        return web.Response(status=401)

    server.handler = handler
    cluster = connect(server.url)
    answers = []

    async def store(name, token):
        try:
            await cluster.request("/whoami", cluster=name, headers={"Authorization": "Bearer x"})
        except ApiError as error:
            answers.append(error.status)

    cluster.auth.override(set_token=store)
    await cluster.set_token("main", "t")  # its 401 logs out, whose own 401 does not
    await cluster.logout("main")
    assert answers == [401, 401, 401]


async def test_the_signals_are_the_clients_own(cluster, backend, client):
    heard = []

    def hear(sender, **arguments):
        heard.append((sender, arguments))

    with token_set.connected_to(hear), token_cleared.connected_to(hear):
        await login(cluster, backend)
        await cluster.logout("main")
    assert heard == [(client, {"cluster": "main"})] * 2


def test_a_logout_without_a_loop_forgets_and_says_what_is_missing():
    from querykit.client import QueryClient

    client = QueryClient()
    cluster = ClusterClient(client, "http://localhost:4466")
    fill(client)
    with pytest.raises(RuntimeError, match="loop"):
        cluster.logout("main")
    assert ("of", "main") not in keys(client)
    assert repr(cluster.auth) == "<Auth of 1 clusters>"
