"""The reviews in which a user asks the API about himself; every known user may."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from querykit.testing.backend.auth import Role, User
from querykit.testing.backend.documents import is_object
from querykit.testing.backend.manifests import timestamp
from querykit.testing.backend.status import bad_request

__all__ = ["review"]

RULES_PATH = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
SELF_PATH = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
READABLE_PATHS = ["/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/readyz", "/version"]


def review(path: str, body: Mapping[str, Any], user: User, *, now: float) -> dict[str, Any] | None:
    """The answer to a review that was POSTed to this path, or None where no review lives.

    Raises:
        StatusError: 400 for a rules review that names no namespace.
    """
    if path == RULES_PATH:
        return _rules(body, user.role)
    if path == SELF_PATH:
        return _self(user, now)
    return None


def _rules(body: Mapping[str, Any], role: Role) -> dict[str, Any]:
    spec: object = body.get("spec")
    if not is_object(spec) or not spec.get("namespace"):
        raise bad_request("no namespace on request")
    own = {
        "verbs": ["create"],
        "apiGroups": ["authorization.k8s.io"],
        "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
    }
    granted = [{"verbs": role.verbs, "apiGroups": ["*"], "resources": ["*"]}] if role.verbs else []
    return {
        "kind": "SelfSubjectRulesReview",
        "apiVersion": "authorization.k8s.io/v1",
        "metadata": {"creationTimestamp": None},
        "spec": {},
        "status": {
            "resourceRules": [own, *granted],
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": READABLE_PATHS}],
            "incomplete": False,
        },
    }


def _self(user: User, now: float) -> dict[str, Any]:
    return {
        "kind": "SelfSubjectReview",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"creationTimestamp": timestamp(now)},
        "status": {
            "userInfo": {
                "username": user.name,
                "groups": [*user.groups, "system:authenticated"],
            }
        },
    }
