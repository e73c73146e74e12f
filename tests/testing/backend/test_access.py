"""Who may do what in a cluster, against reference/kubernetes.md 1.9 and 1.10 and headlamp.md 1.2."""

import jwt
import pytest

DEMO_PODS = "/api/v1/namespaces/demo/pods"
RULES = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
SELF = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
UNAUTHORIZED = {
    "kind": "Status",
    "apiVersion": "v1",
    "metadata": {},
    "status": "Failure",
    "message": "Unauthorized",
    "reason": "Unauthorized",
    "code": 401,
}


@pytest.fixture
async def nobody(wire, backend):
    """Known to the cluster, and allowed nothing."""
    return wire.as_user(await backend.issue_token("a", user="nemo", role="none"))


# --- 401: who you are ---


async def test_without_a_token_the_answer_is_the_api_servers_401(wire):
    """headlamp.md 2: the apiserver's own Status passes through unchanged."""
    reply = await wire.api("GET", DEMO_PODS)
    assert (reply.status, reply.json) == (401, UNAUTHORIZED)


@pytest.mark.parametrize("header", ["Bearer wrong", "wrong", "Basic cm9vdDpyb290", "Bearer "])
async def test_a_bad_token_is_a_401_even_where_none_is_needed(wire, header):
    for path in (DEMO_PODS, "/healthz"):
        assert (await wire.api("GET", path, headers={"Authorization": header})).json == UNAUTHORIZED


async def test_a_token_holds_until_its_time_is_over(wire, backend, clock):
    user = wire.as_user(await backend.issue_token("a", expires_in=60))
    clock.now += 59.5
    assert (await user.api("GET", DEMO_PODS)).status == 200
    clock.now += 0.5
    assert (await user.api("GET", DEMO_PODS)).json == UNAUTHORIZED


@pytest.mark.parametrize("opaque", [True, False])
async def test_a_token_without_an_end_holds(wire, backend, clock, opaque):
    user = wire.as_user(await backend.issue_token("a", expires_in=None, opaque=opaque))
    clock.now += 1e8
    assert (await user.api("GET", DEMO_PODS)).status == 200


async def test_an_expired_and_a_revoked_token_are_a_401(wire, backend):
    for end in (backend.expire_token, backend.revoke_token):
        user = wire.as_user(await backend.issue_token("a"))
        assert (await user.api("GET", DEMO_PODS)).status == 200
        await end(user.token)
        assert (await user.api("GET", DEMO_PODS)).json == UNAUTHORIZED


async def test_a_token_of_one_cluster_is_nothing_in_another(admin):
    assert (await admin.as_user(admin.token, "b").api("GET", DEMO_PODS)).status == 401


async def test_a_token_is_a_jwt_that_says_whose_it_is(backend, clock):
    token = await backend.issue_token("a", user="ada", groups=["dev", "ops"], email="ada@x.test", expires_in=60)
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["preferred_username"] == "ada"
    assert (claims["groups"], claims["email"], claims["exp"]) == (["dev", "ops"], "ada@x.test", clock.now + 60)
    assert "exp" not in jwt.decode(await backend.issue_token("a", expires_in=None), options={"verify_signature": False})


async def test_no_two_tokens_are_the_same(backend):
    assert await backend.issue_token("a") != await backend.issue_token("a")


# --- what everyone may ask ---


async def test_health_and_version_need_no_token(wire):
    """headlamp.md 1.2: testClusterHealth asks `/healthz`, which is not JSON."""
    for path in ("/healthz", "/livez", "/readyz"):
        reply = await wire.api("GET", path)
        assert (reply.status, reply.text) == (200, "ok")
        assert reply.headers["Content-Type"].startswith("text/plain")
    assert (await wire.api("GET", "/version")).json["gitVersion"].startswith("v1.")


# --- 403: what you may do ---


@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        (
            "GET",
            "/api/v1/namespaces/default/pods",
            'pods is forbidden: User "nemo" cannot list resource "pods" in API group "" in the namespace "default"',
        ),
        (
            "GET",
            "/api/v1/nodes",
            'nodes is forbidden: User "nemo" cannot list resource "nodes" in API group "" at the cluster scope',
        ),
        (
            "PATCH",
            "/apis/apps/v1/namespaces/demo/deployments/web",
            (
                'deployments.apps "web" is forbidden: User "nemo" cannot patch resource "deployments" '
                'in API group "apps" in the namespace "demo"'
            ),
        ),
        (
            "GET",
            f"{DEMO_PODS}/importer/log",
            (
                'pods "importer" is forbidden: User "nemo" cannot get resource "pods/log" '
                'in API group "" in the namespace "demo"'
            ),
        ),
        (
            "DELETE",
            DEMO_PODS,
            (
                'pods is forbidden: User "nemo" cannot deletecollection resource "pods" '
                'in API group "" in the namespace "demo"'
            ),
        ),
        ("GET", "/metrics", 'forbidden: User "nemo" cannot get path "/metrics"'),
    ],
)
async def test_what_is_not_allowed_is_a_403_in_the_real_servers_words(nobody, method, path, message):
    reply = await nobody.api(method, path)
    assert (reply.status, reply.json["reason"], reply.json["code"]) == (403, "Forbidden", 403)
    assert reply.json["message"] == message


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", DEMO_PODS),
        ("PUT", f"{DEMO_PODS}/importer"),
        ("PATCH", f"{DEMO_PODS}/importer"),
        ("DELETE", f"{DEMO_PODS}/importer"),
        ("GET", "/metrics"),
    ],
)
async def test_a_viewer_reads_and_does_no_more(viewer, method, path):
    assert (await viewer.api("GET", DEMO_PODS)).status == 200
    assert (await viewer.api("GET", f"{DEMO_PODS}/importer")).status == 200
    assert (await viewer.api(method, path, {} if method == "POST" else None)).status == 403


async def test_whoever_is_known_may_discover(nobody):
    assert (await nobody.api("GET", "/api/v1")).status == 200


# --- reviews ---


@pytest.mark.parametrize(("role", "verbs"), [("admin", [["*"]]), ("view", [["get", "list", "watch"]]), ("none", [])])
async def test_a_rules_review_tells_what_the_user_may_do(wire, backend, role, verbs):
    """headlamp.md 1.2: testAuth POSTs `{"spec": {"namespace": ns}}`."""
    user = wire.as_user(await backend.issue_token("a", role=role))
    reply = await user.api("POST", RULES, {"spec": {"namespace": "default"}})
    assert (reply.status, reply.json["kind"]) == (201, "SelfSubjectRulesReview")
    own, *granted = reply.json["status"]["resourceRules"]
    assert own["resources"] == ["selfsubjectaccessreviews", "selfsubjectrulesreviews"]
    assert [rule["verbs"] for rule in granted] == verbs


@pytest.mark.parametrize("body", [{}, {"spec": {}}, {"spec": 5}])
async def test_a_rules_review_needs_a_namespace(admin, body):
    assert (await admin.api("POST", RULES, body)).json["message"] == "no namespace on request"


async def test_a_rules_review_without_a_token_is_a_401(wire):
    assert (await wire.api("POST", RULES, {"spec": {"namespace": "default"}})).status == 401


async def test_a_self_review_tells_who_the_user_is(wire, backend):
    """headlamp.md 1.2: getClusterUserInfo reads `status.userInfo`."""
    user = wire.as_user(await backend.issue_token("a", user="ada", groups=["dev"], opaque=True))
    reply = await user.api("POST", SELF, {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"})
    assert reply.status == 201
    assert reply.json["status"]["userInfo"] == {"username": "ada", "groups": ["dev", "system:authenticated"]}


async def test_a_review_that_is_no_object_is_no_review(admin):
    assert (await admin.api("POST", SELF, [])).status == 404
