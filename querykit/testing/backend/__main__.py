"""A backend in a process of its own: `python -m querykit.testing.backend --clusters=a,b --seed=1`.

Prints one line of JSON with its origin and control key when it listens, and ends on SIGTERM or when
its stdin does. The backend token, if any, comes in the environment as HEADLAMP_BACKEND_TOKEN.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

import msgspec

from querykit.testing.backend.server import TOKEN_VARIABLE, serve
from querykit.testing.backend.simulation import BackendSettings

__all__ = ["main"]


def main() -> None:
    """Read the command line and serve until told to end."""
    parser = argparse.ArgumentParser(prog="querykit.testing.backend")
    for name in BackendSettings.__struct_fields__:
        if name != "backend_token":
            flag = f"--{name.replace('_', '-')}"
            parser.add_argument(flag, dest=name, default=argparse.SUPPRESS)
    given: dict[str, object] = vars(parser.parse_args())
    if "clusters" in given:
        given["clusters"] = str(given["clusters"]).split(",")
    given["backend_token"] = os.environ.get(TOKEN_VARIABLE, "")
    try:
        settings = msgspec.convert(given, BackendSettings, strict=False)
    except msgspec.ValidationError as error:
        parser.error(str(error))
    asyncio.run(_run(settings))


async def _run(settings: BackendSettings) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    with suppress(NotImplementedError):  # on Windows
        loop.add_signal_handler(signal.SIGTERM, ended.set)
    # A thread of its own, since not every stdin can be polled; it dies with the process.
    threading.Thread(target=_read_to_end, args=(lambda: loop.call_soon_threadsafe(ended.set),), daemon=True).start()
    async with serve(settings) as ready:
        sys.stdout.write(msgspec.json.encode(ready).decode() + "\n")
        sys.stdout.flush()
        await ended.wait()


def _read_to_end(tell: Callable[[], object]) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    tell()


if __name__ == "__main__":
    main()
