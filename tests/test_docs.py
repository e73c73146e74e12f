"""Code in docstrings, in the README and in docs/ is run."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path
from types import FunctionType

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
FENCE = re.compile(r"^```(python|pycon)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def modules_with_examples() -> list[str]:
    paths = sorted(path for path in (ROOT / "querykit").rglob("*.py") if ">>>" in path.read_text("utf-8"))
    return [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]


def fences(language: str) -> list[object]:
    """The README's blocks in that language, each padded so that an error names its line there."""
    text = README.read_text("utf-8") if README.exists() else ""
    found = []
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start(2))
        if match[1] == language:
            found.append(pytest.param("\n" * line + match[2], id=f"line-{line}"))
    return found


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_in_docstrings_hold(name):
    failed, tried = doctest.testmod(importlib.import_module(name.removesuffix(".__init__")))
    assert tried
    assert not failed


@pytest.mark.parametrize("block", fences("pycon"))
def test_sessions_in_the_readme_hold(block):
    found = doctest.DocTestParser().get_doctest(block, {}, "README.md", str(README), 0)
    result = doctest.DocTestRunner().run(found)
    assert result.attempted
    assert not result.failed


@pytest.mark.parametrize("block", fences("python"))
def test_python_in_the_readme_is_python(block):
    compile(block, str(README), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("block", [each for each in fences("python") if "asyncio.run(" in each.values[0]])
def test_programs_in_the_readme_run(block, tmp_path):
    program = tmp_path / "readme.py"
    program.write_text(block, "utf-8")
    command = [sys.executable, "-W", "error", str(program)]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=50)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.virtual_time
@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.stem)
async def test_the_python_of_a_page_is_a_program_that_runs(page, capsys):
    text = page.read_text("utf-8")
    names = {"__name__": page.stem}
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start(2))
        code = compile("\n" * line + match[2], str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if (running := FunctionType(code, names)()) is not None:
            await running
