"""GET and LIST of the simulated API server, against reference/kubernetes.md."""

import pytest

PODS = "/api/v1/pods"
DEMO_PODS = "/api/v1/namespaces/demo/pods"


async def test_a_list_names_its_kind_and_version_and_its_items_do_not(admin):
    reply = await admin.api("GET", PODS)
    assert reply.status == 200
    assert (reply.json["kind"], reply.json["apiVersion"]) == ("PodList", "v1")
    assert reply.json["metadata"]["resourceVersion"].isdigit()
    assert all("kind" not in item and "apiVersion" not in item for item in reply.json["items"])


@pytest.mark.parametrize(
    ("path", "kind", "least"),
    [
        ("/api/v1/namespaces", "NamespaceList", 3),
        ("/api/v1/nodes", "NodeList", 2),
        ("/api/v1/events", "EventList", 10),
        ("/apis/apps/v1/deployments", "DeploymentList", 4),
        (PODS, "PodList", 18),
    ],
)
async def test_a_new_cluster_holds_something_of_every_type(admin, path, kind, least):
    reply = await admin.api("GET", path)
    assert reply.json["kind"] == kind
    assert len(reply.json["items"]) >= least


async def test_a_list_of_one_namespace_holds_that_alone(admin):
    items = (await admin.api("GET", DEMO_PODS)).json["items"]
    assert items
    assert {item["metadata"]["namespace"] for item in items} == {"demo"}


async def test_items_come_in_the_order_of_namespace_and_name(admin):
    items = (await admin.api("GET", PODS)).json["items"]
    keys = [f"{item['metadata']['namespace']}/{item['metadata']['name']}" for item in items]
    assert keys == sorted(keys)


async def test_one_object_is_given_whole(admin):
    reply = await admin.api("GET", "/apis/apps/v1/namespaces/demo/deployments/web")
    assert reply.status == 200
    assert (reply.json["kind"], reply.json["apiVersion"]) == ("Deployment", "apps/v1")
    assert {"uid", "resourceVersion", "creationTimestamp", "generation"} <= set(reply.json["metadata"])


async def test_a_namespace_is_an_object_of_its_own_path(admin):
    assert (await admin.api("GET", "/api/v1/namespaces/demo")).json["kind"] == "Namespace"


@pytest.mark.parametrize(
    ("path", "message", "details"),
    [
        (f"{DEMO_PODS}/nobody", 'pods "nobody" not found', {"name": "nobody", "kind": "pods"}),
        (
            "/apis/apps/v1/namespaces/demo/deployments/nobody",
            'deployments.apps "nobody" not found',
            {"name": "nobody", "group": "apps", "kind": "deployments"},
        ),
    ],
)
async def test_a_missing_object_is_a_404_with_the_real_servers_words(admin, path, message, details):
    """kubernetes.md 1.9: `Status` with reason, code, message and details."""
    reply = await admin.api("GET", path)
    assert reply.status == 404
    assert reply.json == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": "NotFound",
        "details": details,
        "code": 404,
    }


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/widgets",
        "/apis/apps/v2/deployments",
        "/api/v1/pods/web",
        "/api/v1/namespaces/demo/nodes",
        f"{DEMO_PODS}/importer/log",
        "/api/v1/namespaces/demo/status",
    ],
)
async def test_a_type_that_is_not_there_is_a_generic_404(admin, path):
    reply = await admin.api("GET", path)
    assert (reply.status, reply.json["reason"]) == (404, "NotFound")
    assert reply.json["message"] == "the server could not find the requested resource"
    assert reply.json["details"] == {}


async def test_a_path_that_is_no_resource_is_a_plain_404(admin):
    reply = await admin.api("GET", "/apis/nowhere")
    assert (reply.status, reply.text) == (404, "404 page not found\n")
    assert reply.headers["Content-Type"].startswith("text/plain")


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", PODS), ("DELETE", DEMO_PODS), ("OPTIONS", DEMO_PODS), ("GET", f"{PODS}?watch=1")],
)
async def test_a_verb_that_is_not_served_is_a_405(admin, method, path):
    """kubernetes.md 1.3: 405 on a watch request means that the type cannot be watched."""
    body = {} if method == "POST" else None
    reply = await admin.api(method, path, body)
    assert (reply.status, reply.json["reason"]) == (405, "MethodNotAllowed")


async def test_api_answers_are_not_to_be_cached(admin):
    for path in (PODS, f"{DEMO_PODS}/nobody", "/version"):
        assert (await admin.api("GET", path)).headers["Cache-Control"] == "no-cache, private"


# --- selectors ---


@pytest.mark.parametrize(
    ("selector", "apps"),
    [
        ("app=web", {"web"}),
        ("app==web", {"web"}),
        ("app in (web, api)", {"web", "api"}),
        ("app,app!=web", {"api", "worker"}),
        ("app notin (web,api),app", {"worker"}),
        ("app,!app", set()),
        ("!app", {None}),
        ("", {"api", "web", "worker", None}),
    ],
)
async def test_a_label_selector_is_equality_or_set_based(admin, selector, apps):
    reply = await admin.api("GET", f"{DEMO_PODS}?labelSelector={selector}")
    assert {item["metadata"]["labels"].get("app") for item in reply.json["items"]} == apps


@pytest.mark.parametrize(
    ("path", "selector", "check"),
    [
        (PODS, "metadata.name=importer", lambda items: len(items) == 1),
        (PODS, "metadata.namespace=demo,metadata.name==importer", lambda items: len(items) == 1),
        (PODS, "status.phase!=Running", lambda items: items[0]["status"]["phase"] == "Succeeded"),
        (PODS, "spec.nodeName=control-plane", lambda items: len(items) == 1),
        (PODS, "status.podIP=", lambda items: {len(items)} == {2}),
        ("/api/v1/nodes", "spec.unschedulable=false", lambda items: len(items) == 3),
        ("/api/v1/nodes", "spec.unschedulable=true", lambda items: not items),
        ("/api/v1/namespaces", "status.phase=Active", lambda items: len(items) == 3),
        ("/api/v1/events", "involvedObject.kind=Pod,type=Normal", lambda items: len(items) > 5),
        ("/api/v1/events", r"reason=a\,b\=c", lambda items: not items),
    ],
)
async def test_a_field_selector_takes_the_fields_of_its_type(admin, path, selector, check):
    items = (await admin.api("GET", f"{path}?fieldSelector={selector.replace('%', '%25')}")).json["items"]
    assert check(items)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("labelSelector=a b", "unable to parse requirement: found 'a b', expected: in, notin, =, ==, !=, gt, lt"),
        ("fieldSelector=metadata.name", "invalid selector: 'metadata.name'; can't understand 'metadata.name'"),
        (
            "fieldSelector=spec.color=red",
            (
                'Unable to find "/v1, Resource=pods" that match label selector "", field selector '
                '"spec.color=red": field label not supported: spec.color'
            ),
        ),
        ("limit=many", 'invalid limit: strconv.ParseUint: parsing "many": invalid syntax'),
        ("resourceVersion=new", 'invalid resourceVersion: strconv.ParseUint: parsing "new": invalid syntax'),
        ("continue=*", None),
        ("continue=e30", None),
    ],
)
async def test_a_query_that_cannot_be_read_is_a_400(admin, query, message):
    reply = await admin.api("GET", f"{PODS}?{query}")
    assert (reply.status, reply.json["reason"]) == (400, "BadRequest")
    assert reply.json["message"] == message or reply.json["message"].startswith("invalid continue token")


# --- paging ---


async def pages(admin, query, path=PODS):
    """All pages, followed by their continue tokens."""
    found = [await admin.api("GET", f"{path}?{query}")]
    while token := found[-1].json["metadata"].get("continue"):
        found.append(await admin.api("GET", f"{path}?{query}&continue={token}"))
    return found


async def test_pages_add_up_to_the_list_and_share_its_resource_version(admin):
    """kubernetes.md 1.2: every page has the first page's rv."""
    whole = await admin.api("GET", PODS)
    found = await pages(admin, "limit=7")
    assert [name for page in found for name in page.names] == whole.names
    assert {page.json["metadata"]["resourceVersion"] for page in found} == {whole.json["metadata"]["resourceVersion"]}
    assert [page.json["metadata"].get("remainingItemCount") for page in found] == [12, 5, None]


async def test_a_list_with_a_selector_does_not_count_what_remains(admin):
    """kubernetes.md 1.2: `remainingItemCount` is absent with selectors."""
    found = await pages(admin, "limit=2&labelSelector=app=web")
    assert [len(page.names) for page in found] == [2, 1]
    assert not any("remainingItemCount" in page.json["metadata"] for page in found)


async def test_later_pages_show_the_state_of_the_first(admin):
    """kubernetes.md 1.2: the pages are one snapshot."""
    whole = await admin.api("GET", DEMO_PODS)
    first = await admin.api("GET", f"{DEMO_PODS}?limit=1")
    last = whole.names[-1]
    await admin.api("DELETE", f"{DEMO_PODS}/{last}?gracePeriodSeconds=0")
    await admin.api("POST", DEMO_PODS, {"metadata": {"name": "zz-new"}, "spec": {"containers": [{}]}})
    patch = {"metadata": {"labels": {"changed": "yes"}}}
    merge = {"Content-Type": "application/merge-patch+json"}
    await admin.api("PATCH", f"{DEMO_PODS}/{whole.names[1]}", patch, headers=merge)
    token = first.json["metadata"]["continue"]
    rest = await admin.api("GET", f"{DEMO_PODS}?limit=500&continue={token}")
    assert first.names + rest.names == whole.names
    assert "changed" not in rest.json["items"][0]["metadata"]["labels"]


async def test_a_continue_token_expires_with_a_token_that_goes_on_inconsistently(admin, clock):
    """kubernetes.md 1.2: 410 `Expired`; its own `metadata.continue` is an inconsistent token."""
    first = await admin.api("GET", f"{DEMO_PODS}?limit=1")
    clock.now += 301
    expired = await admin.api("GET", f"{DEMO_PODS}?limit=1&continue={first.json['metadata']['continue']}")
    assert (expired.status, expired.json["reason"], expired.json["code"]) == (410, "Expired", 410)
    assert expired.json["message"].startswith("The provided continue parameter is too old")
    token = expired.json["metadata"]["continue"]
    await admin.api("POST", DEMO_PODS, {"metadata": {"name": "zz-new"}, "spec": {"containers": [{}]}})
    rest = await admin.api("GET", f"{DEMO_PODS}?continue={token}")
    assert rest.status == 200
    assert rest.names[-1] == "zz-new"
    assert first.names[0] not in rest.names


async def test_a_token_of_a_state_that_was_compacted_expires(admin, clock):
    first = await admin.api("GET", f"{DEMO_PODS}?limit=1")
    clock.now += 200
    await admin.api("POST", DEMO_PODS, {"metadata": {"name": "new"}, "spec": {"containers": [{}]}})
    clock.now += 299
    token = first.json["metadata"]["continue"]
    assert (await admin.api("GET", f"{DEMO_PODS}?continue={token}")).status == 410


# --- resourceVersion, by the table of kubernetes.md 1.1 ---


async def rv_of(admin, path=DEMO_PODS):
    return int((await admin.api("GET", path)).json["metadata"]["resourceVersion"])


@pytest.mark.parametrize(
    "query", ["resourceVersion={old}&resourceVersionMatch=Exact", "resourceVersion={old}&limit=500"]
)
async def test_an_exact_resource_version_shows_that_state(admin, query):
    old, before = await rv_of(admin), (await admin.api("GET", DEMO_PODS)).names
    await admin.api("DELETE", f"{DEMO_PODS}/importer?gracePeriodSeconds=0")
    reply = await admin.api("GET", f"{DEMO_PODS}?{query.format(old=old)}")
    assert reply.names == before
    assert reply.json["metadata"]["resourceVersion"] == str(old)


@pytest.mark.parametrize(
    "query",
    [
        "resourceVersion={old}",
        "resourceVersion={old}&resourceVersionMatch=NotOlderThan&limit=500",
        "resourceVersion=0&limit=1",
        "resourceVersion=0",
        "",
    ],
)
async def test_another_resource_version_shows_the_newest_state(admin, query):
    """With "0" the `limit` is ignored, as by the watch cache."""
    old = await rv_of(admin)
    await admin.api("DELETE", f"{DEMO_PODS}/importer?gracePeriodSeconds=0")
    newest = await admin.api("GET", DEMO_PODS)
    reply = await admin.api("GET", f"{DEMO_PODS}?{query.format(old=old)}")
    assert reply.json == newest.json


@pytest.mark.parametrize(
    "query",
    [
        "resourceVersionMatch=Exact",
        "resourceVersionMatch=Exact&resourceVersion=0",
        "resourceVersionMatch=Sometimes&resourceVersion=5",
        "resourceVersionMatch=NotOlderThan&resourceVersion=5&continue={token}",
    ],
)
async def test_a_refused_match_is_a_422(admin, query):
    token = (await admin.api("GET", f"{DEMO_PODS}?limit=1")).json["metadata"]["continue"]
    reply = await admin.api("GET", f"{DEMO_PODS}?{query.format(token=token)}")
    assert (reply.status, reply.json["reason"]) == (422, "Invalid")
    assert reply.json["details"]["causes"][0]["field"] == "resourceVersionMatch"


async def test_continue_does_not_go_with_a_resource_version(admin):
    """kubernetes.md 1.2: sending it with `continue` is an error."""
    token = (await admin.api("GET", f"{DEMO_PODS}?limit=1")).json["metadata"]["continue"]
    reply = await admin.api("GET", f"{DEMO_PODS}?resourceVersion=5&continue={token}")
    assert reply.status == 400


async def test_a_version_from_the_future_is_a_504(admin):
    """kubernetes.md 1.1: 504 `Timeout` with cause `ResourceVersionTooLarge`."""
    reply = await admin.api("GET", f"{DEMO_PODS}?resourceVersion=99999999999999999999")
    assert (reply.status, reply.json["reason"]) == (504, "Timeout")
    assert reply.json["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


async def test_a_version_that_was_compacted_is_a_410(admin, clock):
    clock.now += 301
    reply = await admin.api("GET", f"{DEMO_PODS}?resourceVersion=1001&resourceVersionMatch=Exact")
    assert (reply.status, reply.json["reason"]) == (410, "Expired")
    assert reply.json["message"] == "The resourceVersion for the provided list is too old."


# --- discovery ---

AGGREGATED = {"Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"}


async def test_discovery_lists_the_types_of_a_group(viewer):
    """headlamp.md 1.4: `apply` finds plural and scope by kind in `/api/v1` and `/apis/{g}/{v}`."""
    core = (await viewer.api("GET", "/api/v1")).json
    assert (core["kind"], core["groupVersion"]) == ("APIResourceList", "v1")
    assert {"Pod", "Node", "Namespace", "Event"} <= {row["kind"] for row in core["resources"]}
    apps = (await viewer.api("GET", "/apis/apps/v1")).json
    (deployment,) = (row for row in apps["resources"] if row["kind"] == "Deployment")
    assert (deployment["name"], deployment["namespaced"]) == ("deployments", True)


@pytest.mark.parametrize(
    ("path", "kind"), [("/api", "APIVersions"), ("/apis", "APIGroupList"), ("/apis/apps", "APIGroup")]
)
async def test_discovery_lists_the_groups(viewer, path, kind):
    assert (await viewer.api("GET", path)).json["kind"] == kind


async def test_aggregated_discovery_has_an_etag_and_answers_304(viewer):
    """kubernetes.md 1.9: it sends an ETag and answers 304; lists and objects send none."""
    for path in ("/api", "/apis"):
        first = await viewer.api("GET", path, headers=AGGREGATED)
        assert first.json["kind"] == "APIGroupDiscoveryList"
        assert first.headers["Content-Type"] == "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        assert (first.headers["Cache-Control"], first.headers["Vary"]) == ("public", "Accept")
        again = await viewer.api("GET", path, headers={**AGGREGATED, "If-None-Match": first.headers["ETag"]})
        assert (again.status, again.text, again.headers["ETag"]) == (304, "", first.headers["ETag"])
        other = await viewer.api("GET", path, headers={**AGGREGATED, "If-None-Match": '"other"'})
        assert other.status == 200
    assert "ETag" not in (await viewer.api("GET", PODS, headers=AGGREGATED)).headers
