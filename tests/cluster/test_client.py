"""Who the user is, how the clusters are, and the life of a client."""

import asyncio
import logging
import traceback

import pytest
from aiohttp import web

from querykit.client import QueryClient
from querykit.cluster import ClusterClient
from querykit.errors import ApiError, ClientClosed, InvalidBody, RequestTimeout, Unreachable
from querykit.testing import Drop, Malformed, Respond
from querykit.testing.backend.kubeconfigs import encode_kubeconfig

ME = "/clusters/main/me"
REVIEW = "/clusters/main/apis/authentication.k8s.io/v1/selfsubjectreviews"


# Who


async def test_cluster_me_is_cached_for_five_minutes_under_its_key(cluster, backend, client):
    await cluster.set_token("main", await backend.issue_token("main", user="ada"))
    both = await asyncio.gather(cluster.cluster_me("main"), cluster.cluster_me())
    assert both[0] is both[1] is client.get_query_data(("clusterMe", "main"))
    assert both[0]["username"] == "ada"
    assert len(await backend.requests(path=ME)) == 1
    options = cluster.me_options().options
    assert (options["stale_time"], options["retry"]) == (300, 1)


async def test_cluster_me_is_tried_twice(cluster, backend):
    await backend.set_fault(Respond(500), path="/me$")
    with pytest.raises(ApiError):
        await cluster.cluster_me()
    assert len(await backend.requests(path=ME)) == 2


async def test_cluster_me_needs_a_cluster(backend, connect):
    with pytest.raises(ValueError, match="cluster"):
        await connect(backend.url).cluster_me()


async def test_a_token_that_only_the_cluster_can_read_is_not_logged_out(cluster, backend, heard):
    await cluster.set_token("main", await backend.issue_token("main", user="ada", opaque=True))
    with pytest.raises(ApiError, match="invalid token"):
        await cluster.cluster_me()
    assert (await cluster.user_info())["username"] == "ada"
    assert "logged_out" not in [name for name, _ in heard]
    assert (await cluster.request("/api/v1/pods"))["kind"] == "PodList"


async def test_user_info_is_what_the_backend_reads_from_the_token(cluster, backend):
    await cluster.set_token("main", await backend.issue_token("main", user="ada", groups=["dev"]))
    assert await cluster.user_info("main") == {"username": "ada", "email": "", "groups": ["dev"], "userInfoURL": ""}
    assert not await backend.requests(path=REVIEW)


async def test_user_info_without_any_cluster_is_unknown(backend, connect):
    assert await connect(backend.url).user_info() == {"username": "unknown"}


@pytest.mark.parametrize("effect", [Respond(403), Respond(404), Respond(405)])
async def test_user_info_is_the_clusters_name_where_neither_can_tell(effect, cluster, backend):
    await cluster.set_token("main", await backend.issue_token("main", opaque=True))
    await backend.set_fault(effect, path="/selfsubjectreviews$")
    assert await cluster.user_info() == {"username": "main"}


async def test_user_info_of_a_server_that_has_no_me_is_the_clusters_word(server, connect):
    answers = [web.Response(text="<html>", content_type="text/html"), web.Response()]

    async def handler(request):
        if request.method == "GET":
            return answers.pop()
        return web.json_response({"status": {"userInfo": {"username": "eve"}}})

    server.handler = handler
    cluster = connect(server.url)
    for _ in tuple(answers):
        assert await cluster.user_info("main") == {"username": "eve"}


async def test_user_info_of_an_empty_review_is_the_clusters_name(server, connect):
    async def handler(request):
        return web.Response()

    server.handler = handler
    assert await connect(server.url).user_info("main") == {"username": "main"}


@pytest.mark.parametrize(
    ("path", "effect", "error"),
    [
        ("/me$", Drop(), Unreachable),
        ("/me$", Respond(500), ApiError),
        ("/selfsubjectreviews$", Drop(), Unreachable),
        ("/selfsubjectreviews$", Malformed(), InvalidBody),
    ],
)
async def test_no_answer_is_an_error_and_no_user(path, effect, error, cluster, backend):
    await cluster.set_token("main", await backend.issue_token("main", opaque=True))
    await backend.set_fault(effect, path=path)
    with pytest.raises(error):
        await cluster.user_info()


async def test_user_info_of_nobody_is_the_clusters_401(cluster):
    with pytest.raises(ApiError, match="Unauthorized"):
        await cluster.user_info()


# May they


async def test_test_auth_says_what_the_user_may_do(cluster, backend):
    await cluster.set_token("main", await backend.issue_token("main", role="view"))
    review = await cluster.test_auth()
    assert review["kind"] == "SelfSubjectRulesReview"
    assert (await cluster.test_auth("kube-system", "main"))["status"]["resourceRules"]
    with pytest.raises(ApiError):
        await cluster.test_auth(cluster="other")


async def test_test_auth_asks_about_a_namespace(server, connect):
    cluster = connect(server.url, current_cluster="main")
    await cluster.test_auth()
    await cluster.test_auth("team", "b")
    assert server.bodies == [b'{"spec":{"namespace":"default"}}', b'{"spec":{"namespace":"team"}}']
    path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
    assert server.paths() == [f"POST /clusters/main{path}", f"POST /clusters/b{path}"]


async def test_auth_options_guard_what_only_a_logged_in_user_sees(cluster, backend, client, heard):
    guard = cluster.auth_options("main")
    assert guard.key == ("auth", "main")
    with pytest.raises(ApiError):
        await client.query(guard)
    assert len(await backend.requests(method="POST")) == 1
    assert [name for name, _ in heard] == ["auth_failed"]
    token = await backend.issue_token("main")
    await cluster.set_token("main", token)
    assert await client.query(guard)
    await cluster.logout("main")
    assert client.get_query_data(("auth", "main")) is None
    with pytest.raises(ValueError, match="cluster"):
        cluster.auth_options("")


# How


async def test_the_health_of_the_current_cluster_is_true_or_an_error(cluster, backend):
    assert await cluster.test_cluster_health() is True
    assert await cluster.test_cluster_health("other") is True
    await backend.set_fault(Respond(500, text="etcd"), path="/healthz$")
    with pytest.raises(ApiError, match="Internal Server Error - etcd") as raised:
        await cluster.test_cluster_health()
    assert (raised.value.status, raised.value.cluster) == (500, "main")


async def test_the_health_of_a_list_is_told_for_each(cluster, backend):
    await backend.set_fault(Respond(503, text="starting"), path="/healthz$", cluster="other")
    health = await cluster.test_cluster_health(["main", "other", "nowhere"])
    assert health["main"] is True
    assert (health["other"].status, health["other"].cluster) == (503, "other")
    assert health["nowhere"].status == 404
    assert await cluster.test_cluster_health([]) == {}
    with pytest.raises(ValueError, match="cluster"):
        await cluster.test_cluster_health(["main", ""])


# Life


async def test_a_client_that_was_closed_sends_nothing(server, client):
    async with ClusterClient(client, server.url) as cluster:
        await cluster.request("/x")
    with pytest.raises(ClientClosed):
        await cluster.request("/x")
    client.set_query_data(("clusterMe", "main"), 1)
    from querykit.signals import emit, logged_out

    emit(logged_out, client, cluster="main")
    assert client.get_query_data(("clusterMe", "main")) == 1  # its rules are gone


@pytest.mark.virtual_time
async def test_a_logout_that_does_not_end_is_given_up_after_a_time():
    async def forever(name, token):
        await asyncio.Event().wait()

    async with QueryClient() as client:
        cluster = ClusterClient(client, "http://localhost:4466")
        cluster.auth.override(set_token=forever)
        ended = asyncio.create_task(cluster.logout("main"))
        await asyncio.sleep(0)
        await cluster.aclose()
        assert asyncio.get_running_loop().time() == 10
        with pytest.raises(ClientClosed):
            await ended


# Secrets


SECRETS = ("b-s3cret", "s-s3cret", "t-s3cret", "c-s3cret", "k-s3cret", "q-s3cret")


async def test_no_secret_is_in_a_repr_a_log_an_error_or_a_cache_event(server, client, connect, reports, caplog):
    caplog.set_level(logging.DEBUG)
    kubeconfig = encode_kubeconfig("main", "https://x", "k-s3cret")

    async def handler(request):
        if request.path.endswith("set-token"):
            return web.Response(headers={"Set-Cookie": "session=c-s3cret"})
        if request.path.endswith("slow"):
            await asyncio.Event().wait()
        return web.json_response({"message": "no"}, status=401, headers={"X-Reload": "reload"})

    server.handler = handler
    cluster = connect(
        server.url, backend_token="b-s3cret", backstage_token="s-s3cret", kubeconfigs=[kubeconfig], user_id="me"
    )
    events = []
    client.cache.subscribe(lambda event: events.append(repr(event)))
    await cluster.set_token("main", "t-s3cret")
    credential = await cluster.auth.credential("main")
    assert "c-s3cret" in credential.cookie
    errors = []

    async def failing(path, **options):
        try:
            await client.query(("x",), lambda: cluster.request(path, cluster="main", **options), retry=0)
        except ApiError as error:
            errors.append(error)

    await failing("/slow", timeout=0.01)
    await failing("/x", query_params={"token": "q-s3cret"})
    assert isinstance(errors[0], RequestTimeout)
    assert errors[1].status == 401
    auth = cluster.auth
    texts = [
        *map(repr, [cluster, auth, cluster._requests, cluster._sources, cluster.kubeconfigs, client, credential]),
        *map(repr, [auth._logins["main"], auth._logins["main"].cookies]),
        *("".join(traceback.format_exception(error)) for error in errors),
        *(repr(vars(error)) for error in errors),
        *events,
        *map(repr, reports),
        caplog.text,
    ]
    for secret in (*SECRETS, kubeconfig):
        assert not [text for text in texts if secret in text]
