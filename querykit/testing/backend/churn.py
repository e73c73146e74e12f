"""A cluster that lives: what controllers and kubelets would do, one step at a time, from a seed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from random import Random

from querykit.testing.backend.fixtures import (
    NODE_NAMES,
    deployed_pod,
    event,
    pod,
    replica_set_of,
    running_status,
)
from querykit.testing.backend.manifests import Manifest
from querykit.testing.backend.resources import DEPLOYMENTS, EVENTS, NODES, PODS, REPLICASETS
from querykit.testing.backend.selectors import field_value
from querykit.testing.backend.store import Store

__all__ = ["Churn"]

MAX_EVENTS = 200


class Churn:
    """Changes the objects of one store; the same seed and the same writes give the same changes.

    Example:
        >>> clock, rng = (lambda: 0.0), Random(1)
        >>> churn = Churn(Store(clock=clock, rng=rng), clock=clock, rng=rng)
        >>> churn.step()
        ['pod default/visitor was created']
    """

    def __init__(self, store: Store, *, clock: Callable[[], float], rng: Random) -> None:
        self._store = store
        self._clock = clock
        self._rng = rng

    def step(self) -> list[str]:
        """Do one round: deployments get the pods they lack, then one thing happens to a pod.

        Returns a sentence for each change. No I/O, no waiting.
        """
        said = [line for item in self._store.all(DEPLOYMENTS) for line in self._reconcile(item)]
        said += self._happen()
        for item in self._store.all(DEPLOYMENTS):
            self._report(item)
        self._forget_events()
        return said

    def _reconcile(self, deployment: Manifest) -> list[str]:
        """What deployment and replica set controllers do about a wrong number of pods."""
        replica_set = self._replica_set(deployment)
        pods = self._pods_of(replica_set)
        wanted = int(deployment["spec"].get("replicas", 1))
        missing = (
            deployed_pod(self._store, deployment, replica_set, now=self._clock()) for _ in range(wanted - len(pods))
        )
        said = [self._created(new) for new in missing]
        return said + [self._vanish(surplus) for surplus in pods[wanted:]]

    def _happen(self) -> list[str]:
        pods = [item for item in self._store.all(PODS) if self._alive(item)]
        pending = [item for item in pods if item["status"]["phase"] == "Pending"]
        running = [item for item in pods if item["status"]["phase"] == "Running"]
        choices: list[tuple[Callable[[Manifest], str], list[Manifest], int]] = [
            (self._start, pending, 6),
            (self._restart, running, 3),
            (self._vanish, [item for item in running if _is_deployed(item)], 2),
            (self._replace, running, 1),
        ]
        possible = [choice for choice in choices if choice[1]]
        if not possible:
            return [self._created(pod("default", "visitor", "busybox:1.37", now=self._clock()))]
        act, candidates, _ = self._rng.choices(possible, [weight for *_, weight in possible])[0]
        return [act(self._rng.choice(candidates))]

    def _start(self, item: Manifest) -> str:
        changed = copy.deepcopy(item)
        nodes = [node["metadata"]["name"] for node in self._schedulable()] or [NODE_NAMES[0]]
        changed["spec"].setdefault("nodeName", self._rng.choice(nodes))
        changed["status"] = running_status(changed, now=self._clock(), rng=self._rng)
        return self._written(changed, "Started", f"started on {changed['spec']['nodeName']}")

    def _restart(self, item: Manifest) -> str:
        changed = copy.deepcopy(item)
        restarts = changed["status"]["containerStatuses"][0]["restartCount"] + 1
        changed["status"] = running_status(changed, now=self._clock(), rng=self._rng, restarts=restarts)
        return self._written(changed, "BackOff", f"restarted ({restarts})", kind="Warning")

    def _vanish(self, item: Manifest) -> str:
        metadata = item["metadata"]
        self._tell(item, "Killing", "vanished")
        self._store.remove(PODS, metadata["name"], metadata["namespace"])
        return f"pod {metadata['namespace']}/{metadata['name']} vanished"

    def _replace(self, item: Manifest) -> str:
        """The same name comes back as another object: only the uid tells them apart."""
        metadata = item["metadata"]
        twin = copy.deepcopy(item)
        for field in ("uid", "creationTimestamp", "resourceVersion"):
            del twin["metadata"][field]
        twin["status"] = {"phase": "Pending", "qosClass": "Burstable"}
        self._store.remove(PODS, metadata["name"], metadata["namespace"])
        return self._written(twin, "Scheduled", "was replaced")

    def _created(self, new: Manifest) -> str:
        return self._written(new, "Scheduled", "was created")

    def _written(self, changed: Manifest, reason: str, what: str, *, kind: str = "Normal") -> str:
        stored = self._store.write(PODS, changed)
        self._tell(stored, reason, what, kind=kind)
        return f"pod {stored['metadata']['namespace']}/{stored['metadata']['name']} {what}"

    def _tell(self, item: Manifest, reason: str, what: str, *, kind: str = "Normal") -> None:
        message = f"Pod {what}"
        self._store.write(EVENTS, event(self._store, item, reason, message, now=self._clock(), kind=kind))

    def _report(self, deployment: Manifest) -> None:
        pods = self._pods_of(self._replica_set(deployment))
        ready = sum(item["status"]["phase"] == "Running" for item in pods)
        status = {
            **deployment.get("status", {}),
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": len(pods),
            "readyReplicas": ready,
            "availableReplicas": ready,
        }
        if status != deployment.get("status"):
            self._store.write(DEPLOYMENTS, {**deployment, "status": status})

    def _forget_events(self) -> None:
        """Events live for an hour in a real cluster; here the oldest make room."""
        events = self._store.all(EVENTS)
        events.sort(key=lambda item: int(item["metadata"]["resourceVersion"]))
        for item in events[:-MAX_EVENTS]:
            self._store.remove(EVENTS, item["metadata"]["name"], item["metadata"]["namespace"])

    def _replica_set(self, deployment: Manifest) -> Manifest:
        for found in _owned(self._store.all(REPLICASETS), deployment):
            return found
        return self._store.write(REPLICASETS, replica_set_of(deployment, self._rng))

    def _pods_of(self, replica_set: Manifest) -> list[Manifest]:
        return [item for item in _owned(self._store.all(PODS), replica_set) if self._alive(item)]

    def _alive(self, item: Manifest) -> bool:
        return "deletionTimestamp" not in item["metadata"]

    def _schedulable(self) -> list[Manifest]:
        return [node for node in self._store.all(NODES) if not field_value(node, "spec.unschedulable")]


def _owned(items: list[Manifest], owner: Manifest) -> list[Manifest]:
    uid = owner["metadata"]["uid"]
    return [
        item
        for item in items
        if any(reference["uid"] == uid for reference in item["metadata"].get("ownerReferences", ()))
    ]


def _is_deployed(item: Manifest) -> bool:
    return bool(item["metadata"].get("ownerReferences"))
