"""A live account of what a client does: requests on the wire, changes of the cache, signals."""

import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

import aiohttp
from rich.console import Console
from rich.table import Table

from querykit.cache import CacheEvent
from querykit.client import QueryClient
from querykit.entry import Cause
from querykit.signals import auth_failed, logged_out, reload_requested, token_cleared, token_set

__all__ = ["Account"]

_STYLES = {"wire": "cyan", "cache": "green", "signal": "magenta", "demo": "bold"}

_TOLD = {
    Cause.FETCH: "fetching",
    Cause.SUCCESS: "fresh",
    Cause.ERROR: "failed",
    Cause.SET: "written",
    Cause.INVALIDATE: "out of date",
    Cause.REMOVE: "removed",
    Cause.FORGET: "forgotten",
}

_HEARD = {
    "token_set": token_set,
    "token_cleared": token_cleared,
    "logged_out": logged_out,
    "reload_requested": reload_requested,
    "auth_failed": auth_failed,
}


class Account:
    """Prints what happens, counts it, and remembers whether what was claimed held.

    Attributes:
        requests: how many requests were answered, or failed, on the wire.
        holds: whether every claim so far has held.
    """

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.requests = 0
        self.signals = 0
        self.holds = True
        self._console = console
        self._clock = clock
        self._began = clock()

    def chapter(self, title: str) -> None:
        """Begin a part of the story."""
        self._console.print()
        self._console.print(f"[bold]{title}[/bold]")

    def tell(self, what: str, text: str) -> None:
        """Print a line."""
        style = _STYLES[what]
        self._console.print(f"{self._clock() - self._began:7.3f} s  [{style}]{what:<6}[/{style}]  ", end="")
        self._console.print(text, markup=False)

    def claim(self, text: str, *, holds: bool) -> None:
        """Say what should be so, and whether it is."""
        self.holds = self.holds and holds
        mark = "[green]✓[/green]" if holds else "[bold red]✗[/bold red]"
        self._console.print(f"           {mark}       {text}")

    def trace(self) -> aiohttp.TraceConfig:
        """Return what makes an aiohttp session tell this account of its requests."""
        config = aiohttp.TraceConfig()

        async def ended(_session: object, _context: SimpleNamespace, params: aiohttp.TraceRequestEndParams) -> None:
            self._on_wire(params.method, params.url.path, str(params.response.status))

        async def failed(
            _session: object, _context: SimpleNamespace, params: aiohttp.TraceRequestExceptionParams
        ) -> None:
            self._on_wire(params.method, params.url.path, type(params.exception).__name__)

        config.on_request_end.append(ended)
        config.on_request_exception.append(failed)
        return config

    def _on_wire(self, method: str, path: str, answer: str) -> None:
        self.requests += 1
        self.tell("wire", f"{method} {path} → {answer}")

    @contextmanager
    def listening(self, client: QueryClient) -> Generator[None]:
        """Tell of what happens in `client` while the block runs."""
        with ExitStack() as stack:
            stack.enter_context(client.cache.subscribe(self._on_cache))
            for name, signal in _HEARD.items():
                stack.enter_context(signal.connected_to(self._hears(name), sender=client))
            yield

    def _on_cache(self, event: CacheEvent) -> None:
        told = _TOLD.get(event.cause)
        if told is not None:
            self.tell("cache", f"{event.query.key!r} {told}")

    def _hears(self, name: str) -> Callable[..., None]:
        def hear(_sender: object, **arguments: Any) -> None:
            self.signals += 1
            error = f" ({arguments['error']})" if "error" in arguments else ""
            self.tell("signal", f"{name} {arguments.get('cluster')}{error}")

        return hear

    def summary(self, client: QueryClient) -> None:
        """Print what it came to."""
        stats = client.stats()
        table = Table.grid(padding=(0, 2))
        table.add_row("answers from the cache", str(stats.hits))
        table.add_row("callers who waited for a fetch", str(stats.misses))
        table.add_row("fetches", str(stats.fetches))
        table.add_row("requests on the wire", str(self.requests))
        table.add_row("signals", str(self.signals))
        table.add_row("entries left", str(stats.entries))
        self._console.print()
        self._console.print("Summary: " + ("all of it held" if self.holds else "not all of it held"))
        self._console.print(table)
