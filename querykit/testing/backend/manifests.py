"""Objects as the API holds them: plain dicts, their times, and the rules they must keep."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from types import NoneType
from typing import Any, TypeAlias

from querykit.testing.backend.documents import is_object
from querykit.testing.backend.resources import NAMESPACES, Resource
from querykit.testing.backend.selectors import field_value
from querykit.testing.backend.status import FieldError, bad_request, invalid

__all__ = ["Manifest", "check_types", "check_valid", "object_key", "parse_timestamp", "timestamp"]

Manifest: TypeAlias = dict[str, Any]
"""One object, as decoded JSON. What a store hands out is shared: copy it before changing it."""

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_METADATA_TYPES = {
    "name": str,
    "generateName": str,
    "namespace": str,
    "resourceVersion": str,
    "labels": dict,
    "annotations": dict,
    "finalizers": list,
    "ownerReferences": list,
}
_LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
    "and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', "
    f"regex used for validation is '{_LABEL}')"
)
_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' "
    "or '.', and must start and end with an alphanumeric character (e.g. 'example.com', "
    f"regex used for validation is '{_SUBDOMAIN}')"
)


def timestamp(seconds: float) -> str:
    """A time as the API writes it: `timestamp(0)` is `1970-01-01T00:00:00Z`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_timestamp(text: str) -> float:
    """The seconds since the epoch of what `timestamp` wrote."""
    return datetime.fromisoformat(text).timestamp()


def object_key(namespace: str, name: str) -> str:
    """Where an object stands in its type's order, the order of etcd's keys."""
    return f"{namespace}/{name}" if namespace else name


def check_valid(resource: Resource, manifest: Mapping[str, Any]) -> None:
    """Hold an object against the rules of its type.

    Raises:
        StatusError: 422, with a cause for each field that breaks a rule.
    """
    errors = [*_name_errors(resource, manifest["metadata"])]
    errors += [FieldError.required(path) for path in resource.required if field_value(manifest, path) in (None, [], {})]
    if errors:
        name = manifest["metadata"].get("name") or ""
        raise invalid(resource.kind, name, errors, group=resource.group)


def check_types(resource: Resource, metadata: object) -> None:
    """Refuse metadata whose fields are not of the API's types.

    Raises:
        StatusError: 400.
    """
    if not is_object(metadata):
        raise bad_request(f"{resource.kind}.metadata: expected an object")
    for field, expected in _METADATA_TYPES.items():
        if not isinstance(metadata.get(field), (expected, NoneType)):
            raise bad_request(f"{resource.kind}.metadata.{field}: expected {expected.__name__}")


def _name_errors(resource: Resource, metadata: Mapping[str, Any]) -> list[FieldError]:
    name = metadata.get("name")
    if not name:
        return [FieldError.required("metadata.name", "name or generateName is required")]
    pattern, rule = (_LABEL, _LABEL_RULE) if resource is NAMESPACES else (_SUBDOMAIN, _SUBDOMAIN_RULE)
    if re.fullmatch(pattern, str(name)):
        return []
    return [FieldError.wrong("metadata.name", name, rule)]
