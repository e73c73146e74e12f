"""A page that follows a key of the cache by server-sent events, and polls only while somebody looks.

    pip install fastapi uvicorn
    python examples/fastapi_sse.py        # then open http://localhost:8000, in as many tabs as you like

All pages share one query. An open page is somebody who looks: `client.focus` says whether there is any, and while
there is none the interval rests. The query itself stays observed, so that the first page to come back shows at once
what was known last, and is told of the news when it is there.
"""

import html
import json
import random
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from socket import socket

import uvicorn
from fastapi import FastAPI
from fastapi.responses import HTMLResponse, StreamingResponse

from querykit import QueryClient, QueryObserver, QueryResult, query_options

PAGE = """<!doctype html>
<title>Pods</title>
<ul id="pods"></ul>
<script>
  const source = new EventSource("/events");
  source.onmessage = (event) => { document.getElementById("pods").innerHTML = JSON.parse(event.data); };
</script>
"""


async def read_pods() -> list[str]:
    """Stand in for a request to the system that is shown."""
    return [f"web-{number}: {random.choice(['Running', 'Pending'])}" for number in range(3)]


def event(result: QueryResult[list[str]]) -> str:
    """Return a result as an event: a JSON string is one line, whatever is in the data."""
    items = [f"<li>{html.escape(name)}</li>" for name in result.data or []]
    if result.is_error:
        items.append(f"<li><em>{html.escape(str(result.error))}</em></li>")
    return f"data: {json.dumps(''.join(items))}\n\n"


class Pods:
    """The query, and the pages that follow it."""

    def __init__(self, client: QueryClient, read: Callable[[], Awaitable[list[str]]], every: float) -> None:
        self.client = client
        self.options = query_options(("pods",), read, refetch_interval=every, notify_on=("data", "error"))
        self.pages = 0

    async def events(self) -> AsyncIterator[str]:
        """Yield the present result, and each later one, until the page is closed or the client is."""
        self.look(+1)
        try:
            async with self.client.observe(self.options) as results:
                async for result in results:
                    yield event(result)
        finally:
            self.look(-1)

    def look(self, more: int) -> None:
        """Count a page that comes or goes."""
        self.pages += more
        self.client.focus.set(self.pages > 0)


def create_app(
    client: QueryClient, read: Callable[[], Awaitable[list[str]]] = read_pods, every: float = 1.0
) -> FastAPI:
    """Return the app; `read` is asked each `every` seconds while somebody looks."""
    pods = Pods(client, read, every)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with client:
            client.focus.set(False)  # nobody looks yet
            with QueryObserver(client, pods.options):
                yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/", response_class=HTMLResponse)
    async def page() -> str:
        return PAGE

    @app.get("/events")
    async def events() -> StreamingResponse:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        return StreamingResponse(pods.events(), media_type="text/event-stream", headers=headers)

    return app


class Server(uvicorn.Server):
    """Ends the streams when it is told to end: uvicorn waits for them, and they would wait for news."""

    def __init__(self, config: uvicorn.Config, client: QueryClient) -> None:
        super().__init__(config)
        self._client = client

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        await self._client.aclose()
        await super().shutdown(sockets)


def main(port: int = 8000) -> None:
    """Serve until the process is told to end."""
    client = QueryClient()
    with suppress(KeyboardInterrupt):  # uvicorn passes it on when all has ended
        Server(uvicorn.Config(create_app(client), port=port), client).run()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
