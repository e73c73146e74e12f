"""A backend with two clusters, a clock that a test moves, and a plain aiohttp session to ask it with."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import aiohttp
import pytest
from multidict import CIMultiDictProxy

from querykit.testing.backend import Backend, BackendSettings

MIDNIGHT = 1_800_000_000.0


@dataclass
class Clock:
    """Seconds since the epoch, as a test sets them."""

    now: float = MIDNIGHT

    def __call__(self) -> float:
        return self.now


@dataclass
class Reply:
    """An answer whose body was read."""

    status: int
    headers: CIMultiDictProxy[str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def names(self) -> list[str]:
        """The names of the objects of a list."""
        return [item["metadata"]["name"] for item in self.json["items"]]


@dataclass
class Wire:
    """Sends requests as they are told: no cookie jar, no redirects, nothing added."""

    backend: Backend
    session: aiohttp.ClientSession
    token: str = ""
    cluster: str = "a"
    headers: dict[str, str] = field(default_factory=dict)

    async def __call__(
        self, method: str, path: str, body: object = None, *, headers: Any = None, token: str | None = None
    ) -> Reply:
        """A path from the backend's root."""
        token = self.token if token is None else token
        sent = [*({"Authorization": f"Bearer {token}"} if token else {}).items()]
        sent += [*self.headers.items()]
        sent += [*(headers.items() if isinstance(headers, dict) else headers or ())]
        data = body if isinstance(body, bytes | BytesIO | None) else json.dumps(body).encode()
        url = self.backend.url + path
        async with self.session.request(method, url, data=data, headers=sent, allow_redirects=False) as answer:
            return Reply(answer.status, answer.headers, await answer.text())

    async def api(self, method: str, path: str, body: object = None, **options: Any) -> Reply:
        """A path of the cluster's API server."""
        return await self(method, f"/clusters/{self.cluster}{path}", body, **options)

    def as_user(self, token: str, cluster: str = "a") -> Wire:
        return Wire(self.backend, self.session, token, cluster, self.headers)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings() -> BackendSettings:
    return BackendSettings(clusters=("a", "b"), seed=1)


@pytest.fixture
async def backend(settings: BackendSettings, clock: Clock) -> AsyncIterator[Backend]:
    async with Backend.start(settings, clock=clock) as running:
        yield running


@pytest.fixture
async def wire(backend: Backend) -> AsyncIterator[Wire]:
    """Without a token."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield Wire(backend, session)


@pytest.fixture
async def admin(wire: Wire, backend: Backend) -> Wire:
    """With an administrator's token for cluster `a`."""
    return wire.as_user(await backend.issue_token("a", user="root"))


@pytest.fixture
async def viewer(wire: Wire, backend: Backend) -> Wire:
    """With a token for cluster `a` that may only read."""
    return wire.as_user(await backend.issue_token("a", user="vera", role="view"))
