"""Who a token stands for in a cluster, and what that user may do there."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import jwt

__all__ = ["Role", "TokenAuthority", "User", "bearer_token"]

READING = frozenset({"get", "list", "watch"})


class Role(StrEnum):
    """What a user may do with the objects of a cluster."""

    ADMIN = "admin"
    """Everything."""
    VIEW = "view"
    """Read."""
    NONE = "none"
    """Nothing: known to the cluster, and refused with 403."""

    def allows(self, verb: str) -> bool:
        """Whether the API verb (`list`, `patch`, …) is granted."""
        return self is Role.ADMIN or (self is Role.VIEW and verb in READING)

    @property
    def verbs(self) -> list[str]:
        """The granted verbs, as a SelfSubjectRulesReview shows them."""
        return {Role.ADMIN: ["*"], Role.VIEW: sorted(READING), Role.NONE: []}[self]


@dataclass(frozen=True, slots=True)
class User:
    """Whom a token authenticates."""

    name: str
    groups: tuple[str, ...]
    role: Role


@dataclass(slots=True)
class _Issued:
    cluster: str
    user: User
    expires_at: float | None


class TokenAuthority:
    """Issues tokens and says whom they authenticate.

    Example:
        >>> tokens = TokenAuthority(clock=lambda: 0.0)
        >>> token = tokens.issue("main", user="ada", role=Role.VIEW, expires_in=60.0)
        >>> tokens.authenticate("main", token).name
        'ada'
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._signing_key = secrets.token_bytes(32)
        self._issued: dict[str, _Issued] = {}

    def issue(
        self,
        cluster: str,
        *,
        user: str = "admin",
        role: Role = Role.ADMIN,
        groups: Sequence[str] = (),
        email: str = "",
        expires_in: float | None = 3600.0,
        opaque: bool = False,
        padding: int = 0,
    ) -> str:
        """Make a token for one cluster: a JWT, or random text when `opaque`.

        `expires_in` is in seconds; None makes a token that does not expire and, as a JWT, has no
        `exp`. `padding` adds about that many characters, for a token that needs several cookies.
        """
        expires_at = None if expires_in is None else self._clock() + expires_in
        if opaque:
            token = secrets.token_urlsafe(32) + "x" * padding
        else:
            claims: dict[str, object] = {
                "iss": "https://issuer.test",
                "sub": user,
                "preferred_username": user,
                "groups": list(groups),
                "jti": secrets.token_hex(8),
            }
            if email:
                claims["email"] = email
            if padding:
                claims["padding"] = "x" * (padding * 3 // 4)
            if expires_at is not None:
                claims["exp"] = int(expires_at)
            # PyJWT names types of cryptography, which is not needed for HS256.
            token = jwt.encode(claims, self._signing_key, algorithm="HS256")  # pyright: ignore[reportUnknownMemberType]
        self._issued[token] = _Issued(cluster, User(user, tuple(groups), role), expires_at)
        return token

    def expire(self, token: str) -> None:
        """Let a token's time be over now. The `exp` inside a JWT stays what it was.

        Raises:
            KeyError: for a token that was not issued here, or is revoked.
        """
        self._issued[token].expires_at = self._clock()

    def revoke(self, token: str) -> None:
        """Forget a token.

        Raises:
            KeyError: for a token that was not issued here, or is revoked already.
        """
        del self._issued[token]

    def authenticate(self, cluster: str, token: str) -> User | None:
        """The user of a token that holds in this cluster, else None."""
        issued = self._issued.get(token)
        if issued is None or issued.cluster != cluster:
            return None
        if issued.expires_at is not None and self._clock() >= issued.expires_at:
            return None
        return issued.user


def bearer_token(authorization: str) -> str:
    """The token of an Authorization header, or the whole value when it names no Bearer scheme."""
    scheme, _, credentials = authorization.strip().partition(" ")
    if scheme.lower() == "bearer" and credentials:
        return credentials.strip()
    return authorization.strip()
