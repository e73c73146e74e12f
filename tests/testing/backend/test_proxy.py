"""The backend in front of its clusters, against reference/headlamp.md 2."""

import base64

import pytest
import yaml

from querykit.testing.backend import BackendSettings

PODS = "/api/v1/pods"
BACKEND_TOKEN = "X-HEADLAMP_BACKEND-TOKEN"


def encoded(document):
    return base64.b64encode(yaml.safe_dump(document).encode()).decode()


# --- clusters ---


async def test_each_cluster_has_objects_of_its_own(wire, backend):
    a, b = [wire.as_user(await backend.issue_token(name), name) for name in ("a", "b")]
    uids = {(await user.api("GET", "/api/v1/namespaces/demo")).json["metadata"]["uid"] for user in (a, b)}
    assert len(uids) == 2
    await a.api("DELETE", "/api/v1/namespaces/demo")
    assert (await b.api("GET", "/api/v1/namespaces/demo")).status == 200


async def test_an_unknown_cluster_is_a_404_in_plain_text(admin):
    """headlamp.md 2: almost all errors are text/plain."""
    reply = await admin("GET", f"/clusters/nowhere{PODS}")
    assert (reply.status, reply.text) == (404, "key not found\n")
    assert reply.headers["Content-Type"].startswith("text/plain")


async def test_a_clusters_name_cannot_contain_a_slash(admin):
    """headlamp.md 2: `{c}` cannot contain "/" (EKS ARN names break)."""
    assert (await admin("GET", f"/clusters/arn%3Aaws%3Aa/x{PODS}")).status == 404
    for names in [(), ("a", "a"), ("",), ("a/b",)]:
        with pytest.raises(ValueError, match="distinct, non-empty names"):
            BackendSettings(clusters=names)


async def test_config_lists_the_clusters(wire):
    reply = await wire("GET", "/config")
    assert [cluster["name"] for cluster in reply.json["clusters"]] == ["a", "b"]
    assert {"server", "auth_type", "meta_data"} <= set(reply.json["clusters"][0])
    assert reply.json["isDynamicClusterEnabled"] is True


async def test_another_path_is_a_404(wire):
    assert (await wire("GET", "/nothing")).text == "404 page not found\n"


@pytest.mark.parametrize("settings", [BackendSettings(clusters=("a",), base_url="headlamp/")])
async def test_all_routes_are_below_the_base_url(admin, backend):
    assert backend.url.endswith("/headlamp")
    assert (await admin.api("GET", PODS)).status == 200
    (first, *_) = await backend.requests()
    assert (first.path, first.cluster) == (f"/headlamp/clusters/a{PODS}", "a")


# --- the backend token ---


@pytest.mark.parametrize("settings", [BackendSettings(clusters=("a",), backend_token="launch")])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/clusters/a/set-token"),
        ("POST", "/auth/set-token"),
        ("GET", "/clusters/a/me"),
        ("GET", "/clusters/a/healthz"),
        ("GET", "/config"),
    ],
)
@pytest.mark.parametrize(
    "given", [[], [(BACKEND_TOKEN, "wrong")], [(BACKEND_TOKEN, "launch"), (BACKEND_TOKEN, "launch")]]
)
async def test_without_the_one_backend_token_access_is_denied(wire, method, path, given):
    """headlamp.md 2: duplicate header or mismatch is a 403 with the text "access denied"."""
    reply = await wire(method, path, {} if method == "POST" else None, headers=given)
    assert (reply.status, reply.text) == (403, "access denied\n")


@pytest.mark.parametrize("settings", [BackendSettings(clusters=("a",), backend_token="launch")])
async def test_the_backend_token_opens(wire):
    assert (await wire.api("GET", "/healthz", headers={BACKEND_TOKEN: "launch"})).text == "ok"


async def test_without_a_backend_token_to_compare_with_any_is_let_in(wire):
    """headlamp.md 2: skipped when the environment variable is empty."""
    assert (await wire.api("GET", "/healthz", headers={BACKEND_TOKEN: "any"})).text == "ok"


# --- stateless clusters ---


async def test_a_kubeconfig_brings_its_users_token(wire, backend):
    mine = backend.kubeconfig("a", await backend.issue_token("a"), name="mine")
    reply = await wire("GET", f"/clusters/mine{PODS}", headers={"KUBECONFIG": mine})
    assert reply.status == 200
    assert (await wire("GET", f"/clusters/mine{PODS}")).status == 404


async def test_a_context_may_be_called_like_a_cluster_of_the_backend(wire, backend):
    document = {
        "contexts": [{"name": "a", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://elsewhere.test"}}],
        "users": [{"name": "u", "user": {"token": await backend.issue_token("a")}}],
    }
    assert (await wire.api("GET", PODS, headers={"KUBECONFIG": encoded(document)})).status == 200


async def test_a_custom_name_takes_the_place_of_the_contexts(wire, backend):
    """headlamp.md 1.0: extension `headlamp_info`.customName."""
    document = yaml.safe_load(base64.b64decode(backend.kubeconfig("a", await backend.issue_token("a"))))
    info = {"name": "headlamp_info", "extension": {"customName": "nice"}}
    document["contexts"][0]["context"]["extensions"] = [info]
    headers = {"KUBECONFIG": encoded(document)}
    assert (await wire("GET", f"/clusters/nice{PODS}", headers=headers)).status == 200
    assert (await wire("GET", f"/clusters/a{PODS}", headers=headers)).text == "key not found\n"


async def test_header_and_cookie_go_before_the_kubeconfigs_token(admin, viewer, backend):
    kubeconfig = {"KUBECONFIG": backend.kubeconfig("a", viewer.token)}
    path = "/api/v1/namespaces/demo/pods/importer"
    assert (await admin.api("DELETE", path, headers=kubeconfig)).status == 200
    cookie = {"Cookie": f"headlamp-auth-a.0={viewer.token}"}
    assert (await admin.api("DELETE", path, headers=kubeconfig | cookie)).status == 403


@pytest.mark.parametrize(
    ("context", "status"),
    [({}, 502), ({"cluster": "c", "user": "u"}, 502), (None, 502)],
)
async def test_a_server_where_nothing_listens_is_a_502(wire, context, status):
    document = {"contexts": [{"name": "far", "context": context}]}
    assert (await wire("GET", f"/clusters/far{PODS}", headers={"KUBECONFIG": encoded(document)})).status == status


async def test_a_kubeconfig_without_a_token_brings_none(wire):
    headers = {"KUBECONFIG": encoded({"contexts": [{"name": "a", "context": {}}]})}
    assert (await wire.api("GET", PODS, headers=headers)).status == 401


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("no base64", "failed to load kubeconfig"),
        (base64.b64encode(b"\xff").decode(), "failed to load kubeconfig"),
        (base64.b64encode(b"a: [").decode(), "failed to load kubeconfig"),
        (encoded({}), "no contexts found in kubeconfig"),
        (encoded({"contexts": [{}]}), "no contexts found in kubeconfig"),
        (encoded([]), "no contexts found in kubeconfig"),
    ],
)
async def test_a_kubeconfig_that_cannot_be_read_is_a_400(wire, header, message):
    reply = await wire.api("GET", PODS, headers={"KUBECONFIG": header})
    assert (reply.status, reply.text) == (400, f"{message}\n")


@pytest.mark.parametrize("settings", [BackendSettings(clusters=("a",), dynamic_clusters=False)])
async def test_without_dynamic_clusters_the_header_does_not_count(wire, backend):
    kubeconfig = backend.kubeconfig("a", await backend.issue_token("a"))
    assert (await wire.api("GET", PODS, headers={"KUBECONFIG": kubeconfig})).status == 401


async def test_a_context_stays_under_its_user_id_while_it_is_used(admin, wire, viewer, backend, clock):
    """headlamp.md 2: cached under cluster and user id, 5 min first, then 20 s per use."""

    async def status(token):
        headers = {"KUBECONFIG": backend.kubeconfig("a", token), "X-HEADLAMP-USER-ID": "0123456789abcdef"}
        return (await wire.api("DELETE", "/api/v1/namespaces/demo/pods/nobody", headers=headers)).status

    assert await status(viewer.token) == 403
    clock.now += 299
    assert await status(admin.token) == 403
    clock.now += 19
    assert await status(admin.token) == 403
    clock.now += 20
    assert await status(admin.token) == 404


async def test_without_a_user_id_each_request_has_its_own_context(admin, wire, viewer, backend):
    for token, expected in ((viewer.token, 403), (admin.token, 404)):
        headers = {"KUBECONFIG": backend.kubeconfig("a", token)}
        path = "/api/v1/namespaces/demo/pods/nobody"
        assert (await wire.api("DELETE", path, headers=headers)).status == expected


# --- X-Reload ---


async def test_one_cluster_answer_tells_of_changed_plugins(wire, backend):
    """headlamp.md 2: set once on the next proxied cluster response, whoever gets it."""
    assert (await wire("GET", "/plugins")).json == []
    await backend.reload_plugins()
    for path in ("/clusters/a/me", "/config", "/plugins"):
        assert "X-Reload" not in (await wire("GET", path)).headers
    told = await wire.api("GET", PODS)
    assert (told.status, told.headers["X-Reload"]) == (401, "reload")
    assert told.headers["Access-Control-Expose-Headers"] == "X-Reload"
    assert "X-Reload" not in (await wire.api("GET", PODS)).headers


async def test_a_change_before_the_plugins_were_listed_is_not_told(wire, backend):
    await backend.reload_plugins()
    await wire("GET", "/plugins")
    assert "X-Reload" not in (await wire.api("GET", PODS)).headers
