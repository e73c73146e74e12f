"""The commands, as `python -m querykit` has them."""

import asyncio
from typing import Annotated

import typer
from rich.console import Console

from querykit.cli.demo import Target, run_demo
from querykit.errors import QuerykitError

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False)


@app.callback()
def querykit() -> None:
    """A reactive query cache for asyncio."""


@app.command()
def demo(
    url: Annotated[str | None, typer.Option(help="A Headlamp-style backend to use, not a simulated one.")] = None,
    cluster: Annotated[str | None, typer.Option(help="With --url: the cluster.")] = None,
    token: Annotated[
        str | None, typer.Option(help="With --url: the token to log in with.", envvar="QUERYKIT_DEMO_TOKEN")
    ] = None,
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Go on until Ctrl-C, following the pods.")] = False,
) -> None:
    """Show the main job over real sockets: caching, one request for many callers, auto-logout."""
    target = None
    if url is not None or cluster is not None or token is not None:
        if url is None or cluster is None or token is None:
            raise typer.BadParameter("--url, --cluster and --token belong together: give all three, or none")
        target = Target(url, cluster, token)
    console = Console(highlight=False, soft_wrap=True)
    try:
        holds = asyncio.run(run_demo(console, target, keep=keep))
    except KeyboardInterrupt:
        holds = True
    except (QuerykitError, ValueError) as error:
        console.print(f"The demo ended early: {error}", markup=False)
        holds = False
    raise typer.Exit(0 if holds else 1)
