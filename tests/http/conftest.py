"""Servers on loopback: an aiohttp one made of one handler, and raw ones that write what they like."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from querykit.http import HttpTransport

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Wire = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def serve(stack):
    """Start a server with one handler for all; returns its URL."""

    async def serve(handler: Handler, ssl: Any = None) -> str:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        server = TestServer(app, scheme="https" if ssl else "http")
        await server.start_server(ssl=ssl, access_log=None)
        stack.push_async_callback(server.close)
        return str(server.make_url("")).rstrip("/")

    return serve


@pytest.fixture
def wire(stack):
    """Start a server that reads a request's head, then does what it is told; returns its URL."""

    async def wire(answer: bytes | Wire) -> str:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            if isinstance(answer, bytes):
                writer.write(answer)
            else:
                await answer(reader, writer)
            writer.close()

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        stack.callback(server.close)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    return wire


@pytest.fixture
def connect(stack):
    """Make a transport that is closed after the test."""

    def connect(url: str, **options: Any) -> HttpTransport:
        transport = HttpTransport(url, **options)
        stack.push_async_callback(transport.aclose)
        return transport

    return connect


@pytest.fixture
def reach(serve, connect):
    """Start a server with one handler and make a transport to it."""

    async def reach(handler: Handler, **options: Any) -> HttpTransport:
        return connect(await serve(handler), **options)

    return reach


@pytest.fixture
def told(reach):
    """Make a transport to a server that gives the same answer to all; each time a new one of these."""

    async def told(**answer: Any) -> HttpTransport:
        async def handler(request: web.Request) -> web.Response:
            return web.Response(**answer)

        return await reach(handler)

    return told
