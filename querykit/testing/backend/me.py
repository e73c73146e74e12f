"""`GET /clusters/{c}/me`: what the backend itself reads from a token, without asking the cluster.

It knows nothing of signatures and revocation: an opaque token, or a JWT without `exp`, is refused
here although the cluster takes it.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

from querykit.testing.backend.documents import is_array

__all__ = ["me"]

USERNAME_CLAIMS = ("preferred_username", "upn", "username", "name")


def me(token: str, *, now: float) -> tuple[int, dict[str, Any]]:
    """The HTTP status and the document for a token; `now` is in seconds since the epoch.

    Example:
        >>> me("", now=0.0)
        (401, {'message': 'unauthorized'})
    """
    if not token or not all("\x21" <= char <= "\x7e" for char in token):
        return 401, {"message": "unauthorized"}
    parts = token.split(".", 2)
    if len(parts) != 3 or not parts[1]:
        return 401, {"message": "invalid token"}
    try:
        padded = parts[1] + "=" * (-len(parts[1]) % 4)
        claims = msgspec.json.decode(base64.urlsafe_b64decode(padded), type=dict[str, Any])
    except (binascii.Error, ValueError):
        return 401, {"message": "invalid token claims"}
    expiry = claims.get("exp")
    if not isinstance(expiry, (int, float)) or now > int(expiry):
        return 401, {"message": "token expired"}
    return 200, {
        "username": _first_text(claims, USERNAME_CLAIMS),
        "email": _first_text(claims, ("email",)),
        "groups": _groups(claims),
        "userInfoURL": "",
    }


def _first_text(claims: dict[str, Any], names: tuple[str, ...]) -> str:
    values = (claims.get(name) for name in names)
    return next((value for value in values if isinstance(value, str) and value), "")


def _groups(claims: dict[str, Any]) -> list[str]:
    groups: object = claims.get("groups")
    return [str(group) for group in groups] if is_array(groups) else []
