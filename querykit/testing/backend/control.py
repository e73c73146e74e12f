"""The control endpoints below `/_control/`: what a test may ask of a backend while it runs."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from aiohttp import web

from querykit.testing.backend.auth import Role
from querykit.testing.backend.faults import FaultRule
from querykit.testing.backend.middleware import CONTROL_PREFIX
from querykit.testing.backend.requestlog import RequestFilter, RequestRecord
from querykit.testing.backend.simulation import Simulation

__all__ = ["KEY_HEADER", "Advance", "Control", "IssueToken", "Release", "StepChurn", "TokenName"]

KEY_HEADER = "X-Control-Key"
T = TypeVar("T")


class IssueToken(msgspec.Struct, kw_only=True):
    """Which token is wanted; see `TokenAuthority.issue`."""

    cluster: str
    user: str
    role: Role
    groups: tuple[str, ...]
    email: str
    expires_in: float | None
    opaque: bool
    padding: int


class TokenName(msgspec.Struct):
    """Which token is meant."""

    token: str


class Release(msgspec.Struct):
    """Which fault is to let go; None is every Hold."""

    fault: str | None = None


class StepChurn(msgspec.Struct):
    """How many steps, and where; None is every cluster."""

    steps: int
    cluster: str | None


class Advance(msgspec.Struct):
    """How far the clock is to go ahead."""

    seconds: float


class WaitRequests(msgspec.Struct):
    """How many requests are to come, and which."""

    count: int
    wanted: RequestFilter


class Control:
    """Answers control requests that carry the key: POST with a JSON body, JSON back."""

    def __init__(self, simulation: Simulation, key: str) -> None:
        self._simulation = simulation
        self._key = key
        self._operations: dict[str, Callable[[bytes], Awaitable[object]]] = {
            "issue_token": self._issue_token,
            "expire_token": self._expire_token,
            "revoke_token": self._revoke_token,
            "set_fault": self._set_fault,
            "clear_faults": self._clear_faults,
            "release": self._release,
            "wait_requests": self._wait_requests,
            "reset_requests": self._reset_requests,
            "step_churn": self._step_churn,
            "reload_plugins": self._reload_plugins,
            "advance_clock": self._advance_clock,
        }

    def add_to(self, app: web.Application) -> None:
        """Register the control route; it must come before the routes that take any path."""
        app.router.add_post(f"{CONTROL_PREFIX}{{operation}}", self.handle)

    async def handle(self, request: web.Request) -> web.Response:
        """Carry one operation out; 400 tells what was wrong with it."""
        key = request.headers.get(KEY_HEADER, "")
        if not hmac.compare_digest(key.encode(), self._key.encode()):
            return web.Response(status=403, text="wrong control key")
        operation = self._operations.get(request.match_info["operation"])
        if operation is None:
            return web.Response(status=404, text="no such operation")
        try:
            result = await operation(await request.read())
        except KeyError as error:
            return web.Response(status=400, text=f"unknown name: {error}")
        except ValueError as error:
            return web.Response(status=400, text=str(error))
        return web.Response(body=msgspec.json.encode(result), content_type="application/json")

    async def _issue_token(self, body: bytes) -> str:
        wanted = _decode(body, IssueToken)
        if wanted.cluster not in self._simulation.clusters:
            raise KeyError(wanted.cluster)
        return self._simulation.tokens.issue(**msgspec.structs.asdict(wanted))

    async def _expire_token(self, body: bytes) -> None:
        self._simulation.tokens.expire(_decode(body, TokenName).token)

    async def _revoke_token(self, body: bytes) -> None:
        self._simulation.tokens.revoke(_decode(body, TokenName).token)

    async def _set_fault(self, body: bytes) -> str:
        return self._simulation.faults.add(_decode(body, FaultRule))

    async def _clear_faults(self, _: bytes) -> None:
        self._simulation.faults.clear()

    async def _release(self, body: bytes) -> None:
        self._simulation.faults.release(_decode(body, Release).fault)

    async def _wait_requests(self, body: bytes) -> list[RequestRecord]:
        asked = _decode(body, WaitRequests)
        return await self._simulation.log.wait(asked.count, asked.wanted)

    async def _reset_requests(self, _: bytes) -> None:
        self._simulation.log.reset()

    async def _step_churn(self, body: bytes) -> list[str]:
        asked = _decode(body, StepChurn)
        return self._simulation.step_churn(asked.steps, asked.cluster)

    async def _reload_plugins(self, _: bytes) -> None:
        self._simulation.plugins.change()

    async def _advance_clock(self, body: bytes) -> None:
        self._simulation.advance(_decode(body, Advance).seconds)


def _decode(body: bytes, kind: type[T]) -> T:
    return msgspec.json.decode(body, type=kind)
