"""The demo tells the truth, over real sockets, and ends by itself."""

import asyncio
import re
import subprocess
import sys
from io import StringIO

import pytest
from rich.console import Console
from typer.testing import CliRunner

from querykit.__main__ import main
from querykit.cli import app
from querykit.cli.demo import Target, run_demo
from querykit.errors import ApiError
from querykit.testing.backend import Backend, BackendSettings, Respond


def console() -> tuple[Console, StringIO]:
    told = StringIO()
    return Console(file=told, width=200, highlight=False), told


async def test_the_demo_holds_what_it_claims_against_three_simulated_clusters():
    out, told = console()
    assert await run_demo(out)
    text = told.getvalue()
    assert "✗" not in text
    assert text.count("✓") == 12
    assert re.search(r"^Summary: all of it held$", text, re.MULTILINE)


async def test_the_demo_shows_the_wire_the_cache_and_the_signals():
    out, told = console()
    await run_demo(out)
    text = told.getvalue()
    assert "wire    GET /clusters/amber/api/v1/pods → 200" in text
    assert "cache   ('clusterMe', 'amber') fresh" in text
    assert "signal  token_set amber" in text
    assert re.search(r"signal  auth_failed amber \(Unauthorized - Unauthorized\)", text)
    assert "signal  logged_out amber" in text


async def test_two_consumers_make_one_request_on_the_wire():
    out, told = console()
    await run_demo(out)
    third = told.getvalue().split("\n3. ")[1].split("\n4. ")[0]
    assert third.count("wire ") == 1


async def test_the_same_story_runs_against_a_backend_of_the_users():
    out, told = console()
    async with Backend.start(BackendSettings(clusters=("prod",))) as backend:
        token = await backend.issue_token("prod")
        assert await run_demo(out, Target(backend.url, "prod", token))
        left = [each.path for each in await backend.requests() if each.method == "DELETE"]
    assert len(left) == 1
    assert "5. Log out" in told.getvalue()
    assert token not in told.getvalue()


async def test_a_token_that_may_only_read_skips_the_chapter_that_writes():
    out, told = console()
    async with Backend.start(BackendSettings(clusters=("prod",))) as backend:
        token = await backend.issue_token("prod", role="view")
        assert await run_demo(out, Target(backend.url, "prod", token))
    assert "this token may not create one" in told.getvalue()


async def test_a_claim_that_does_not_hold_is_told_and_makes_the_demo_fail():
    out, told = console()
    async with Backend.start(BackendSettings(clusters=("prod",))) as backend:
        token = await backend.issue_token("prod")
        await backend.set_fault(Respond(500), path="/healthz$", times=1)
        assert not await run_demo(out, Target(backend.url, "prod", token))
    assert "✗" in told.getvalue()
    assert "Summary: not all of it held" in told.getvalue()


@pytest.mark.parametrize("whose", ["simulated", "user's"])
async def test_kept_running_it_follows_the_pods_until_cancelled(whose):
    out, told = console()
    looks = 0

    async def sleep(seconds: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            raise asyncio.CancelledError

    async with Backend.start(BackendSettings(clusters=("prod",))) as backend:
        target = None if whose == "simulated" else Target(backend.url, "prod", await backend.issue_token("prod"))
        with pytest.raises(asyncio.CancelledError):
            await run_demo(out, target, keep=True, sleep=sleep)
    assert len(re.findall(r"\d+ pods in (amber|prod)", told.getvalue())) == 3


def test_url_cluster_and_token_belong_together():
    result = CliRunner().invoke(app, ["demo", "--url", "http://localhost:1"])
    assert result.exit_code == 2
    assert "belong together" in result.output


def test_a_backend_that_cannot_be_reached_is_said_in_a_line_and_fails():
    result = CliRunner().invoke(
        app, ["demo", "--url", "http://127.0.0.1:9", "--cluster", "prod", "--token", "s3cret-token"]
    )
    assert result.exit_code == 1
    assert "The demo ended early" in result.output
    assert "s3cret-token" not in result.output


def test_a_url_that_is_none_is_said_in_a_line_too():
    result = CliRunner().invoke(app, ["demo", "--url", "nonsense", "--cluster", "prod", "--token", "s3cret-token"])
    assert result.exit_code == 1
    assert "The demo ended early: " in result.output


def test_python_m_querykit_demo_ends_by_itself_with_a_summary_and_exit_code_0():
    command = [sys.executable, "-W", "error", "-m", "querykit", "demo"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert ended.returncode == 0, ended.stderr
    assert "\nSummary: all of it held\n" in ended.stdout


def test_without_the_extra_the_command_line_says_what_to_install():
    code = "import sys; sys.modules['typer'] = None; import runpy; runpy.run_module('querykit', run_name='__main__')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert ended.returncode == 1
    assert "install querykit with its extras cli and testing" in ended.stderr


def test_without_a_command_it_shows_what_there_is():
    result = CliRunner().invoke(app, [])
    assert "demo" in result.output
    assert "3." not in result.output


async def test_a_list_that_cannot_be_had_ends_the_demo_with_the_servers_error():
    out, _ = console()
    async with Backend.start(BackendSettings(clusters=("prod",))) as backend:
        token = await backend.issue_token("prod")
        await backend.set_fault(Respond(404), path="/namespaces$")
        with pytest.raises(ApiError, match="Not Found"):
            await run_demo(out, Target(backend.url, "prod", token))


def test_ctrl_c_is_a_good_end(monkeypatch):
    async def interrupted(*_: object, **__: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr("querykit.cli.commands.run_demo", interrupted)
    assert CliRunner().invoke(app, ["demo", "--keep"]).exit_code == 0


def test_the_module_can_be_imported_without_running(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["querykit", "--help"])
    with pytest.raises(SystemExit):
        main()
    assert "demo" in capsys.readouterr().out
