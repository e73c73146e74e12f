import asyncio

import msgspec
import pytest
from aiohttp import web

from querykit.cluster import ClusterClient
from querykit.errors import ApiError, InvalidBody, RequestTimeout, Unreachable
from querykit.http import HttpTransport, join_path
from querykit.testing import Respond
from querykit.testing.backend.kubeconfigs import encode_kubeconfig

PODS = "/api/v1/namespaces/team-a/pods"


def answering(**answer):
    async def handler(request):
        return web.Response(**answer)

    return handler


# Which cluster


async def test_cluster_request_and_cluster_fetch_use_only_the_cluster_they_are_given(server, connect):
    cluster = connect(server.url, current_cluster="main")
    for given in ("b", None, ""):
        await cluster.cluster_request("/api", cluster=given)
        await cluster.cluster_fetch("api", cluster=given)
    assert server.paths() == ["GET /clusters/b/api"] * 2 + ["GET /api"] * 4


async def test_the_others_fall_back_to_the_current_cluster(server, connect):
    cluster = connect(server.url, current_cluster="main")
    await cluster.request("/x")
    await cluster.post("/x", {}, cluster="")
    await cluster.put("/x", {}, cluster=None)
    await cluster.patch("/x", {})
    await cluster.json_patch("/x", [])
    await cluster.remove("/x", cluster="b")
    await cluster.request("/x", use_cluster=False, cluster="b")
    assert server.paths() == [
        "GET /clusters/main/x",
        "POST /clusters/main/x",
        "PUT /clusters/main/x",
        "PATCH /clusters/main/x",
        "PATCH /clusters/main/x",
        "DELETE /clusters/b/x",
        "GET /x",
    ]


async def test_the_current_cluster_may_change_and_without_any_a_path_goes_as_it_is(server, connect):
    cluster = connect(server.url)
    assert cluster.current_cluster is None
    await cluster.request("/x")
    cluster.current_cluster = "b"
    await cluster.request("/x")
    cluster.current_cluster = ""
    assert cluster.current_cluster is None
    assert server.paths() == ["GET /x", "GET /clusters/b/x"]


async def test_a_clusters_name_is_one_segment_whatever_is_in_it(server, connect):
    cluster = connect(server.url)
    for name in ("arn:aws:eks:eu-1:12:cluster/prod", "what? #1"):
        await cluster.cluster_request("/api", cluster=name)
    assert server.paths() == [
        "GET /clusters/arn:aws:eks:eu-1:12:cluster%2Fprod/api",
        "GET /clusters/what%3F%20%231/api",
    ]


@pytest.mark.parametrize("name", [".", "..", "%2e%2e"])
async def test_a_cluster_that_is_dots_is_refused(name, server, connect):
    cluster = connect(server.url)
    with pytest.raises(ValueError, match="segment"):
        await cluster.cluster_request("/api", cluster=name)
    with pytest.raises(ValueError, match="segment"):
        cluster.current_cluster = name
    assert not server.requests


# Paths and parameters


@pytest.mark.parametrize("path", ["/api/../secret", "..", "/api/./v1", "/api/%2e%2e/x"])
async def test_a_path_with_dots_is_refused(path, server, connect):
    with pytest.raises(ValueError, match="segment"):
        await connect(server.url).cluster_request(path, cluster="main")
    assert not server.requests


@pytest.mark.parametrize("path", ["/api/v1/pods?limit=1", "/api/v1/pods#x"])
async def test_a_query_in_a_path_is_refused_with_what_to_write_instead(path, server, connect):
    with pytest.raises(ValueError, match="query_params="):
        await connect(server.url).cluster_request(path, cluster="main")


async def test_a_path_that_is_not_text_is_refused(server, connect):
    with pytest.raises(TypeError, match="path"):
        await connect(server.url).cluster_request(5, cluster="main")


async def test_an_objects_name_may_have_anything_by_join_path(server, connect):
    await connect(server.url).cluster_request(join_path("api", "what? #1/2"), cluster="main")
    assert server.paths() == ["GET /clusters/main/api/what%3F%20%231%2F2"]


async def test_parameters_go_by_their_wire_names_and_none_is_left_out(server, connect):
    parameters = {"limit": 5, "continue": "a b", "watch": True, "labelSelector": None, "other": "x"}
    await connect(server.url).cluster_request("/p", query_params=parameters)
    assert dict(server.requests[0].query) == {"limit": "5", "continue": "a b", "watch": "true", "other": "x"}


# Bodies


async def test_a_mapping_is_sent_as_merge_patch_and_a_list_as_json_patch(server, connect):
    cluster = connect(server.url)
    await cluster.patch("/x", {"a": None})
    await cluster.patch("/x", [{"op": "remove", "path": "/a"}])
    await cluster.json_patch("/x", ({"op": "remove", "path": "/a"},))
    await cluster.patch("/x", {}, headers={"content-type": "application/strategic-merge-patch+json"})
    assert server.seen("Content-Type") == [
        "application/merge-patch+json",
        "application/json-patch+json",
        "application/json-patch+json",
        "application/strategic-merge-patch+json",
    ]
    assert server.bodies[:2] == [b'{"a":null}', b'[{"op":"remove","path":"/a"}]']


@pytest.mark.parametrize("changes", ["text", b"bytes", 5, None])
async def test_a_patch_that_is_neither_is_refused(changes, server, connect):
    with pytest.raises(TypeError, match="mapping or a list"):
        await connect(server.url).patch("/x", changes)
    with pytest.raises(TypeError):
        await connect(server.url).json_patch("/x", {"a": 1})
    assert not server.requests


async def test_json_may_be_null_a_body_goes_as_it_is_and_both_are_too_much(server, connect):
    cluster = connect(server.url)
    await cluster.post("/x", None)
    await cluster.post("/x")
    await cluster.request("/x", method="PUT", body=b"raw")
    await cluster.remove("/x", {"propagationPolicy": "Background"})
    assert server.bodies == [b"null", b"", b"raw", b'{"propagationPolicy":"Background"}']
    with pytest.raises(TypeError, match="one body"):
        await cluster.cluster_request("/x", json=1, body="x")


async def test_an_empty_answer_is_none(server, connect):
    server.handler = answering(status=204)
    assert await connect(server.url).cluster_request("/x") is None


async def test_a_body_that_is_not_json_is_an_error_that_says_where(server, connect):
    server.handler = answering(body=b"{oops", headers={"Content-Type": "application/json"})
    with pytest.raises(InvalidBody, match="OK - the body is not what was asked for") as raised:
        await connect(server.url).cluster_request("/x", cluster="main")
    error = raised.value
    assert (error.status, error.method, error.url) == (200, "GET", f"{server.url}/clusters/main/x")


@pytest.mark.parametrize(("status", "phrase"), [(200, "OK"), (202, "Accepted"), (299, "299")])
async def test_a_body_that_is_not_json_tells_of_its_cluster_and_namespace_also_without_a_phrase(
    status, phrase, server, connect
):
    server.handler = answering(status=status, reason="", body=b"{oops")
    with pytest.raises(InvalidBody, match=f"^{phrase} - the body") as raised:
        await connect(server.url).cluster_request(PODS, cluster="main")
    assert (raised.value.cluster, raised.value.namespace) == ("main", "team-a")


@pytest.mark.parametrize(("path", "namespace"), [("/api/v1/pods", None), (PODS, "team-a"), ("namespaces/b", "b")])
async def test_a_cluster_called_namespaces_is_no_namespace(path, namespace, server, connect):
    server.handler = answering(status=404)
    for name in ("namespaces", "main"):
        with pytest.raises(ApiError) as raised:
            await connect(server.url).cluster_request(path, cluster=name)
        assert (raised.value.cluster, raised.value.namespace) == (name, namespace)


async def test_an_answer_may_be_decoded_as_a_type(server, connect):
    class Pod(msgspec.Struct):
        name: str

    server.handler = answering(body=b'{"name": "web"}')
    cluster = connect(server.url)
    assert await cluster.request("/x", type=Pod) == Pod("web")
    assert (await cluster.request("/x", is_json=False)).status == 200
    response = await cluster.cluster_fetch("/x")
    assert await response.read() == b'{"name": "web"}'


# Errors


async def test_an_error_carries_what_the_status_says_and_where_it_happened(cluster, backend):
    await cluster.set_token("main", await backend.issue_token("main"))
    with pytest.raises(ApiError) as raised:
        await cluster.request(f"{PODS}/nobody")
    error = raised.value
    assert error.message.startswith('Not Found - pods "nobody" not found')
    assert (error.status, error.reason, error.cluster, error.namespace) == (404, "NotFound", "main", "team-a")
    assert error.details["name"] == "nobody"
    assert (error.method, error.url) == ("GET", f"{backend.cluster_url('main')}{PODS}/nobody")


@pytest.mark.parametrize(
    ("answer", "message", "backends"),
    [
        ({"text": "no such thing\n"}, "Not Found - no such thing", "no such thing"),
        ({"body": b'{"message": "gone"}'}, "Not Found - gone", "gone"),
        ({"body": b"{oops"}, "Not Found", "Not Found"),
        ({"text": "x", "reason": "Nope"}, "Nope - x", "x"),
    ],
)
async def test_a_message_is_the_phrase_and_what_the_body_says(answer, message, backends, server, connect):
    server.handler = answering(status=404, **answer)
    cluster = connect(server.url)
    with pytest.raises(ApiError) as raised:
        await cluster.cluster_request("/x", cluster="main")
    assert str(raised.value) == message
    with pytest.raises(ApiError) as raised:
        await cluster.cluster_fetch("/x", cluster="main")
    assert (str(raised.value), raised.value.cluster) == (message, "main")
    with pytest.raises(ApiError) as raised:
        await cluster.backend_fetch("/x")
    assert (str(raised.value), raised.value.cluster) == (backends, None)


async def test_a_timeout_is_408_and_covers_the_body_too(server, connect):
    release = asyncio.Event()

    async def slow(request):
        response = web.StreamResponse()
        await response.prepare(request)
        await release.wait()
        return response

    server.handler = slow
    with pytest.raises(RequestTimeout) as raised:
        await connect(server.url).cluster_request(PODS, cluster="main", timeout=0.05)
    release.set()
    error = raised.value
    assert (error.status, error.cluster, error.namespace) == (408, "main", "team-a")
    assert isinstance(error.__cause__, TimeoutError)


async def test_no_connection_is_502_with_its_cause(connect):
    with pytest.raises(Unreachable) as raised:
        await connect("http://127.0.0.1:1").cluster_request(PODS, cluster="main")
    error = raised.value
    assert (error.status, error.cluster, error.namespace, error.method) == (502, "main", "team-a", "GET")
    assert isinstance(error.__cause__, OSError)


async def test_an_unknown_cluster_is_an_error_with_the_backends_word_for_it(cluster):
    with pytest.raises(ApiError, match="Not Found - key not found") as raised:
        await cluster.request("/api", cluster="nowhere")
    assert raised.value.cluster == "nowhere"


async def test_a_callers_cancellation_ends_a_request(server, connect):
    came, forever = asyncio.Event(), asyncio.Event()

    async def never(request):
        came.set()
        await forever.wait()
        return web.Response()

    server.handler = never
    task = asyncio.create_task(connect(server.url).request("/x"))
    await came.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    forever.set()


# Headers


async def test_backend_and_backstage_tokens_go_with_every_request(server, connect):
    cluster = connect(server.url, backend_token="b-token", backstage_token="s-token")
    await cluster.cluster_request("/x", cluster="main")
    await cluster.backend_fetch("/x", headers={"X-Own": "1"}, query_params={"a": 1})
    await cluster.set_token("main", "t")
    assert server.seen("X-HEADLAMP_BACKEND-TOKEN") == ["b-token"] * 3
    assert server.seen("X-BACKSTAGE-TOKEN") == ["s-token"] * 3
    assert server.seen("X-Own") == [None, "1", None]


async def test_a_kubeconfig_and_a_user_id_go_only_with_its_own_cluster(server, connect):
    dev = encode_kubeconfig("dev", "https://dev.test", "t")
    cluster = connect(server.url, kubeconfigs=[dev])
    given = {"X-Own": "1"}
    for name in ("dev", "prod", "dev", None):
        await cluster.cluster_request("/x", cluster=name, headers=given)
    assert server.seen("KUBECONFIG") == [dev, None, dev, None]
    user_id = cluster.user_id
    assert len(user_id) == 16
    assert int(user_id, 16) >= 0
    assert server.seen("X-HEADLAMP-USER-ID") == [user_id, None, user_id, None]
    assert given == {"X-Own": "1"}


async def test_a_user_id_that_is_given_is_used(server, connect):
    cluster = connect(server.url, kubeconfigs=[encode_kubeconfig("dev", "https://d", "t")], user_id="me")
    await cluster.cluster_request("/x", cluster="dev")
    assert server.seen("X-HEADLAMP-USER-ID") == ["me"]


async def test_a_stateless_cluster_works_against_the_backend(backend, connect):
    token = await backend.issue_token("main")
    cluster = connect(backend.url, kubeconfigs=[backend.kubeconfig("main", token, name="mine")])
    assert (await cluster.cluster_request("/api/v1/namespaces", cluster="mine"))["kind"] == "NamespaceList"


async def test_a_callers_headers_go_before_the_clients(server, connect):
    cluster = connect(server.url, backend_token="ours")
    await cluster.set_token("main", "t")
    cluster.auth.override(get_token=lambda cluster: "bearer")
    headers = {"x-headlamp_backend-token": "theirs", "authorization": "Basic x", "accept": "text/plain"}
    await cluster.request("/x", headers=headers, cluster="main")
    request = server.requests[-1]
    assert request.headers.getall("X-HEADLAMP_BACKEND-TOKEN") == ["theirs"]
    assert request.headers.getall("Authorization") == ["Basic x"]
    assert request.headers.getall("Accept") == ["text/plain"]


async def test_json_is_asked_for_where_json_is_expected(server, connect):
    cluster = connect(server.url)
    await cluster.request("/x")
    await cluster.request("/x", is_json=False)
    assert server.seen("Accept") == ["application/json", "*/*"]


@pytest.mark.parametrize("name", ["backend_token", "backstage_token", "user_id"])
@pytest.mark.parametrize(("value", "error"), [("s3cret\r\n", ValueError), ("s3crét", ValueError), (5, TypeError)])
def test_a_credential_that_fits_in_no_header_is_refused_without_being_shown(name, value, error, client):
    with pytest.raises(error, match=name) as raised:
        ClusterClient(client, "http://localhost", **{name: value})
    assert "s3cr" not in str(raised.value)


@pytest.mark.parametrize("url", ["localhost:4466", "ftp://x", "", None])
def test_a_base_url_without_a_scheme_is_refused(url, client):
    with pytest.raises((ValueError, TypeError), match="base_url"):
        ClusterClient(client, url)


# Signals


async def test_an_answer_that_asks_for_a_reload_is_told_of_errors_too(server, connect, heard):
    server.handler = answering(status=500, headers={"X-Reload": "please reload"})
    with pytest.raises(ApiError):
        await connect(server.url).cluster_request("/x", cluster="main", query_params={"token": "s3cret"})
    assert heard == [("reload_requested", {"cluster": "main", "url": f"{server.url}/clusters/main/x"})]
    server.handler = answering(body=b"{}", headers=[("X-Reload", "no"), ("X-Reload", "reload")])
    await connect(server.url).request("/y", use_cluster=False)
    assert heard[1:] == [("reload_requested", {"cluster": None, "url": f"{server.url}/y"})]
    server.handler = answering(body=b"{}", headers={"X-Reload": "no"})
    await connect(server.url).request("/y")
    assert len(heard) == 2


async def test_a_changed_plugin_at_the_backend_is_told_once(cluster, backend, heard):
    await cluster.backend_fetch("/plugins")
    await backend.reload_plugins()
    for _ in range(2):
        with pytest.raises(ApiError):
            await cluster.request("/api/v1/pods")
    assert [name for name, _ in heard] == ["reload_requested", "auth_failed", "auth_failed"]


async def test_a_transport_that_was_given_is_used_and_left_open(server, client):
    async with HttpTransport(server.url, headers={"X-Mine": "1"}) as transport:
        async with ClusterClient(client, transport) as cluster:
            assert cluster.base_url == server.url
            assert cluster.client is client
            await cluster.request("/x")
        await transport.send("GET", "/y")
    assert server.seen("X-Mine") == ["1", "1"]


async def test_retries_of_a_query_follow_what_the_error_says(cluster, backend, client):
    await cluster.set_token("main", await backend.issue_token("main"))
    await backend.set_fault(Respond(503, retry_after="1"), path="/pods$", times=2)
    pods = await client.query(("pods",), lambda: cluster.request(PODS))
    assert pods["kind"] == "PodList"
    assert len(await backend.requests(path=f"/clusters/main{PODS}")) == 3
