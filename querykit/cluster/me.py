"""Who a cluster's user is: as the backend reads it from the token, or as the cluster says."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypedDict, cast

import msgspec

from querykit.errors import ApiError, InvalidBody

__all__ = ["UserInfo"]

TIMEOUT: Final = 5.0
REVIEWS: Final = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
REVIEW: Final = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}

# `/me` knows only JWTs with an `exp`, and an API server has no `/me`.
_NOT_KNOWN_HERE: Final = (400, 401, 403, 404, 405)
# Older clusters have no such review, or do not let everybody ask.
_NOT_TOLD: Final = (403, 404, 405)


class UserInfo(TypedDict, total=False):
    """A cluster's user."""

    username: str
    uid: str
    email: str
    groups: list[str]
    extra: dict[str, list[str]]
    userInfoURL: str


class _Status(msgspec.Struct):
    userInfo: dict[str, Any]  # noqa: N815 (its name on the wire)


class _Review(msgspec.Struct):
    status: _Status


async def user_info(ask: Callable[..., Awaitable[Any]], cluster: str) -> UserInfo:
    """See `ClusterClient.user_info`; `ask` is its `cluster_request`."""
    try:
        me = await ask("/me", cluster=cluster, timeout=TIMEOUT, auto_logout_on_auth_error=False, type=dict[str, Any])
    except ApiError as error:
        if error.status not in _NOT_KNOWN_HERE and not isinstance(error, InvalidBody):
            raise
    else:
        if me:
            return cast("UserInfo", me)
    try:
        review: _Review | None = await ask(
            REVIEWS, method="POST", json=REVIEW, cluster=cluster, timeout=TIMEOUT, type=_Review
        )
    except ApiError as error:
        if error.status not in _NOT_TOLD:
            raise
        return UserInfo(username=cluster)
    return UserInfo(username=cluster) if review is None else cast("UserInfo", review.status.userInfo)
