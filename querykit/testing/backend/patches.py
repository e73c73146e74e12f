"""The two patch types: RFC 7396 (merge) by hand, RFC 6902 (operations) by the jsonpatch library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jsonpatch

from querykit.testing.backend.documents import is_array, is_object
from querykit.testing.backend.status import bad_request, generic, unsupported_media_type

__all__ = ["JSON_PATCH", "MERGE_PATCH", "merge_patch", "patcher"]

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"


def merge_patch(target: object, patch: object) -> object:
    """Apply a merge patch (RFC 7396) and return the result; `target` is left as it is.

    Example:
        >>> merge_patch({"a": 1, "b": 2}, {"b": None, "c": 3})
        {'a': 1, 'c': 3}
    """
    if not is_object(patch):
        return patch
    result: dict[str, object] = dict(target) if is_object(target) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge_patch(result.get(name), value)
    return result


def patcher(content_type: str, patch: object) -> Callable[[dict[str, Any]], object]:
    """The function that applies a decoded patch body of this media type.

    Raises:
        StatusError: 415 for another media type, 400 for a body that is no such patch. The function
            raises 422 when an operation cannot be applied or a `test` fails.
    """
    if content_type == MERGE_PATCH:
        return lambda target: merge_patch(target, patch)
    if content_type == JSON_PATCH:
        return _operations(patch)
    raise unsupported_media_type((JSON_PATCH, MERGE_PATCH))


def _operations(patch: object) -> Callable[[dict[str, Any]], object]:
    if not is_array(patch):
        raise bad_request("error decoding patch: a JSON patch is a list of operations")
    try:
        operations = jsonpatch.JsonPatch(patch)
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException, TypeError) as error:
        raise bad_request(f"error decoding patch: {error}") from error

    def apply(target: dict[str, Any]) -> object:
        try:
            return operations.apply(target)
        except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
            raise generic(422, str(error)) from error

    return apply
