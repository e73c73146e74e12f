"""examples/fastapi_sse.py: pages follow one query, which is polled while somebody looks."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from querykit import QueryClient
from tests.examples.processes import browser, example, free_port, line_with, needed, started

needed("fastapi")
uvicorn = needed("uvicorn")
fastapi_sse: Any = example("fastapi_sse")

EVERY = 0.01


class Pods:
    """What the page shows; it knows how often it was read, and lets the test wait for the next time."""

    def __init__(self) -> None:
        self.names = ["web"]
        self.error: Exception | None = None
        self.reads = 0
        self.is_read = asyncio.Event()

    async def read(self) -> list[str]:
        self.reads += 1
        self.is_read.set()
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return self.names

    async def next_read(self) -> None:
        self.is_read.clear()
        await self.is_read.wait()


class Served:
    """The running example."""

    def __init__(self, client: QueryClient, server: Any, url: str, pods: Pods) -> None:
        self.client = client
        self.server = server
        self.url = url
        self.pods = pods


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    pods, client = Pods(), QueryClient()
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(fastapi_sse.create_app(client, pods.read, EVERY), log_level="error")
    server = fastapi_sse.Server(config, client)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    yield Served(client, server, f"http://127.0.0.1:{listening.getsockname()[1]}", pods)
    server.should_exit = True
    await serving


class Page:
    """An open page: what it is shown."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def shown(self) -> str | None:
        """The next that it is shown, or None when the stream has ended."""
        line = await self.response.content.readline()
        if not line:
            return None
        assert await self.response.content.readline() == b"\n"
        return json.loads(line.removeprefix(b"data: "))


@asynccontextmanager
async def page(served: Served) -> AsyncIterator[Page]:
    async with browser(served.url) as session, session.get("/events") as response:
        assert response.content_type == "text/event-stream"
        opened = Page(response)
        while await opened.shown() == "":  # the first question is not answered yet
            pass
        yield opened
        response.close()


async def nobody_looks(client: QueryClient) -> None:
    """Wait until it is so."""
    unfocused = asyncio.Event()
    with client.focus.subscribe(lambda focused: focused or unfocused.set()):
        if client.focus.is_focused:
            await unfocused.wait()


async def text(session: aiohttp.ClientSession) -> str:
    async with session.get("/") as response:
        return await response.text()


async def test_a_change_is_shown_on_every_page_and_what_is_the_same_is_not_shown_again(served):
    async with page(served) as one, page(served) as other:
        for _ in range(3):
            await served.pods.next_read()
        served.pods.names = ["web", "db"]
        assert await one.shown() == await other.shown() == "<li>web</li><li>db</li>"


async def test_the_pages_share_one_query_and_each_reading_is_one(served):
    async with page(served), page(served), page(served):
        assert len(served.client.cache) == 1
        begun = served.client.stats().fetches
        assert served.pods.reads in (begun, begun - 1)


async def test_what_is_shown_is_text_and_no_html_and_stays_in_its_event(served):
    async with page(served) as shown:
        served.pods.names = ["<script>alert(1)</script>\n\ndata: mine"]
        assert await shown.shown() == "<li>&lt;script&gt;alert(1)&lt;/script&gt;\n\ndata: mine</li>"


async def test_an_error_is_shown_beside_what_was_known(served):
    async with page(served) as shown:
        served.pods.error = ValueError("<no pods>")
        assert await shown.shown() == "<li>web</li><li><em>&lt;no pods&gt;</em></li>"


async def test_it_is_polled_while_somebody_looks_and_not_when_the_last_page_is_closed(served):
    async with browser(served.url) as session:
        assert "EventSource" in await text(session)
        assert not served.client.focus.is_focused
        async with page(served):
            async with page(served):
                await served.pods.next_read()
            await served.pods.next_read()
            assert served.client.focus.is_focused
        await nobody_looks(served.client)
        await text(session)  # what was being read has been read by then
        reads = served.pods.reads
        for _ in range(30):  # which takes longer than some intervals
            await text(session)
        assert served.pods.reads == reads


async def test_who_comes_back_is_shown_at_once_what_was_known_last(served):
    async with page(served):
        pass
    await nobody_looks(served.client)
    served.pods.names = ["new"]
    async with browser(served.url) as session, session.get("/events") as response:
        back = Page(response)
        assert [await back.shown(), await back.shown()] == ["<li>web</li>", "<li>new</li>"]
        response.close()


async def test_to_stop_the_server_ends_the_streams(served):
    async with page(served) as shown:
        served.server.should_exit = True
        assert await shown.shown() is None


async def test_it_runs_and_ends_when_told_with_a_page_open():
    port = free_port()
    async with started("fastapi_sse", str(port)) as process:
        await line_with(process.stderr, "running on")
        async with browser(f"http://127.0.0.1:{port}") as session, session.get("/events") as response:
            shown = Page(response)
            while "web-0" not in (await shown.shown() or ""):
                pass
            process.send_signal(signal.SIGINT)
            while await shown.shown() is not None:
                pass
        assert "Traceback" not in (await process.communicate())[1].decode()
        assert process.returncode == 0
