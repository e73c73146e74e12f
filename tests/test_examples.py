"""The examples run, and the README shows the first of them as it is."""

import ast
import asyncio
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from querykit import ClientClosed

ROOT = Path(__file__).parents[1]
QUICKSTART = ROOT / "examples" / "quickstart.py"


def test_quickstart_asks_once_for_two_callers_and_shows_a_change_before_the_server_has_it():
    command = [sys.executable, "-W", "error", "-X", "dev", str(QUICKSTART)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50)
    assert ended.stderr == ""
    assert ended.stdout.splitlines() == [
        "asking the server",
        "[['web-1', 'web-2'], ['web-1', 'web-2']]",
        "['web-1', 'web-2']",
        "it is now ['web-1', 'web-2']",
        "it is now ['web-1', 'web-2', 'web-3']",
        "asking the server",
        "it is now ['web-1', 'web-2', 'web-3']",
        "created",
    ]


def test_the_readme_shows_quickstart_as_it_is():
    source = QUICKSTART.read_text("utf-8")
    first = ast.parse(source).body[1].lineno
    program = "\n".join(source.splitlines()[first - 1 :])
    assert f"```python\n{program}\n```" in (ROOT / "README.md").read_text("utf-8")


def test_the_readme_has_no_gap_left_to_fill():
    assert "@" not in (ROOT / "README.md").read_text("utf-8").replace("@client", "")


def test_the_readme_names_every_example():
    listed = re.findall(r"\]\(examples/(\w+\.py)\)", (ROOT / "README.md").read_text("utf-8"))
    assert sorted(listed) == sorted(path.name for path in (ROOT / "examples").glob("*.py"))


@pytest.mark.virtual_time
async def test_the_notebook_s_cells_run_one_after_the_other(capsys):
    cells = re.split(r"^(?=# %%)", (ROOT / "examples" / "notebook.py").read_text("utf-8"), flags=re.MULTILINE)
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in cells:
        title = cell.partition("\n")[0].removeprefix("# %% ")
        code = compile(cell, title, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        awaits = eval(code, names)  # as IPython does
        if awaits is not None:
            await awaits
        await asyncio.sleep(0)  # a kernel's loop turns between two cells
    said = capsys.readouterr().out.splitlines()
    assert said[:8] == [
        "{'Oslo': 23.0, 'Lima': 23.0, 'Pune': 23.0}",
        "Oslo: 24.0 - asked for 2 times",
        "Oslo is followed: 24.0, idle",
        "Oslo is followed: -5.0, idle",
        "Oslo is followed: -5.0, fetching",
        "Oslo is followed: 25.0, idle",
        "Oslo: 25.0",
        "asked 6 times",
    ]
    assert said[8].startswith("ClientStats(")
    assert "('temperature', 'Oslo') 25.0" in said[9:]
    with pytest.raises(ClientClosed):
        await names["temperature"]("Oslo")
