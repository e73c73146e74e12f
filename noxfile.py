"""The tests on every Python that pyproject.toml names and this machine has: `make test-all`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

PYPROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PYPROJECT)  # from the classifiers

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "venv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_venv = "yes"


def works(python: str, version: str) -> bool:
    """Whether `python` is that version and can make environments: a version manager's shim may be neither."""
    code = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"
    try:
        found = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    return found.returncode == 0 and found.stdout.strip() == version


def interpreter(version: str) -> str | None:
    """A Python of that version: from PATH, or one that pyenv keeps without having put it there."""
    name = f"python{version}"
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    kept = sorted(pyenv.glob(f"{version}.*/bin/{name}"), key=newest, reverse=True)
    candidates = (shutil.which(name), *map(str, kept))
    return next((python for python in candidates if python and works(python, version)), None)


def newest(python: Path) -> tuple[int, ...]:
    """A sort key that puts 3.12.10 after 3.12.9; what is no plain release comes before both."""
    parts = python.parts[-3].split(".")
    return tuple(map(int, parts)) if all(part.isdecimal() for part in parts) else ()


def put_on_path() -> None:
    """Let nox find each interpreter by its usual name, in front of shims that only look like one."""
    for version in PYTHONS:
        if python := interpreter(version):
            os.environ["PATH"] = os.pathsep.join((str(Path(python).parent), os.environ["PATH"]))
        else:
            print(f"Python {version} is not on this machine: its tests are skipped.", file=sys.stderr)


put_on_path()


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the suite, and once more with eager tasks where Python has them; `make test` looks at coverage."""
    session.install(
        "--quiet",
        "--editable",
        ".[cli,kubernetes,testing]",
        *nox.project.dependency_groups(PYPROJECT, "test"),
    )
    session.run("python", "-m", "pytest", "--numprocesses=auto", *session.posargs)
    if PYTHONS.index(str(session.python)) >= PYTHONS.index("3.12"):
        session.run("python", "-m", "pytest", "--numprocesses=auto", *session.posargs, env={"QUERYKIT_EAGER": "1"})
