"""The examples run, and the README shows the first of them as it is."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
QUICKSTART = ROOT / "examples" / "quickstart.py"


def test_quickstart_asks_the_server_once_for_two_callers_and_again_after_an_invalidation():
    command = [sys.executable, "-W", "error", "-X", "dev", str(QUICKSTART)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50)
    assert ended.stderr == ""
    assert ended.stdout.splitlines() == [
        "asking the server",
        "[['web-1', 'web-2'], ['web-1', 'web-2']]",
        "['web-1', 'web-2']",
        "asking the server",
        "['web-1', 'web-2']",
    ]


def test_the_readme_shows_quickstart_as_it_is():
    source = QUICKSTART.read_text("utf-8")
    first = ast.parse(source).body[1].lineno
    program = "\n".join(source.splitlines()[first - 1 :])
    assert f"```python\n{program}\n```" in (ROOT / "README.md").read_text("utf-8")


def test_the_readme_has_no_gap_left_to_fill():
    assert "@" not in (ROOT / "README.md").read_text("utf-8").replace("@client", "")
