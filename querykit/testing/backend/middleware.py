"""Between the wire and the routes: every request is written down, and the plan of faults applied."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware

from querykit.testing.backend import status
from querykit.testing.backend.faults import (
    AddHeaders,
    Cut,
    Delay,
    Drop,
    Due,
    Hold,
    Malformed,
    Respond,
    SlowBody,
)
from querykit.testing.backend.simulation import Simulation

__all__ = ["CONTROL_PREFIX", "Sleep", "meddling"]

CONTROL_PREFIX = "/_control/"
Sleep = Callable[[float], Awaitable[object]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def meddling(simulation: Simulation, *, sleep: Sleep) -> Middleware:
    """The middleware that logs requests and lets faults befall them; control requests excepted."""

    @web.middleware
    async def meddle(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(CONTROL_PREFIX):
            return await handler(request)
        cluster = _cluster_of(request.path, simulation.base)
        record = simulation.log.receive(request.method, request.path, request.query_string, cluster, request.headers)
        faults = simulation.faults.due(request.method, request.path, cluster)
        response = await _answer(request, handler, faults, sleep)
        if response is None:
            return _disconnected(request)
        record.status = response.status
        return await _deliver(request, response, faults, sleep)

    return meddle


async def _answer(request: web.Request, handler: Handler, faults: Sequence[Due], sleep: Sleep) -> web.Response | None:
    """The answer, made by a fault or by the route; None for a connection that is to be closed."""
    if not await _wait(faults, sleep, handled=False):
        return None
    replaced = [answer for due in faults if (answer := _replacement(due)) is not None]
    # No route of this application streams.
    response = replaced[0] if replaced else cast(web.Response, await handler(request))
    return response if await _wait(faults, sleep, handled=True) else None


async def _wait(faults: Sequence[Due], sleep: Sleep, *, handled: bool) -> bool:
    """Wait as long as the faults of this phase say; False when one of them drops the connection."""
    for due in faults:
        match due.rule.effect:
            case Delay(seconds, when) if when is handled:
                await sleep(seconds)
            case Hold(when) if when is handled:
                await due.gate.wait()
            case Drop(when) if when is handled:
                return False
            case _:
                pass
    return True


def _replacement(due: Due) -> web.Response | None:
    match due.rule.effect:
        case Malformed(body):
            return web.Response(body=body.encode(), content_type="application/json")
        case Respond(code, text, retry_after):
            headers = {} if retry_after is None else {"Retry-After": retry_after}
            if text is not None:
                return web.Response(status=code, text=text, headers=headers)
            document = msgspec.json.encode(status.generic(code).document)
            return web.Response(status=code, body=document, content_type="application/json", headers=headers)
        case _:
            return None


async def _deliver(
    request: web.Request, response: web.Response, faults: Sequence[Due], sleep: Sleep
) -> web.StreamResponse:
    """Send the answer as it is, or as the faults want it."""
    effects = [due.rule.effect for due in faults]
    for effect in effects:
        if isinstance(effect, AddHeaders):
            response.headers.extend(effect.headers)
    for effect in effects:
        match effect:
            case SlowBody(size, seconds):
                return await _send_slowly(request, response, size, seconds, sleep)
            case Cut(after, reset):
                sent = await _send_part(request, response, after)
                _disconnect(request, reset=reset)
                return sent
            case _:
                pass
    return response


async def _send_slowly(
    request: web.Request, response: web.Response, size: int, seconds: float, sleep: Sleep
) -> web.StreamResponse:
    stream, body = _stream(response)
    await stream.prepare(request)
    for start in range(0, len(body), size):
        await stream.write(body[start : start + size])
        await sleep(seconds)
    await stream.write_eof()
    return stream


async def _send_part(request: web.Request, response: web.Response, after: int | None) -> web.StreamResponse:
    stream, body = _stream(response)
    # The length that was promised makes the missing part an error to the client.
    stream.content_length = len(body)
    await stream.prepare(request)
    await stream.write(body[: len(body) // 2 if after is None else after])
    return stream


def _stream(response: web.Response) -> tuple[web.StreamResponse, bytes]:
    body = response.body if isinstance(response.body, bytes) else b""
    headers = response.headers.copy()
    headers.popall("Content-Length", None)
    return web.StreamResponse(status=response.status, headers=headers), body


def _disconnected(request: web.Request) -> web.StreamResponse:
    _disconnect(request, reset=False)
    # Nobody is left to read this; aiohttp wants an answer.
    return web.Response(status=499)


def _disconnect(request: web.Request, *, reset: bool) -> None:
    transport = request.transport
    if transport is None:
        return
    if reset:
        # Without lingering, closing sends RST instead of FIN.
        linger = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    cast(asyncio.WriteTransport, transport).abort()


def _cluster_of(path: str, base: str) -> str | None:
    found = re.match(rf"{re.escape(base)}/clusters/([^/]+)/", path)
    return found[1] if found else None
