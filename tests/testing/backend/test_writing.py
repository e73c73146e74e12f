"""POST, PUT, PATCH and DELETE of the simulated API server, against reference/kubernetes.md 1.6 and 1.9."""

from io import BytesIO

import pytest

DEMO_PODS = "/api/v1/namespaces/demo/pods"
DEPLOYMENTS = "/apis/apps/v1/namespaces/demo/deployments"
MERGE = {"Content-Type": "application/merge-patch+json"}
JSON_PATCH = {"Content-Type": "application/json-patch+json"}


def pod(name="new", **metadata):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **metadata},
        "spec": {"containers": [{"name": "main", "image": "busybox"}]},
    }


def deployment(name="new", **spec):
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": name, "image": "busybox"}]}}
    return {"metadata": {"name": name}, "spec": {"selector": {"matchLabels": labels}, "template": template, **spec}}


async def get(admin, path):
    return (await admin.api("GET", path)).json


# --- POST ---


async def test_a_created_object_has_what_the_server_gives_it(admin):
    sent = pod(uid="mine", creationTimestamp="2001-01-01T00:00:00Z") | {"status": {"phase": "Running"}}
    reply = await admin.api("POST", DEMO_PODS, sent)
    assert reply.status == 201
    metadata = reply.json["metadata"]
    assert (metadata["name"], metadata["namespace"]) == ("new", "demo")
    assert metadata["uid"] != "mine"
    assert metadata["creationTimestamp"] == "2027-01-15T08:00:00Z"
    assert isinstance(metadata["resourceVersion"], str)
    assert reply.json["status"] == {"phase": "Pending"}
    assert await get(admin, f"{DEMO_PODS}/new") == reply.json


async def test_every_write_raises_the_resource_version(admin):
    one = (await admin.api("POST", DEMO_PODS, pod("one"))).json["metadata"]["resourceVersion"]
    two = (await admin.api("POST", DEMO_PODS, pod("two"))).json["metadata"]["resourceVersion"]
    assert int(two) == int(one) + 1
    assert (await get(admin, DEMO_PODS))["metadata"]["resourceVersion"] == two


async def test_generate_name_gives_each_object_a_name(admin):
    sent = {**pod(), "metadata": {"generateName": "job-"}}
    names = {(await admin.api("POST", DEMO_PODS, sent)).json["metadata"]["name"] for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("job-") and len(name) == 9 for name in names)


async def test_a_name_that_is_taken_is_a_409_already_exists(admin):
    reply = await admin.api("POST", DEMO_PODS, pod("importer"))
    assert (reply.status, reply.json["reason"]) == (409, "AlreadyExists")
    assert reply.json["message"] == 'pods "importer" already exists'
    reply = await admin.api("POST", "/api/v1/namespaces", {"metadata": {"name": "demo"}})
    assert reply.json["message"] == 'namespaces "demo" already exists'


async def test_a_missing_namespace_is_a_404(admin):
    reply = await admin.api("POST", "/api/v1/namespaces/gone/pods", pod())
    assert (reply.status, reply.json["message"]) == (404, 'namespaces "gone" not found')


async def test_a_new_namespace_is_active_and_takes_objects(admin):
    reply = await admin.api("POST", "/api/v1/namespaces", {"metadata": {"name": "fresh"}})
    assert (reply.status, reply.json["status"]) == (201, {"phase": "Active"})
    assert (await admin.api("POST", "/api/v1/namespaces/fresh/pods", pod())).status == 201


async def test_a_cluster_scoped_object_has_no_namespace(admin):
    reply = await admin.api("POST", "/api/v1/nodes", {"metadata": {"name": "extra", "namespace": ""}})
    assert reply.status == 201
    assert "namespace" not in reply.json["metadata"]


@pytest.mark.parametrize(
    ("path", "body", "message", "causes"),
    [
        (
            DEMO_PODS,
            {"metadata": {}, "spec": {"containers": [{}]}},
            'Pod "" is invalid: metadata.name: Required value: name or generateName is required',
            [("FieldValueRequired", "metadata.name")],
        ),
        (
            DEMO_PODS,
            {"metadata": {"name": "new"}},
            'Pod "new" is invalid: spec.containers: Required value',
            [("FieldValueRequired", "spec.containers")],
        ),
        (
            DEPLOYMENTS,
            {"metadata": {"name": "new"}},
            (
                'Deployment.apps "new" is invalid: [spec.selector: Required value, '
                "spec.template.spec.containers: Required value]"
            ),
            [("FieldValueRequired", "spec.selector"), ("FieldValueRequired", "spec.template.spec.containers")],
        ),
        (DEMO_PODS, pod("Not_ok"), None, [("FieldValueInvalid", "metadata.name")]),
        ("/api/v1/namespaces", {"metadata": {"name": "a.b"}}, None, [("FieldValueInvalid", "metadata.name")]),
    ],
)
async def test_an_object_that_breaks_a_rule_is_a_422_with_its_causes(admin, path, body, message, causes):
    reply = await admin.api("POST", path, body)
    assert (reply.status, reply.json["reason"]) == (422, "Invalid")
    assert message in (None, reply.json["message"])
    assert [(cause["reason"], cause["field"]) for cause in reply.json["details"]["causes"]] == causes


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "the body of the request is no JSON document"),
        (b"[]", "the object provided is unrecognized (must be of type Pod)"),
        ({"kind": "Node"}, 'Node in version "v1" cannot be handled as a Pod'),
        (
            {"apiVersion": "v2"},
            "the API version in the data (v2) does not match the expected API version (v1)",
        ),
        ({"metadata": []}, None),
        ({"metadata": "x"}, "Pod.metadata: expected an object"),
        (pod(labels=["a"]), "Pod.metadata.labels: expected dict"),
        (pod(7), "Pod.metadata.name: expected str"),
        (
            pod(namespace="other"),
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
    ],
)
async def test_a_body_that_is_no_such_object_is_a_400(admin, body, message):
    reply = await admin.api("POST", DEMO_PODS, body)
    if message is None:
        # An empty value means the same as none.
        assert reply.status == 422
    else:
        assert (reply.status, reply.json["reason"]) == (400, "BadRequest")
        assert reply.json["message"].startswith(message)


async def test_a_resource_version_on_create_is_refused(admin):
    """headlamp.md 1.4: this is why `apply` takes it out before it POSTs."""
    reply = await admin.api("POST", DEMO_PODS, pod(resourceVersion="5"))
    assert (reply.status, "reason" in reply.json) == (500, False)
    assert reply.json["message"] == "resourceVersion should not be set on objects to be created"


async def test_a_body_beyond_the_servers_limit_is_a_413(admin):
    reply = await admin.api("POST", DEMO_PODS, BytesIO(b" " * (3 * 1024 * 1024 + 1)))
    assert (reply.status, reply.json["reason"]) == (413, "RequestEntityTooLarge")


# --- PUT ---


async def test_put_with_an_old_resource_version_is_a_409_conflict(admin):
    """kubernetes.md 1.6: PUT with `metadata.resourceVersion` is an optimistic lock."""
    mine = await get(admin, f"{DEMO_PODS}/importer")
    theirs = {**mine, "metadata": {**mine["metadata"], "labels": {"by": "them"}}}
    assert (await admin.api("PUT", f"{DEMO_PODS}/importer", theirs)).status == 200
    reply = await admin.api("PUT", f"{DEMO_PODS}/importer", mine)
    assert reply.status == 409
    assert reply.json["reason"] == "Conflict"
    assert reply.json["details"] == {"name": "importer", "kind": "pods"}
    assert reply.json["message"] == (
        'Operation cannot be fulfilled on pods "importer": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )


@pytest.mark.parametrize("version", [{}, {"resourceVersion": ""}])
async def test_put_without_a_resource_version_overwrites(admin, version):
    """kubernetes.md 1.6: without it the last writer wins."""
    body = pod("importer", labels={"by": "me"}, **version)
    reply = await admin.api("PUT", f"{DEMO_PODS}/importer", body)
    assert reply.status == 200
    assert reply.json["metadata"]["labels"] == {"by": "me"}


async def test_put_cannot_change_what_the_server_alone_writes(admin):
    before = await get(admin, f"{DEPLOYMENTS}/web")
    body = {**before, "status": {"replicas": 99}}
    body["metadata"] = {"name": "web", "generation": 50, "creationTimestamp": None, "deletionTimestamp": "x"}
    after = (await admin.api("PUT", f"{DEPLOYMENTS}/web", body)).json
    assert after["status"] == before["status"]
    for field in ("uid", "creationTimestamp", "generation"):
        assert after["metadata"][field] == before["metadata"][field]
    assert "deletionTimestamp" not in after["metadata"]


async def test_put_without_a_change_writes_nothing(admin):
    before = await get(admin, f"{DEMO_PODS}/importer")
    assert (await admin.api("PUT", f"{DEMO_PODS}/importer", before)).json == before


async def test_a_changed_spec_raises_the_generation(admin):
    before = await get(admin, f"{DEPLOYMENTS}/web")
    before["spec"]["replicas"] = 5
    after = (await admin.api("PUT", f"{DEPLOYMENTS}/web", before)).json
    assert (before["metadata"]["generation"], after["metadata"]["generation"]) == (1, 2)


async def test_put_to_a_missing_object_is_a_404(admin):
    assert (await admin.api("PUT", f"{DEMO_PODS}/nobody", pod("nobody"))).status == 404


async def test_put_of_another_name_is_a_400(admin):
    reply = await admin.api("PUT", f"{DEMO_PODS}/importer", pod("exporter"))
    assert reply.json["message"] == ("the name of the object (exporter) does not match the name on the URL (importer)")
    assert (await admin.api("PUT", f"{DEMO_PODS}/importer", {})).status == 400


async def test_put_of_another_objects_uid_is_a_409(admin):
    """The object was deleted and made again under the same name."""
    reply = await admin.api("PUT", f"{DEMO_PODS}/importer", pod("importer", uid="old"))
    assert (reply.status, reply.json["reason"]) == (409, "Conflict")
    assert "Precondition failed: UID in precondition: old" in reply.json["message"]


async def test_put_of_an_invalid_object_is_a_422(admin):
    assert (await admin.api("PUT", f"{DEMO_PODS}/importer", {"metadata": {"name": "importer"}})).status == 422


# --- PATCH ---


async def test_a_merge_patch_merges_and_null_deletes(admin):
    """kubernetes.md 1.6: null deletes, lists are replaced whole."""
    body = {"metadata": {"labels": {"run": None, "new": "yes"}}, "spec": {"containers": [{"name": "only"}]}}
    after = (await admin.api("PATCH", f"{DEMO_PODS}/importer", body, headers=MERGE)).json
    assert after["metadata"]["labels"] == {"new": "yes"}
    assert after["spec"]["containers"] == [{"name": "only"}]
    assert after["spec"]["nodeName"] == "worker-2"


async def test_a_merge_patch_may_carry_a_lock(admin):
    body = {"metadata": {"resourceVersion": "1", "labels": {"new": "yes"}}}
    reply = await admin.api("PATCH", f"{DEMO_PODS}/importer", body, headers=MERGE)
    assert (reply.status, reply.json["reason"]) == (409, "Conflict")


async def test_a_json_patch_applies_its_operations(admin):
    body = [
        {"op": "test", "path": "/spec/replicas", "value": 3},
        {"op": "replace", "path": "/spec/replicas", "value": 4},
        {"op": "add", "path": "/metadata/labels/tier", "value": "front"},
    ]
    after = (await admin.api("PATCH", f"{DEPLOYMENTS}/web", body, headers=JSON_PATCH)).json
    assert after["spec"]["replicas"] == 4
    assert after["metadata"]["labels"] == {"app": "web", "tier": "front"}


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/metadata/resourceVersion", "value": "1"},
        {"op": "remove", "path": "/metadata/nothing"},
        {"op": "replace", "path": "", "value": 5},
    ],
)
async def test_a_json_patch_that_cannot_be_applied_is_a_422_and_changes_nothing(admin, operation):
    """kubernetes.md 1.6: a `test` of the resourceVersion is a lock."""
    before = await get(admin, f"{DEMO_PODS}/importer")
    body = [{"op": "add", "path": "/metadata/labels/new", "value": "yes"}, operation]
    reply = await admin.api("PATCH", f"{DEMO_PODS}/importer", body, headers=JSON_PATCH)
    assert (reply.status, reply.json["reason"]) == (422, "Invalid")
    assert await get(admin, f"{DEMO_PODS}/importer") == before


@pytest.mark.parametrize("body", [{"op": "remove"}, [{"op": "fly", "path": "/a"}], [5], b"{"])
async def test_a_body_that_is_no_json_patch_is_a_400(admin, body):
    reply = await admin.api("PATCH", f"{DEMO_PODS}/importer", body, headers=JSON_PATCH)
    assert (reply.status, reply.json["reason"]) == (400, "BadRequest")


@pytest.mark.parametrize("content_type", ["application/json", "application/strategic-merge-patch+json"])
async def test_another_patch_type_is_a_415_that_names_the_two(admin, content_type):
    reply = await admin.api("PATCH", f"{DEMO_PODS}/importer", {}, headers={"Content-Type": content_type})
    assert (reply.status, reply.json["reason"]) == (415, "UnsupportedMediaType")
    assert reply.json["message"].endswith("application/json-patch+json, application/merge-patch+json")


# --- DELETE ---


async def test_a_running_pod_terminates_before_it_is_gone(admin, clock):
    """kubernetes.md 1.6: with a grace period the object stays with `deletionTimestamp`."""
    reply = await admin.api("DELETE", f"{DEMO_PODS}/importer")
    assert (reply.status, reply.json["kind"]) == (200, "Pod")
    marked = await get(admin, f"{DEMO_PODS}/importer")
    assert marked["metadata"]["deletionTimestamp"] == "2027-01-15T08:00:30Z"
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 30
    clock.now += 30
    assert (await admin.api("GET", f"{DEMO_PODS}/importer")).status == 404


async def test_a_second_delete_may_shorten_the_grace_period_only(admin):
    await admin.api("DELETE", f"{DEMO_PODS}/importer?gracePeriodSeconds=10")
    again = await admin.api("DELETE", f"{DEMO_PODS}/importer", {"gracePeriodSeconds": 20})
    assert again.json["metadata"]["deletionTimestamp"] == "2027-01-15T08:00:10Z"
    await admin.api("DELETE", f"{DEMO_PODS}/importer?gracePeriodSeconds=0")
    assert (await admin.api("GET", f"{DEMO_PODS}/importer")).status == 404


@pytest.mark.parametrize("name", ["migrate-schema", "new"])
async def test_a_pod_that_does_not_run_is_gone_at_once(admin, name):
    await admin.api("POST", DEMO_PODS, pod("new"))
    assert (await admin.api("DELETE", f"{DEMO_PODS}/{name}")).status == 200
    assert (await admin.api("GET", f"{DEMO_PODS}/{name}")).status == 404


async def test_a_deleted_deployment_answers_with_a_success_status_and_takes_its_pods_along(admin):
    """kubernetes.md 1.6: the reply is a `Status` or the object."""
    uid = (await get(admin, f"{DEPLOYMENTS}/web"))["metadata"]["uid"]
    reply = await admin.api("DELETE", f"{DEPLOYMENTS}/web")
    assert reply.json == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {"name": "web", "group": "apps", "kind": "deployments", "uid": uid},
    }
    assert not (await admin.api("GET", f"{DEMO_PODS}?labelSelector=app=web")).names


@pytest.mark.parametrize("how", [("?propagationPolicy=Orphan", None), ("", {"propagationPolicy": "Orphan"})])
async def test_orphans_stay(admin, how):
    """headlamp.md 1.4: the options come as query; kubernetes.md 1.6: or as body."""
    query, body = how
    await admin.api("DELETE", f"{DEPLOYMENTS}/web{query}", body)
    assert len((await admin.api("GET", f"{DEMO_PODS}?labelSelector=app=web")).names) == 3


async def test_finalizers_keep_an_object_until_they_are_taken_away(admin):
    path = f"{DEPLOYMENTS}/held"
    body = deployment("held")
    body["metadata"]["finalizers"] = ["example.com/hold"]
    await admin.api("POST", DEPLOYMENTS, body)
    await admin.api("DELETE", path)
    assert "deletionTimestamp" in (await get(admin, path))["metadata"]
    await admin.api("PATCH", path, {"metadata": {"finalizers": None}}, headers=MERGE)
    assert (await admin.api("GET", path)).status == 404


async def test_a_deleted_namespace_takes_its_contents_along(admin):
    reply = await admin.api("DELETE", "/api/v1/namespaces/demo")
    assert reply.json["status"]["phase"] == "Terminating"
    assert (await admin.api("GET", "/api/v1/namespaces/demo")).status == 404
    assert not (await admin.api("GET", DEMO_PODS)).names
    assert not (await admin.api("GET", DEPLOYMENTS)).names
    assert (await admin.api("GET", "/api/v1/pods")).names


async def test_the_namespaces_of_the_system_cannot_be_deleted(admin):
    reply = await admin.api("DELETE", "/api/v1/namespaces/default")
    assert reply.status == 403
    assert reply.json["message"] == 'namespaces "default" is forbidden: this namespace may not be deleted'


@pytest.mark.parametrize(
    ("preconditions", "told"),
    [
        ({"uid": "old"}, "the UID in the precondition (old) does not match the UID in record"),
        ({"resourceVersion": "1"}, "the ResourceVersion in the precondition (1) does not match"),
    ],
)
async def test_a_failed_precondition_is_a_409(admin, preconditions, told):
    """kubernetes.md 1.6: `preconditions{uid,resourceVersion}`, 409 on mismatch."""
    reply = await admin.api("DELETE", f"{DEMO_PODS}/importer", {"preconditions": preconditions})
    assert (reply.status, reply.json["reason"]) == (409, "Conflict")
    assert told in reply.json["message"]


async def test_preconditions_that_hold_delete(admin):
    metadata = (await get(admin, f"{DEPLOYMENTS}/web"))["metadata"]
    held = {"preconditions": {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}}
    assert (await admin.api("DELETE", f"{DEPLOYMENTS}/web", held)).status == 200


@pytest.mark.parametrize(
    "body",
    [[], {"preconditions": 5}, {"gracePeriodSeconds": "soon"}, {"gracePeriodSeconds": []}],
)
async def test_delete_options_of_the_wrong_type_are_a_400(admin, body):
    assert (await admin.api("DELETE", f"{DEMO_PODS}/importer", body)).status == 400


async def test_deleting_what_is_not_there_is_a_404(admin):
    assert (await admin.api("DELETE", f"{DEMO_PODS}/nobody")).status == 404


# --- dryRun ---


@pytest.mark.parametrize(
    ("method", "path", "body", "headers"),
    [
        ("POST", DEMO_PODS, pod(), {}),
        ("PUT", f"{DEMO_PODS}/importer", pod("importer"), {}),
        ("PATCH", f"{DEMO_PODS}/importer", {"metadata": {"labels": None}}, MERGE),
        ("DELETE", f"{DEMO_PODS}/importer", None, {}),
    ],
)
async def test_a_dry_run_answers_and_stores_nothing(admin, method, path, body, headers):
    """kubernetes.md 1.6: everything but storing."""
    before = await get(admin, DEMO_PODS)
    reply = await admin.api(method, f"{path}?dryRun=All", body, headers=headers)
    assert reply.status in (200, 201)
    assert reply.json["kind"] == "Pod"
    assert await get(admin, DEMO_PODS) == before


async def test_a_dry_run_may_stand_in_the_delete_options(admin):
    assert (await admin.api("DELETE", f"{DEMO_PODS}/importer", {"dryRun": ["All"]})).status == 200
    assert "deletionTimestamp" not in (await get(admin, f"{DEMO_PODS}/importer"))["metadata"]


async def test_another_dry_run_is_a_422(admin):
    reply = await admin.api("POST", f"{DEMO_PODS}?dryRun=Some", pod())
    assert reply.status == 422
    assert reply.json["message"] == (
        'CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: "Some": supported values: "All"'
    )
