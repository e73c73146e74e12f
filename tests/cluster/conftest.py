"""A client, the simulated backend, and small servers that answer as a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from querykit import signals
from querykit.client import QueryClient
from querykit.cluster import ClusterClient
from querykit.testing import Backend, BackendSettings

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def reports() -> list[tuple[str, BaseException]]:
    """What the client had to report."""
    return []


@pytest.fixture
async def client(reports) -> AsyncIterator[QueryClient]:
    async def no_sleep(_: float) -> None:
        await asyncio.sleep(0)

    async with QueryClient(report=lambda *told: reports.append(told), sleep=no_sleep) as client:
        yield client


@pytest.fixture
async def backend(stack) -> Backend:
    return await stack.enter_async_context(Backend.start(BackendSettings(clusters=("main", "other"))))


@pytest.fixture
def connect(stack, client):
    """Make a cluster client that is closed after the test."""

    def connect(url: Any, **options: Any) -> ClusterClient:
        cluster = ClusterClient(client, url, **options)
        stack.push_async_callback(cluster.aclose)
        return cluster

    return connect


@pytest.fixture
def cluster(backend, connect) -> ClusterClient:
    return connect(backend.url, current_cluster="main")


@dataclass
class Server:
    """Answers with `handler`, and keeps what came."""

    handler: Handler
    url: str = ""
    requests: list[web.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.bodies.append(await request.read())
        return await self.handler(request)

    def paths(self) -> list[str]:
        return [f"{request.method} {request.raw_path}" for request in self.requests]

    def seen(self, header: str) -> list[str | None]:
        return [request.headers.get(header) for request in self.requests]


@pytest.fixture
async def server(stack) -> Server:
    """A server that answers `{}` until the test gives it another handler."""

    async def empty(request: web.Request) -> web.Response:
        return web.json_response({})

    server = Server(empty)
    app = web.Application(client_max_size=2**24)
    app.router.add_route("*", "/{path:.*}", server.handle)
    running = TestServer(app)
    await running.start_server(access_log=None, max_line_size=2**20, max_field_size=2**20)
    stack.push_async_callback(running.close)
    server.url = str(running.make_url("")).rstrip("/")
    return server


@pytest.fixture
def heard(client) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """The auth signals that the client sent, in order."""
    heard: list[tuple[str, dict[str, Any]]] = []
    with ExitStack() as connected:
        for name in ("token_set", "token_cleared", "logged_out", "reload_requested", "auth_failed"):

            def hear(sender: object, name: str = name, **arguments: Any) -> None:
                heard.append((name, arguments))

            connected.enter_context(getattr(signals, name).connected_to(hear, sender=client))
        yield heard
