"""The command line (extra `cli`)."""

from querykit.cli.commands import app

__all__ = ["app"]
