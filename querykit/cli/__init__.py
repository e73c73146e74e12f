"""The command line (extra `cli`)."""

from querykit.cli.app import app

__all__ = ["app"]
