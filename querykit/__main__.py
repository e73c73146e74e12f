"""`python -m querykit`: the command line."""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line, or say what it needs."""
    try:
        from querykit.cli import app
    except ModuleNotFoundError as error:
        sys.exit(f"The command line needs {error.name}: install querykit with its extras cli and testing")
    app()


if __name__ == "__main__":
    main()
