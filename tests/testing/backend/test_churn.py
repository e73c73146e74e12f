"""How the objects of a cluster change over time."""

from collections import Counter
from random import Random

import pytest

from querykit.testing.backend import BackendSettings, ControlError
from querykit.testing.backend.churn import MAX_EVENTS, Churn
from querykit.testing.backend.resources import DEPLOYMENTS, EVENTS, NAMESPACES, NODES, PODS
from querykit.testing.backend.simulation import Simulation
from querykit.testing.backend.store import Store


@pytest.fixture
def store(clock):
    return Store(clock=clock, rng=Random(1))


def run(seed, steps, clock):
    simulation = Simulation(BackendSettings(clusters=("a",), seed=seed), clock=clock)
    return simulation.step_churn(steps)


def test_the_same_seed_gives_the_same_changes(clock):
    assert run(1, 50, clock) == run(1, 50, clock)
    assert run(1, 50, clock) != run(2, 50, clock)


def test_pods_start_restart_vanish_and_are_replaced(clock):
    said = Counter(line.split()[3] for line in run(1, 300, clock))
    assert set(said) == {"was", "started", "restarted", "vanished"}
    words = {line.rsplit(maxsplit=1)[1] for line in run(1, 300, clock)}
    assert {"created", "replaced", "vanished"} <= words


async def test_a_step_is_seen_in_the_api(admin, backend):
    before = await admin.api("GET", "/api/v1/pods")
    said = await backend.step_churn(10, cluster="a")
    assert all(line.startswith("a: pod ") for line in said)
    after = await admin.api("GET", "/api/v1/pods")
    assert after.json != before.json
    events = (await admin.api("GET", "/api/v1/events")).json["items"]
    assert any(event["message"].startswith("Pod ") for event in events)


async def test_a_replaced_pod_keeps_its_name_and_gets_another_uid(admin, backend):
    """kubernetes.md 4, property 12: another uid under a known name is delete and add."""
    pods = (await admin.api("GET", "/api/v1/pods")).json["items"]
    known = {(pod["metadata"]["namespace"], pod["metadata"]["name"]): pod["metadata"]["uid"] for pod in pods}
    for _ in range(100):
        for line in await backend.step_churn(cluster="a"):
            if line.endswith("was replaced"):
                namespace, name = line.split()[2].split("/")
                pod = (await admin.api("GET", f"/api/v1/namespaces/{namespace}/pods/{name}")).json
                assert pod["metadata"]["uid"] != known.get((namespace, name))
                assert pod["status"]["phase"] == "Pending"
                return
    pytest.fail("no pod was replaced")


async def test_a_scaled_deployment_gets_and_loses_pods(admin, backend):
    path = "/apis/apps/v1/namespaces/demo/deployments/web"
    merge = {"Content-Type": "application/merge-patch+json"}
    for replicas in (6, 1):
        await admin.api("PATCH", path, {"spec": {"replicas": replicas}}, headers=merge)
        await backend.step_churn(cluster="a")
        pods = (await admin.api("GET", "/api/v1/namespaces/demo/pods?labelSelector=app=web")).names
        # The same step may let one of them vanish.
        assert replicas - 1 <= len(pods) <= replicas
        status = (await admin.api("GET", path)).json["status"]
        assert status["replicas"] == len(pods)


async def test_a_deployment_of_a_client_gets_pods_too(admin, backend):
    labels = {"app": "mine"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "m", "image": "mine:1"}]}}
    body = {"metadata": {"name": "mine"}, "spec": {"selector": {"matchLabels": labels}, "template": template}}
    await admin.api("POST", "/apis/apps/v1/namespaces/demo/deployments", body)
    await backend.step_churn(3, cluster="a")
    assert (await admin.api("GET", "/api/v1/namespaces/demo/pods?labelSelector=app=mine")).names


async def test_a_pod_is_not_started_on_a_node_that_is_cordoned(admin, backend):
    merge = {"Content-Type": "application/merge-patch+json"}
    for node in ("control-plane", "worker-1"):
        await admin.api("PATCH", f"/api/v1/nodes/{node}", {"spec": {"unschedulable": True}}, headers=merge)
    body = {"metadata": {"name": "new"}, "spec": {"containers": [{"name": "m", "image": "mine:1"}]}}
    await admin.api("POST", "/api/v1/namespaces/demo/pods", body)
    for _ in range(200):
        said = await backend.step_churn(cluster="a")
        if started := [line for line in said if "demo/new started" in line]:
            assert started == ["a: pod demo/new started on worker-2"]
            return
    pytest.fail("the pod was not started")


async def test_churn_in_an_unknown_cluster_is_refused(backend):
    with pytest.raises(ControlError, match="nowhere"):
        await backend.step_churn(cluster="nowhere")


def test_an_empty_cluster_is_visited(store, clock):
    store.write(NAMESPACES, {"metadata": {"name": "default"}})
    churn = Churn(store, clock=clock, rng=Random(1))
    (created,) = churn.step()
    assert created.startswith("pod default/visitor")
    (started,) = churn.step()
    assert started == "pod default/visitor started on control-plane"
    assert not store.all(NODES)
    assert not store.all(DEPLOYMENTS)
    assert len(store.all(PODS)) == 1


def test_old_events_make_room(store, clock):
    churn = Churn(store, clock=clock, rng=Random(1))
    for _ in range(MAX_EVENTS + 50):
        churn.step()
    assert len(store.all(EVENTS)) == MAX_EVENTS
