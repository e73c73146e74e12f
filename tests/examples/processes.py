"""Examples as a user starts them: in a process of their own."""

from __future__ import annotations

import asyncio
import importlib
import os
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import pytest

ROOT = Path(__file__).parents[2]


def needed(module: str) -> Any:
    """A module that an example needs: without it its tests are skipped, and fail where CI is set."""
    if os.environ.get("CI"):
        return importlib.import_module(module)
    return pytest.importorskip(module, reason=f"{module} is not installed: `make test` installs it")


def example(name: str) -> ModuleType:
    return importlib.import_module(f"examples.{name}")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@asynccontextmanager
async def started(name: str, *arguments: str, **environment: str) -> AsyncIterator[Process]:
    """Run an example while the block runs, with all warnings as errors."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-X", "dev", "-W", "error", str(ROOT / "examples" / f"{name}.py"), *arguments),
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line_with(stream: asyncio.StreamReader | None, text: str) -> str:
    """The first line that has `text` in it."""
    assert stream is not None
    said = []
    async for line in stream:
        said.append(line.decode())
        if text in said[-1]:
            return said[-1]
    raise AssertionError(f"the example ended without saying {text!r}: {''.join(said)}")


@asynccontextmanager
async def browser(base_url: str | Any) -> AsyncIterator[aiohttp.ClientSession]:
    """A caller of his own, with his own cookies."""
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(str(base_url), cookie_jar=jar) as session:
        yield session
