"""Objects of a small, believable cluster: what a store is filled with, and what churn makes more of."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from querykit.testing.backend.manifests import Manifest, timestamp
from querykit.testing.backend.resources import (
    DEPLOYMENTS,
    EVENTS,
    NAMESPACES,
    NODES,
    PODS,
    REPLICASETS,
)
from querykit.testing.backend.store import Store

__all__ = ["NODE_NAMES", "deployed_pod", "event", "fill", "pod", "replica_set_of", "running_status"]

NODE_NAMES = ("control-plane", "worker-1", "worker-2")
DEPLOYED = (
    # namespace, name, image, replicas
    ("default", "echo", "registry.example/echo:1.4", 2),
    ("demo", "api", "registry.example/shop-api:2.11.0", 4),
    ("demo", "web", "registry.example/shop-web:5.0.3", 3),
    ("demo", "worker", "registry.example/shop-worker:2.11.0", 3),
    ("kube-system", "coredns", "registry.k8s.io/coredns/coredns:v1.12.1", 2),
)
DAY = 86_400.0


def fill(store: Store, *, now: float, rng: Random) -> None:
    """Put namespaces, nodes, deployments, about 20 pods and their events into an empty store."""
    born = now - 30 * DAY
    for name in ("default", "demo", "kube-system"):
        store.write(NAMESPACES, _namespace(name, born))
    for number, name in enumerate(NODE_NAMES):
        store.write(NODES, _node(name, f"10.0.0.{number + 10}", born))
    for namespace, name, image, replicas in DEPLOYED:
        deployment = store.write(DEPLOYMENTS, _deployment(namespace, name, image, replicas, born))
        replica_set = store.write(REPLICASETS, replica_set_of(deployment, rng))
        for _ in range(replicas):
            started = now - rng.uniform(60, 3 * DAY)
            new = deployed_pod(store, deployment, replica_set, now=started)
            new["spec"]["nodeName"] = rng.choice(NODE_NAMES[1:])
            new["status"] = running_status(new, now=started, rng=rng)
            stored = store.write(PODS, new)
            store.write(EVENTS, event(store, stored, "Started", "Started container", now=started))
    for node in NODE_NAMES:
        store.write(PODS, _node_agent(node, born, rng))
    store.write(PODS, _finished(now - DAY))
    store.write(PODS, _crashing(now - 600, rng))


def pod(namespace: str, name: str, image: str, *, now: float, labels: dict[str, str] | None = None) -> Manifest:
    """A pod that nobody has scheduled yet, with one container."""
    container = image.rpartition("/")[2].partition(":")[0]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "creationTimestamp": timestamp(now),
            "labels": labels or {"run": name},
        },
        "spec": {
            "containers": [
                {
                    "name": container,
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
                }
            ],
            "dnsPolicy": "ClusterFirst",
            "restartPolicy": "Always",
            "schedulerName": "default-scheduler",
            "serviceAccountName": "default",
            "terminationGracePeriodSeconds": 30,
        },
        "status": {"phase": "Pending", "qosClass": "Burstable"},
    }


def deployed_pod(store: Store, deployment: Manifest, replica_set: Manifest, *, now: float) -> Manifest:
    """The next pod of a deployment, made by its replica set and still Pending."""
    metadata = replica_set["metadata"]
    new = pod(
        metadata["namespace"],
        store.generate_name(f"{metadata['name']}-"),
        deployment["spec"]["template"]["spec"]["containers"][0]["image"],
        now=now,
        labels=dict(metadata["labels"]),
    )
    new["metadata"]["generateName"] = f"{metadata['name']}-"
    new["metadata"]["ownerReferences"] = [owner_reference(replica_set)]
    return new


def running_status(manifest: Manifest, *, now: float, rng: Random, restarts: int = 0) -> dict[str, Any]:
    """The status of a pod whose container runs since `now`."""
    address = manifest.get("status", {}).get("podIP") or f"10.244.{rng.randrange(4)}.{_host(rng)}"
    status = _status("Running", [_container(manifest, restarts, _running(now))], now, ready=True)
    return {**status, "podIP": address, "podIPs": [{"ip": address}]}


def event(
    store: Store,
    about: Manifest,
    reason: str,
    message: str,
    *,
    now: float,
    kind: str = "Normal",
) -> Manifest:
    """An event about a pod, as the kubelet of its node reports it."""
    metadata = about["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": store.generate_name(f"{metadata['name'][:50]}."),
            "namespace": metadata["namespace"],
            "creationTimestamp": timestamp(now),
        },
        "involvedObject": {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "resourceVersion": metadata["resourceVersion"],
            "uid": metadata["uid"],
        },
        "reason": reason,
        "message": message,
        "type": kind,
        "count": 1,
        "eventTime": None,
        "firstTimestamp": timestamp(now),
        "lastTimestamp": timestamp(now),
        "reportingComponent": "kubelet",
        "reportingInstance": about["spec"].get("nodeName", ""),
        "source": {"component": "kubelet", "host": about["spec"].get("nodeName", "")},
    }


def owner_reference(owner: Manifest) -> dict[str, Any]:
    """The link from an object to the one that controls it."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _namespace(name: str, born: float) -> Manifest:
    return {
        "metadata": {
            "name": name,
            "creationTimestamp": timestamp(born),
            "labels": {"kubernetes.io/metadata.name": name},
        },
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }


def _node(name: str, address: str, born: float) -> Manifest:
    size = {"cpu": "4", "memory": "8165556Ki", "pods": "110", "ephemeral-storage": "61255492Ki"}
    return {
        "metadata": {
            "name": name,
            "creationTimestamp": timestamp(born),
            "labels": {
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
            },
        },
        "spec": {"podCIDR": "10.244.0.0/24", "providerID": f"kind://docker/sim/{name}"},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": address},
                {"type": "Hostname", "address": name},
            ],
            "allocatable": dict(size),
            "capacity": dict(size),
            "conditions": [
                _condition("MemoryPressure", born, value="False"),
                _condition("DiskPressure", born, value="False"),
                _condition("Ready", born),
            ],
            "nodeInfo": {
                "architecture": "amd64",
                "containerRuntimeVersion": "containerd://2.1.4",
                "kubeletVersion": "v1.34.1",
                "operatingSystem": "linux",
                "osImage": "Debian GNU/Linux 12 (bookworm)",
            },
        },
    }


def _deployment(namespace: str, name: str, image: str, replicas: int, born: float) -> Manifest:
    labels = {"app": name}
    counts = dict.fromkeys(("availableReplicas", "readyReplicas", "replicas", "updatedReplicas"), replicas)
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "creationTimestamp": timestamp(born),
            "labels": labels,
            "annotations": {"deployment.kubernetes.io/revision": "1"},
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"},
            },
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": name, "image": image}]},
            },
        },
        "status": {
            **counts,
            "observedGeneration": 1,
            "conditions": [_condition("Available", born), _condition("Progressing", born)],
        },
    }


def replica_set_of(deployment: Manifest, rng: Random) -> Manifest:
    """The replica set that a deployment controller makes for the deployment's template."""
    metadata, spec = deployment["metadata"], deployment["spec"]
    digest = f"{rng.getrandbits(32):08x}"
    chosen = spec["template"].get("metadata", {}).get("labels", {})
    labels = {**chosen, "pod-template-hash": digest}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{metadata['name']}-{digest}",
            "namespace": metadata["namespace"],
            "creationTimestamp": metadata["creationTimestamp"],
            "labels": labels,
            "ownerReferences": [owner_reference(deployment)],
        },
        "spec": {
            "replicas": spec.get("replicas", 1),
            "selector": {"matchLabels": labels},
            "template": spec["template"],
        },
        "status": {"replicas": spec.get("replicas", 1)},
    }


def _node_agent(node: str, born: float, rng: Random) -> Manifest:
    agent = pod(
        "kube-system",
        f"kube-proxy-{node}",
        "registry.k8s.io/kube-proxy:v1.34.1",
        now=born,
        labels={"k8s-app": "kube-proxy"},
    )
    agent["spec"]["nodeName"] = node
    agent["status"] = running_status(agent, now=born, rng=rng)
    return agent


def _finished(now: float) -> Manifest:
    job = pod("demo", "migrate-schema", "registry.example/shop-api:2.11.0", now=now)
    job["spec"].update(nodeName=NODE_NAMES[1], restartPolicy="Never")
    ended = {
        "terminated": {
            "exitCode": 0,
            "reason": "Completed",
            "startedAt": timestamp(now),
            "finishedAt": timestamp(now + 40),
        }
    }
    job["status"] = _status("Succeeded", [_container(job, 0, ended)], now, ready=False)
    return job


def _crashing(now: float, rng: Random) -> Manifest:
    broken = pod("demo", "importer", "registry.example/shop-importer:0.3", now=now)
    broken["spec"]["nodeName"] = NODE_NAMES[2]
    waiting = {
        "waiting": {
            "reason": "CrashLoopBackOff",
            "message": "back-off 5m0s restarting failed container",
        }
    }
    containers = [_container(broken, rng.randrange(5, 15), waiting)]
    broken["status"] = _status("Running", containers, now, ready=False)
    return broken


def _status(phase: str, containers: Sequence[dict[str, Any]], now: float, *, ready: bool) -> dict[str, Any]:
    return {
        "phase": phase,
        "qosClass": "Burstable",
        "startTime": timestamp(now),
        "conditions": [
            _condition("PodScheduled", now),
            _condition("Ready", now, value=str(ready)),
        ],
        "containerStatuses": [*containers],
    }


def _container(manifest: Manifest, restarts: int, state: dict[str, Any]) -> dict[str, Any]:
    container = manifest["spec"]["containers"][0]
    return {
        "name": container["name"],
        "image": container["image"],
        "ready": "running" in state,
        "started": "running" in state,
        "restartCount": restarts,
        "lastState": {},
        "state": state,
    }


def _running(now: float) -> dict[str, Any]:
    return {"running": {"startedAt": timestamp(now)}}


def _condition(kind: str, now: float, *, value: str = "True") -> dict[str, Any]:
    return {"type": kind, "status": value, "lastTransitionTime": timestamp(now)}


def _host(rng: Random) -> int:
    return rng.randrange(2, 254)
