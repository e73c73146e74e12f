"""The objects of one cluster, with the rules of the Kubernetes API: no I/O, and no clock of its own.

Every write gets the next resourceVersion and an entry in a log of bounded age, from which an
earlier state can be read again (the later pages of a list) until the entry is too old.
"""

from __future__ import annotations

import copy
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from querykit.testing.backend import status
from querykit.testing.backend.deletion import DeleteOptions, grace_period, terminating
from querykit.testing.backend.documents import is_object
from querykit.testing.backend.listing import CONTINUE_EXPIRED, Continue, ListOptions, page
from querykit.testing.backend.manifests import (
    Manifest,
    check_types,
    check_valid,
    object_key,
    parse_timestamp,
    timestamp,
)
from querykit.testing.backend.resources import NAMESPACES, RESOURCES, Resource

__all__ = ["Change", "Store"]

FIRST_VERSION = 1000
LIST_EXPIRED = "The resourceVersion for the provided list is too old."
PROTECTED_NAMESPACES = ("default", "kube-system", "kube-public")
SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the log: an object before and after, None where there was or is none."""

    rv: int
    at: float
    resource: Resource
    key: str
    before: Manifest | None
    after: Manifest | None


class Store:
    """The objects of one cluster.

    `clock` gives seconds since the epoch; `rng` makes uids and generated names; a list's snapshot
    can be read for `history_seconds`. What is handed out is shared: copy it before changing it.

    Example:
        >>> store = Store(clock=lambda: 0.0, rng=Random(1))
        >>> store.create(NAMESPACES, {"metadata": {"name": "demo"}})["status"]
        {'phase': 'Active'}
    """

    def __init__(self, *, clock: Callable[[], float], rng: Random, history_seconds: float = 300.0) -> None:
        self._clock = clock
        self._rng = rng
        self._history_seconds = history_seconds
        self._objects: dict[Resource, dict[str, Manifest]] = {row: {} for row in RESOURCES}
        self._log: deque[Change] = deque()
        self._terminating: set[tuple[Resource, str]] = set()
        self._compacted = FIRST_VERSION
        self._version = FIRST_VERSION

    def get(self, resource: Resource, name: str, namespace: str = "") -> Manifest:
        """One object.

        Raises:
            StatusError: 404.
        """
        self._settle()
        found = self._objects[resource].get(object_key(namespace, name))
        if found is None:
            raise status.not_found(resource, name)
        return found

    def list_objects(self, resource: Resource, namespace: str = "", options: ListOptions | None = None) -> Manifest:
        """A list document, of one namespace or of all; its items carry no kind of their own.

        Raises:
            StatusError: 410 for a snapshot that is gone, 504 for one that is yet to come.
        """
        self._settle()
        options = options or ListOptions()
        rv = self._snapshot_version(options)
        prefix = f"{namespace}/" if namespace and resource.namespaced else ""
        snapshot = self._objects_at(resource, rv)
        ordered = ((key, snapshot[key]) for key in sorted(snapshot) if key.startswith(prefix))
        items, metadata = page(ordered, options, rv=rv, now=self._clock())
        untyped = [
            {name: value for name, value in item.items() if name not in ("kind", "apiVersion")} for item in items
        ]
        return {
            "kind": f"{resource.kind}List",
            "apiVersion": resource.api_version,
            "metadata": metadata,
            "items": untyped,
        }

    def create(
        self,
        resource: Resource,
        manifest: Mapping[str, Any],
        namespace: str = "",
        *,
        dry_run: bool = False,
    ) -> Manifest:
        """Add a new object as a client may: named or by `generateName`, its status not taken.

        Raises:
            StatusError: 404 for a missing namespace, 409 AlreadyExists, 422 Invalid, or 400.
        """
        self._settle()
        new = _typed(resource, manifest)
        metadata = new["metadata"]
        _place(resource, metadata, namespace)
        if metadata.get("resourceVersion"):
            raise status.internal_error("resourceVersion should not be set on objects to be created")
        if metadata.get("generateName") and not metadata.get("name"):
            metadata["name"] = self.generate_name(metadata["generateName"])
        check_valid(resource, new)
        if resource.namespaced:
            self.get(NAMESPACES, namespace)
        key = object_key(namespace, metadata["name"])
        if key in self._objects[resource]:
            raise status.already_exists(resource, metadata["name"])
        new.pop("status", None)
        if resource.phase:
            new["status"] = {"phase": resource.phase}
        for field in ("uid", "creationTimestamp", "deletionTimestamp"):
            metadata.pop(field, None)
        self._complete(resource, metadata)
        return new if dry_run else self._put(resource, key, new)

    def replace(
        self,
        resource: Resource,
        name: str,
        manifest: Mapping[str, Any],
        namespace: str = "",
        *,
        dry_run: bool = False,
    ) -> Manifest:
        """Put a whole object in place of the present one; one that changes nothing writes nothing.

        Raises:
            StatusError: 404, 409 Conflict for an old `metadata.resourceVersion` (without one the
                last writer wins), 422 Invalid, or 400 for a name or namespace that is not the path's.
        """
        current = self.get(resource, name, namespace)
        new = _typed(resource, manifest)
        metadata, before = new["metadata"], current["metadata"]
        if metadata.get("name") != name:
            raise status.bad_request(
                f"the name of the object ({metadata.get('name', '')}) does not match the name on the URL ({name})"
            )
        _place(resource, metadata, namespace)
        if metadata.get("resourceVersion") not in (None, "", before["resourceVersion"]):
            raise status.conflict(resource, name)
        if (uid := metadata.get("uid")) not in (None, "", before["uid"]):
            raise status.conflict(
                resource,
                name,
                f"Precondition failed: UID in precondition: {uid}, UID in object meta: {before['uid']}",
            )
        _keep_server_fields(new, current)
        check_valid(resource, new)
        if new == current:
            return current
        if "generation" in metadata and new.get("spec") != current.get("spec"):
            metadata["generation"] += 1
        return new if dry_run else self._put(resource, object_key(namespace, name), new)

    def patch(
        self,
        resource: Resource,
        name: str,
        apply: Callable[[Manifest], object],
        namespace: str = "",
        *,
        dry_run: bool = False,
    ) -> Manifest:
        """Replace an object by what `apply` makes of it; `apply` must leave its argument as it is.

        Raises:
            StatusError: as `replace`, and what `apply` raises.
        """
        patched = apply(self.get(resource, name, namespace))
        if not is_object(patched):
            raise status.generic(422, "the patched object is not a JSON object")
        return self.replace(resource, name, patched, namespace, dry_run=dry_run)

    def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        options: DeleteOptions | None = None,
    ) -> Manifest:
        """Remove an object, or begin to: grace period and finalizers leave it terminating.

        Returns the object or a Success Status, as the type does.

        Raises:
            StatusError: 404, 409 for a precondition that fails, 403 for a protected namespace.
        """
        current = self.get(resource, name, namespace)
        options = options or DeleteOptions()
        options.check(resource, current)
        if resource is NAMESPACES and name in PROTECTED_NAMESPACES:
            raise status.protected_namespace(resource, name)
        grace = grace_period(resource, current, options)
        marked = terminating(resource, current, at=self._clock() + grace, grace=grace)
        if options.dry_run:
            return marked
        key = object_key(namespace, name)
        if grace or current["metadata"].get("finalizers"):
            return self._put(resource, key, marked)
        self._remove(resource, key, orphan=options.propagation_policy == "Orphan")
        if resource.returns_deleted:
            return marked
        return status.success(resource, name, current["metadata"]["uid"])

    def write(self, resource: Resource, manifest: Mapping[str, Any]) -> Manifest:
        """Store an object as a controller does: status included, rules and locks left aside."""
        new = _typed(resource, manifest)
        metadata = new["metadata"]
        self._complete(resource, metadata)
        return self._put(resource, object_key(metadata.get("namespace", ""), metadata["name"]), new)

    def remove(self, resource: Resource, name: str, namespace: str = "") -> None:
        """Take an object away as a controller does, at once."""
        self._remove(resource, object_key(namespace, name))

    def all(self, resource: Resource) -> list[Manifest]:
        """Every object of a type, in the order of a LIST."""
        self._settle()
        objects = self._objects[resource]
        return [objects[key] for key in sorted(objects)]

    def generate_name(self, prefix: str) -> str:
        """A name of at most 63 characters that ends with five random ones."""
        return prefix[:58] + "".join(self._rng.choices(SUFFIX_LETTERS, k=5))

    def _complete(self, resource: Resource, metadata: dict[str, Any]) -> None:
        metadata.setdefault("uid", str(uuid.UUID(int=self._rng.getrandbits(128), version=4)))
        metadata.setdefault("creationTimestamp", timestamp(self._clock()))
        if resource.group == "apps":
            metadata.setdefault("generation", 1)

    def _put(self, resource: Resource, key: str, manifest: Manifest) -> Manifest:
        metadata = manifest["metadata"]
        if metadata.get("deletionTimestamp") and not _waits(metadata, self._clock()):
            self._remove(resource, key)
            return manifest
        if metadata.get("deletionTimestamp"):
            self._terminating.add((resource, key))
        self._record(resource, key, self._objects[resource].get(key), manifest)
        metadata["resourceVersion"] = str(self._version)
        self._objects[resource][key] = manifest
        return manifest

    def _remove(self, resource: Resource, key: str, *, orphan: bool = False) -> None:
        gone = self._objects[resource].pop(key)
        self._terminating.discard((resource, key))
        self._record(resource, key, gone, None)
        if resource is NAMESPACES:
            prefix = f"{gone['metadata']['name']}/"
            self._remove_where(lambda key, _: key.startswith(prefix))
        elif resource.group == "apps" and not orphan:
            owner = gone["metadata"]["uid"]
            self._remove_where(lambda _, item: owner in _owners(item["metadata"]))

    def _remove_where(self, doomed: Callable[[str, Manifest], bool]) -> None:
        for resource, objects in self._objects.items():
            for key in [key for key, item in objects.items() if doomed(key, item)]:
                # Removing an owner may have taken this one along already.
                if key in objects:
                    self._remove(resource, key)

    def _record(self, resource: Resource, key: str, before: Manifest | None, after: Manifest | None) -> None:
        self._version += 1
        self._log.append(Change(self._version, self._clock(), resource, key, before, after))

    def _settle(self) -> None:
        """Catch up with the clock: forget old history, end grace periods that are over."""
        now = self._clock()
        while self._log and now - self._log[0].at >= self._history_seconds:
            self._compacted = self._log.popleft().rv
        for resource, key in sorted(self._terminating, key=lambda entry: entry[1]):
            if not _waits(self._objects[resource][key]["metadata"], now):
                self._remove(resource, key)

    def _snapshot_version(self, options: ListOptions) -> int:
        if token := options.continue_from:
            return self._page_version(token)
        if options.resource_version in ("", "0"):
            return self._version
        asked = int(options.resource_version)
        if asked > self._version:
            raise status.too_large_resource_version(asked, self._version)
        if not options.exact:
            return self._version
        if asked < self._compacted:
            raise status.expired(LIST_EXPIRED)
        return asked

    def _page_version(self, token: Continue) -> int:
        now = self._clock()
        if token.rv == -1:
            return self._version
        # A real cluster never rests, so its tokens die of age even if nothing changes here.
        if token.rv < self._compacted or now - token.at >= self._history_seconds:
            inconsistent = Continue(-1, token.start, now)
            raise status.expired(CONTINUE_EXPIRED, continue_token=inconsistent.encode())
        return token.rv

    def _objects_at(self, resource: Resource, rv: int) -> Mapping[str, Manifest]:
        objects = self._objects[resource]
        if rv == self._version:
            return objects
        earlier = dict(objects)
        for change in _newest_first(self._log, rv):
            if change.resource is not resource:
                continue
            if change.before is None:
                del earlier[change.key]
            else:
                earlier[change.key] = change.before
        return earlier


def _newest_first(log: deque[Change], rv: int) -> Iterator[Change]:
    for change in reversed(log):
        if change.rv <= rv:
            return
        yield change


def _typed(resource: Resource, manifest: Mapping[str, Any]) -> Manifest:
    new = copy.deepcopy(dict(manifest))
    metadata: object = new.get("metadata") or {}
    check_types(resource, metadata)
    return {**new, "kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}


def _place(resource: Resource, metadata: dict[str, Any], namespace: str) -> None:
    expected = namespace if resource.namespaced else ""
    if metadata.get("namespace", expected) not in ("", expected):
        raise status.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    metadata.pop("namespace", None)
    if expected:
        metadata["namespace"] = expected


def _keep_server_fields(new: Manifest, current: Manifest) -> None:
    """What a PUT cannot change: the status, and the metadata that the server alone writes."""
    for field in ("uid", "creationTimestamp", "resourceVersion", "generation", "deletionTimestamp"):
        if field in current["metadata"]:
            new["metadata"][field] = current["metadata"][field]
        else:
            new["metadata"].pop(field, None)
    new.pop("status", None)
    if "status" in current:
        new["status"] = current["status"]


def _waits(metadata: Mapping[str, Any], now: float) -> bool:
    return bool(metadata.get("finalizers")) or parse_timestamp(metadata["deletionTimestamp"]) > now


def _owners(metadata: Mapping[str, Any]) -> list[str]:
    return [reference.get("uid", "") for reference in metadata.get("ownerReferences", ())]
