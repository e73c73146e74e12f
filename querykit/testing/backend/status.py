"""The error documents of the Kubernetes API, with the real server's words.

    StatusError     a request that failed; `document` is the `Status` object that goes on the wire

One function builds each of them, named after its reason.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from querykit.testing.backend.resources import Resource

__all__ = [
    "FieldError",
    "StatusError",
    "already_exists",
    "bad_request",
    "conflict",
    "expired",
    "forbidden",
    "generic",
    "internal_error",
    "invalid",
    "not_found",
    "request_entity_too_large",
    "success",
    "too_large_resource_version",
    "unauthorized",
    "unsupported_media_type",
]

OPTIMISTIC_LOCK = "the object has been modified; please apply your changes to the latest version and try again"

# What the server says when it has nothing better to say: code -> (reason, message).
GENERIC = {
    400: ("BadRequest", "the server rejected our request for an unknown reason"),
    401: ("Unauthorized", "the server has asked for the client to provide credentials"),
    403: ("Forbidden", "unknown"),
    404: ("NotFound", "the server could not find the requested resource"),
    405: ("MethodNotAllowed", "the server does not allow this method on the requested resource"),
    409: ("Conflict", "the server reported a conflict"),
    422: ("Invalid", "the server rejected our request due to an error in our request"),
    429: (
        "TooManyRequests",
        "the server has received too many requests and has asked us to try again later",
    ),
    503: ("ServiceUnavailable", "the server is currently unable to handle the request"),
    504: (
        "Timeout",
        ("the server was unable to return a response in the time allotted, but may still be processing the request"),
    ),
}


class StatusError(Exception):
    """Raised where the API answers with a `Status` failure; `code` is the HTTP status."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: Mapping[str, object] | None = None,
        *,
        metadata: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.document: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": dict(metadata or {}),
            "status": "Failure",
            "message": message,
        }
        if reason:
            self.document["reason"] = reason
        if details is not None:
            self.document["details"] = {k: v for k, v in details.items() if v not in ("", None)}
        self.document["code"] = code


class FieldError:
    """One rejected field of an Invalid object.

    `reason` is the API's word for it (`FieldValueRequired`), `message` the text after the field.
    """

    def __init__(self, field: str, reason: str, message: str) -> None:
        self.field = field
        self.reason = reason
        self.message = message

    @classmethod
    def required(cls, field: str, detail: str = "") -> FieldError:
        """A field that must be there."""
        return cls(field, "FieldValueRequired", _detailed("Required value", detail))

    @classmethod
    def wrong(cls, field: str, value: object, detail: str) -> FieldError:
        """A field whose value the API refuses."""
        return cls(field, "FieldValueInvalid", f"Invalid value: {_quoted(value)}: {detail}")

    @classmethod
    def unsupported(cls, field: str, value: str, supported: Sequence[str]) -> FieldError:
        """A field whose value is none of an enumeration."""
        choices = ", ".join(_quoted(choice) for choice in supported)
        message = f"Unsupported value: {_quoted(value)}: supported values: {choices}"
        return cls(field, "FieldValueNotSupported", message)

    @classmethod
    def forbidden(cls, field: str, detail: str) -> FieldError:
        """A field that may not be set here."""
        return cls(field, "FieldValueForbidden", _detailed("Forbidden", detail))


def not_found(resource: Resource, name: str) -> StatusError:
    """404: there is no such object."""
    return StatusError(404, "NotFound", f"{resource.qualified} {_quoted(name)} not found", _about(resource, name))


def already_exists(resource: Resource, name: str) -> StatusError:
    """409: the name is taken."""
    message = f"{resource.qualified} {_quoted(name)} already exists"
    return StatusError(409, "AlreadyExists", message, _about(resource, name))


def conflict(resource: Resource, name: str, cause: str = OPTIMISTIC_LOCK) -> StatusError:
    """409: the object changed meanwhile, or is not the one the client means."""
    message = f"Operation cannot be fulfilled on {resource.qualified} {_quoted(name)}: {cause}"
    return StatusError(409, "Conflict", message, _about(resource, name))


def invalid(kind: str, name: str, errors: Sequence[FieldError], *, group: str = "") -> StatusError:
    """422: the object, or the options, break a rule; each broken rule is a cause."""
    qualified = f"{kind}.{group}" if group else kind
    texts = [f"{error.field}: {error.message}" for error in errors]
    summary = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    causes = [{"reason": e.reason, "message": e.message, "field": e.field} for e in errors]
    return StatusError(
        422,
        "Invalid",
        f"{qualified} {_quoted(name)} is invalid: {summary}",
        {"name": name, "group": group, "kind": kind, "causes": causes},
    )


def bad_request(message: str) -> StatusError:
    """400: the request cannot be understood."""
    return StatusError(400, "BadRequest", message)


def unauthorized() -> StatusError:
    """401: no credentials, or ones that do not hold."""
    return StatusError(401, "Unauthorized", "Unauthorized")


def forbidden(
    user: str,
    verb: str,
    *,
    path: str = "",
    plural: str = "",
    group: str = "",
    subresource: str = "",
    namespace: str = "",
    name: str = "",
) -> StatusError:
    """403: this user may not do that; `path` is for what is no resource."""
    if not plural:
        message = f"forbidden: User {_quoted(user)} cannot {verb} path {_quoted(path)}"
        return StatusError(403, "Forbidden", message, {})
    where = f"in the namespace {_quoted(namespace)}" if namespace else "at the cluster scope"
    what = f"{plural}/{subresource}" if subresource else plural
    qualified = f"{plural}.{group}" if group else plural
    subject = f"{qualified} {_quoted(name)}" if name else qualified
    message = (
        f"{subject} is forbidden: User {_quoted(user)} cannot {verb} "
        f"resource {_quoted(what)} in API group {_quoted(group)} {where}"
    )
    details = {"name": name, "group": group, "kind": plural}
    return StatusError(403, "Forbidden", message, details)


def protected_namespace(resource: Resource, name: str) -> StatusError:
    """403: one of the namespaces that no one may delete."""
    message = f"{resource.qualified} {_quoted(name)} is forbidden: this namespace may not be deleted"
    return StatusError(403, "Forbidden", message, _about(resource, name))


def expired(message: str, *, continue_token: str = "") -> StatusError:
    """410: the history that was asked for is gone; the token, if any, goes on inconsistently."""
    metadata = {"continue": continue_token} if continue_token else None
    return StatusError(410, "Expired", message, metadata=metadata)


def too_large_resource_version(asked: int, current: int) -> StatusError:
    """504: the client has seen the future."""
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    return StatusError(
        504,
        "Timeout",
        f"Timeout: Too large resource version: {asked}, current: {current}",
        {"causes": [cause], "retryAfterSeconds": 1},
    )


def unsupported_media_type(accepted: Sequence[str]) -> StatusError:
    """415: a body of a type that this verb does not take."""
    message = f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}"
    return StatusError(415, "UnsupportedMediaType", message)


def request_entity_too_large(limit: int) -> StatusError:
    """413: more bytes than the server reads."""
    message = f"Request entity too large: limit is {limit}"
    return StatusError(413, "RequestEntityTooLarge", message)


def internal_error(message: str) -> StatusError:
    """500 without a reason: an error that the server did not expect to report."""
    return StatusError(500, "", message)


def generic(code: int, message: str = "") -> StatusError:
    """A Status with nothing to tell but its code."""
    reason, default = GENERIC.get(
        code,
        (
            "InternalError" if code >= 500 else "Unknown",
            f"the server responded with the status code {code} but did not return more information",
        ),
    )
    return StatusError(code, reason, message or default, {})


def success(resource: Resource, name: str, uid: str) -> dict[str, Any]:
    """The answer to a DELETE of a type that does not return the object."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {**_without_empty(_about(resource, name)), "uid": uid},
    }


def _about(resource: Resource, name: str) -> dict[str, object]:
    return {"name": name, "group": resource.group, "kind": resource.plural}


def _without_empty(details: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in details.items() if value}


def _detailed(text: str, detail: str) -> str:
    return f"{text}: {detail}" if detail else text


def _quoted(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
