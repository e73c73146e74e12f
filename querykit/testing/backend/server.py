"""Runs a backend on loopback, in this process or in one of its own."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Self, cast

import aiohttp
import msgspec
from aiohttp import web

from querykit.testing.backend.apiserver import MAX_BODY
from querykit.testing.backend.app import Routes
from querykit.testing.backend.control import Control
from querykit.testing.backend.middleware import Sleep, meddling
from querykit.testing.backend.remote import BackendHandle
from querykit.testing.backend.simulation import BackendSettings, Simulation

__all__ = ["TOKEN_VARIABLE", "Backend", "BackendProcess", "Ready", "arguments", "serve"]

TOKEN_VARIABLE = "HEADLAMP_BACKEND_TOKEN"
# Go's limit for all headers together; the default of aiohttp is less than three cookie chunks.
MAX_HEADER = 1024 * 1024
SHUTDOWN_SECONDS = 0.1


class Ready(msgspec.Struct, frozen=True):
    """What a backend says when it listens."""

    origin: str
    control_key: str


@asynccontextmanager
async def serve(
    settings: BackendSettings,
    *,
    clock: Callable[[], float] = time.time,
    sleep: Sleep = asyncio.sleep,
) -> AsyncGenerator[Ready]:
    """Serve on a free port of 127.0.0.1 until the block ends.

    `clock` gives seconds since the epoch; `sleep` waits for slow faults and between churn steps.
    """
    simulation = Simulation(settings, clock=clock)
    key = secrets.token_urlsafe(32)
    app = web.Application(middlewares=[meddling(simulation, sleep=sleep)], client_max_size=MAX_BODY)
    Control(simulation, key).add_to(app)
    Routes(simulation).add_to(app)
    runner = web.AppRunner(
        app,
        access_log=None,
        max_line_size=MAX_HEADER,
        max_field_size=MAX_HEADER,
        shutdown_timeout=SHUTDOWN_SECONDS,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        async with _churning(simulation, sleep):
            yield Ready(f"http://{host}:{port}", key)
    finally:
        simulation.faults.clear()
        await runner.cleanup()


@asynccontextmanager
async def _churning(simulation: Simulation, sleep: Sleep) -> AsyncGenerator[None]:
    """Let the clusters live, if the settings say so, while the block runs."""
    interval = simulation.settings.churn_interval
    if interval is None:
        yield
        return
    task = asyncio.create_task(_churn(simulation, interval, sleep))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _churn(simulation: Simulation, interval: float, sleep: Sleep) -> None:
    while True:
        await sleep(interval)
        simulation.step_churn()


class Backend(BackendHandle):
    """A backend in this process, on the running loop, over real sockets."""

    @classmethod
    @asynccontextmanager
    async def start(
        cls,
        settings: BackendSettings | None = None,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Sleep = asyncio.sleep,
    ) -> AsyncGenerator[Self]:
        """Run a backend while the block runs.

        Example:
            async with Backend.start(BackendSettings(clusters=("east", "west"))) as backend:
                token = await backend.issue_token("east")
        """
        settings = settings or BackendSettings()
        async with AsyncExitStack() as resources:
            serving = serve(settings, clock=clock, sleep=sleep)
            ready = await resources.enter_async_context(serving)
            session = await resources.enter_async_context(_control_session())
            yield cls(settings, ready.origin, ready.control_key, session, resources.aclose)


class BackendProcess(BackendHandle):
    """A backend in a process of its own, which ends with this one whatever happens."""

    @classmethod
    @asynccontextmanager
    async def start(cls, settings: BackendSettings | None = None) -> AsyncGenerator[Self]:
        """Run a backend in another process while the block runs.

        Example:
            async with BackendProcess.start(BackendSettings(seed=1)) as backend:
                ...

        Raises:
            RuntimeError: when it does not come up; it has told why on stderr.
        """
        settings = settings or BackendSettings()
        async with AsyncExitStack() as resources:
            process, stdout = await resources.enter_async_context(_spawned(settings))
            line = await stdout.readline()
            if not line:
                raise RuntimeError(f"the backend ended with status {await process.wait()}")
            ready = msgspec.json.decode(line, type=Ready)
            session = await resources.enter_async_context(_control_session())
            yield cls(settings, ready.origin, ready.control_key, session, resources.aclose)


def arguments(settings: BackendSettings) -> list[str]:
    """The command line that stands for these settings; the backend token is not in it."""
    defaults = BackendSettings()
    line: list[str] = []
    for name in settings.__struct_fields__:
        value: object = getattr(settings, name)
        if name != "backend_token" and value != getattr(defaults, name):
            text = ",".join(settings.clusters) if name == "clusters" else str(value).lower()
            line.append(f"--{name.replace('_', '-')}={text}")
    return line


@asynccontextmanager
async def _spawned(settings: BackendSettings) -> AsyncGenerator[tuple[Process, asyncio.StreamReader]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "querykit.testing.backend",
        *arguments(settings),
        stdin=PIPE,
        stdout=PIPE,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            TOKEN_VARIABLE: settings.backend_token,
        },
    )
    try:
        yield process, cast("asyncio.StreamReader", process.stdout)
    finally:
        # The end of its stdin is what the process ends by; without input it would stay open.
        await process.communicate(b"")


def _control_session() -> aiohttp.ClientSession:
    # Waiting for requests may take any time; the caller knows when it is too long.
    return aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=None))
