"""The control API as a test sees it: the same for a backend in this process and in another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import aiohttp
import msgspec

from querykit.testing.backend.auth import Role
from querykit.testing.backend.control import (
    KEY_HEADER,
    Advance,
    IssueToken,
    Release,
    StepChurn,
    TokenName,
    WaitRequests,
)
from querykit.testing.backend.faults import Effect
from querykit.testing.backend.kubeconfigs import encode_kubeconfig
from querykit.testing.backend.middleware import CONTROL_PREFIX
from querykit.testing.backend.requestlog import RequestFilter, RequestRecord
from querykit.testing.backend.simulation import BackendSettings, server_url

__all__ = ["BackendHandle", "ControlError"]

T = TypeVar("T")


class ControlError(RuntimeError):
    """Raised when the backend refuses a control operation; the message says why."""


class BackendHandle:
    """A running backend: where it is, and what a test may do with it.

    `url` has no slash at its end and includes the base URL. Closing it ends the backend.
    """

    def __init__(
        self,
        settings: BackendSettings,
        origin: str,
        key: str,
        session: aiohttp.ClientSession,
        close: Callable[[], Awaitable[None]],
    ) -> None:
        self.settings = settings
        self.url = origin + f"/{settings.base_url.strip('/')}".rstrip("/")
        self._control = origin + CONTROL_PREFIX
        self._key = key
        self._session = session
        self._close = close

    def cluster_url(self, cluster: str) -> str:
        """Where a cluster's API is: `cluster_url("main") + "/api/v1/pods"`."""
        return f"{self.url}/clusters/{cluster}"

    def kubeconfig(self, cluster: str, token: str, *, name: str | None = None) -> str:
        """A KUBECONFIG header for a stateless cluster called `name` that is served by `cluster`."""
        return encode_kubeconfig(name or cluster, server_url(cluster), token)

    async def issue_token(
        self,
        cluster: str,
        *,
        user: str = "admin",
        role: Role | str = Role.ADMIN,
        groups: Sequence[str] = (),
        email: str = "",
        expires_in: float | None = 3600.0,
        opaque: bool = False,
        padding: int = 0,
    ) -> str:
        """Make a token for one cluster.

        Example:
            token = await backend.issue_token("main", user="ada", role="view", expires_in=60.0)

        A JWT, or random text when `opaque`. `expires_in` is in seconds; None makes a token that
        does not expire (and a JWT without `exp`, which /me refuses). `padding` adds about that many
        characters.

        Raises:
            ControlError: for an unknown cluster or role.
        """
        wanted = IssueToken(
            cluster=cluster,
            user=user,
            role=_role(role),
            groups=tuple(groups),
            email=email,
            expires_in=expires_in,
            opaque=opaque,
            padding=padding,
        )
        return await self._call("issue_token", wanted, str)

    async def expire_token(self, token: str) -> None:
        """Let a token's time be over for the cluster. /me goes by the `exp` inside the JWT.

        Raises:
            ControlError: for a token that is not in force.
        """
        await self._call("expire_token", TokenName(token), type(None))

    async def revoke_token(self, token: str) -> None:
        """Let the cluster forget a token.

        Raises:
            ControlError: for a token that is not in force.
        """
        await self._call("revoke_token", TokenName(token), type(None))

    async def set_fault(
        self,
        effect: Effect,
        *,
        method: str | None = None,
        path: str | None = None,
        cluster: str | None = None,
        times: int | None = None,
        after: int = 0,
    ) -> str:
        """Let requests go wrong; returns the fault's name, for `release`.

        Example:
            await backend.set_fault(Respond(503, retry_after="1"), path=r"/pods$", times=2)

        `path` is a regular expression, searched for in the path. The first `after` matching
        requests are let through, then `times` are befallen (all of them, if None).

        Raises:
            ControlError: for a `path` that is no regular expression.
        """
        asked = {
            "effect": effect,
            "method": method,
            "path": path,
            "cluster": cluster,
            "times": times,
            "after": after,
        }
        return await self._call("set_fault", asked, str)

    async def clear_faults(self) -> None:
        """Take all faults out of force; whom they hold is let go."""
        await self._call("clear_faults", None, type(None))

    async def release(self, fault: str | None = None) -> None:
        """Let the requests go that a Hold keeps, and take it out of force; None is every Hold.

        Raises:
            ControlError: when no fault in force has this name.
        """
        await self._call("release", Release(fault), type(None))

    async def requests(
        self, *, method: str | None = None, path: str | None = None, cluster: str | None = None
    ) -> list[RequestRecord]:
        """The requests that came in since the start or the last reset, in their order."""
        return await self.wait_requests(0, method=method, path=path, cluster=cluster)

    async def wait_requests(
        self,
        count: int,
        *,
        method: str | None = None,
        path: str | None = None,
        cluster: str | None = None,
    ) -> list[RequestRecord]:
        """As `requests`, but not before `count` of them have come (answered or not)."""
        asked = WaitRequests(count, RequestFilter(method, path, cluster))
        return await self._call("wait_requests", asked, list[RequestRecord])

    async def reset_requests(self) -> None:
        """Forget the requests so far."""
        await self._call("reset_requests", None, type(None))

    async def step_churn(self, steps: int = 1, *, cluster: str | None = None) -> list[str]:
        """Let the objects of one cluster, or of all, change; returns a sentence for each change.

        Raises:
            ControlError: for an unknown cluster.
        """
        return await self._call("step_churn", StepChurn(steps, cluster), list[str])

    async def reload_plugins(self) -> None:
        """Change a plugin: the next cluster answer says `X-Reload`, if the plugins were listed."""
        await self._call("reload_plugins", None, type(None))

    async def advance_clock(self, seconds: float) -> None:
        """Let time pass for tokens, history and grace periods; nothing waits."""
        await self._call("advance_clock", Advance(seconds), type(None))

    async def aclose(self) -> None:
        """End the backend; a second call does nothing."""
        await self._close()

    async def _call(self, operation: str, asked: object, kind: type[T]) -> T:
        body = msgspec.json.encode(asked)
        headers = {KEY_HEADER: self._key}
        url = self._control + operation
        async with self._session.post(url, data=body, headers=headers) as response:
            answer = await response.read()
        if response.status != 200:
            raise ControlError(f"{operation}: {answer.decode()}")
        return msgspec.json.decode(answer, type=kind)


def _role(role: Role | str) -> Role:
    try:
        return Role(role)
    except ValueError as error:
        raise ControlError(f"issue_token: {error}") from error
