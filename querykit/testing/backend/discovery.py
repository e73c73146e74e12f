"""What an API server says about itself: its version, its groups and the types in them."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from querykit.testing.backend.resources import RESOURCES, Resource

__all__ = ["AGGREGATED_TYPE", "VERSION", "aggregated", "document", "etag"]

AGGREGATED_TYPE = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
VERBS = ["create", "delete", "get", "list", "patch", "update"]
VERSION = {
    "major": "1",
    "minor": "34",
    "gitVersion": "v1.34.1",
    "gitTreeState": "clean",
    "compiler": "gc",
    "platform": "linux/amd64",
}


def document(path: str) -> dict[str, Any] | None:
    """The discovery document at a path, e.g. `/apis/apps/v1`, or None where there is none."""
    match path.strip("/").split("/"):
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"]}
        case ["apis"]:
            groups = [_group(name) for name in _group_names()]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        case ["apis", group] if group in _group_names():
            return {"kind": "APIGroup", "apiVersion": "v1", **_group(group)}
        case ["api", "v1"]:
            return _resource_list("")
        case ["apis", group, "v1"] if group in _group_names():
            return _resource_list(group)
        case _:
            return None


def aggregated(path: str) -> dict[str, Any] | None:
    """Everything below `/api` or `/apis` in one document, or None for another path."""
    names = {"/api": [""], "/apis": _group_names()}.get(path.rstrip("/"))
    if names is None:
        return None
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": [
            {
                "metadata": {"name": name} if name else {},
                "versions": [
                    {
                        "version": "v1",
                        "freshness": "Current",
                        "resources": [_discovered(row) for row in _rows(name)],
                    }
                ],
            }
            for name in names
        ],
    }


def etag(described: dict[str, Any]) -> str:
    """The ETag of an aggregated document, quotes included."""
    return f'"{hashlib.sha512(msgspec.json.encode(described)).hexdigest().upper()}"'


def _rows(group: str) -> list[Resource]:
    return [row for row in RESOURCES if row.group == group]


def _group_names() -> list[str]:
    return sorted({row.group for row in RESOURCES if row.group})


def _group(name: str) -> dict[str, Any]:
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [version], "preferredVersion": version}


def _resource_list(group: str) -> dict[str, Any]:
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/v1" if group else "v1",
        "resources": [
            {
                "name": row.plural,
                "singularName": row.kind.lower(),
                "namespaced": row.namespaced,
                "kind": row.kind,
                "verbs": VERBS,
                "shortNames": list(row.short_names),
            }
            for row in _rows(group)
        ],
    }


def _discovered(row: Resource) -> dict[str, Any]:
    return {
        "resource": row.plural,
        "responseKind": {"group": row.group, "version": row.version, "kind": row.kind},
        "scope": "Namespaced" if row.namespaced else "Cluster",
        "singularResource": row.kind.lower(),
        "verbs": VERBS,
        "shortNames": list(row.short_names),
    }
