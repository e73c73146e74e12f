"""A running backend as a test holds it: in the same process, and in one of its own."""

import asyncio
import os
import signal
import sys
from importlib import import_module

import aiohttp
import pytest

from querykit.testing.backend import Backend, BackendProcess, BackendSettings, ControlError, Respond
from querykit.testing.backend.server import arguments

PODS = "/api/v1/pods"


# --- the log of requests ---


async def test_every_request_is_written_down_with_its_answer(admin, wire, backend):
    await admin.api("GET", f"{PODS}?limit=1&labelSelector=app%3Dweb")
    await wire.api("GET", PODS)
    await wire("GET", "/config")
    seen = [(one.method, one.path, one.query, one.cluster, one.status) for one in await backend.requests()]
    assert seen == [
        ("GET", f"/clusters/a{PODS}", "limit=1&labelSelector=app%3Dweb", "a", 200),
        ("GET", f"/clusters/a{PODS}", "", "a", 401),
        ("GET", "/config", "", None, 200),
    ]


async def test_secrets_are_written_down_by_name_alone(admin, backend):
    secret = {
        "Cookie": "headlamp-auth-b.0=secret",
        "KUBECONFIG": backend.kubeconfig("a", "secret"),
        "X-HEADLAMP_BACKEND-TOKEN": "secret",
        "X-BACKSTAGE-TOKEN": "secret",
    }
    await admin.api("GET", PODS, headers=secret | {"X-HEADLAMP-USER-ID": "0123456789abcdef"})
    (record,) = await backend.requests()
    for name in [*secret, "Authorization"]:
        assert name.lower() in record.header_names
        assert name.lower() not in record.headers
    assert record.headers["x-headlamp-user-id"] == "0123456789abcdef"


async def test_requests_can_be_chosen_and_forgotten(admin, backend):
    await admin.api("GET", PODS)
    await admin.api("DELETE", f"{PODS}/x")
    assert len(await backend.requests(method="DELETE")) == 1
    assert len(await backend.requests(path=f"/clusters/a{PODS}")) == 1
    assert len(await backend.requests(cluster="a")) == 2
    assert not await backend.requests(cluster="b")
    await backend.reset_requests()
    assert not await backend.requests()


async def test_waiting_for_requests_ends_when_they_have_come(admin, backend):
    waiting = asyncio.create_task(backend.wait_requests(2))
    await admin.api("GET", PODS)
    await admin.api("GET", "/version")
    assert len(await waiting) == 2


# --- control ---


async def test_tokens_are_issued_for_known_clusters_and_roles(backend):
    with pytest.raises(ControlError, match="nowhere"):
        await backend.issue_token("nowhere")
    with pytest.raises(ControlError, match="king"):
        await backend.issue_token("a", role="king")


async def test_a_token_that_is_not_in_force_cannot_be_ended(backend):
    for end in (backend.expire_token, backend.revoke_token):
        with pytest.raises(ControlError, match="unknown name"):
            await end("nothing")


async def test_the_clock_can_be_advanced(wire, backend):
    user = wire.as_user(await backend.issue_token("a", expires_in=60))
    await backend.advance_clock(60)
    assert (await user.api("GET", PODS)).status == 401


async def test_control_needs_its_key(wire, backend):
    reply = await wire("POST", "/_control/reset_requests", {})
    assert reply.status == 403
    reply = await wire("POST", "/_control/reset_requests", {}, headers={"X-Control-Key": "é"})
    assert reply.status == 403
    assert not await backend.requests()


async def test_an_unknown_operation_is_a_404(wire, backend):
    reply = await wire("POST", "/_control/fly", {}, headers={"X-Control-Key": backend._key})
    assert reply.status == 404


async def test_closing_twice_does_no_harm(clock):
    async with Backend.start(clock=clock) as backend:
        await backend.aclose()
        await backend.aclose()
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(backend.url)


async def test_a_busy_cluster_changes_by_itself(clock):
    turns = asyncio.Queue()

    async def sleep(seconds):
        assert seconds == 5.0
        await turns.get()

    settings = BackendSettings(clusters=("a",), churn_interval=5.0)
    async with Backend.start(settings, clock=clock, sleep=sleep) as backend, aiohttp.ClientSession() as session:
        headers = {"Authorization": f"Bearer {await backend.issue_token('a')}"}

        async def version():
            async with session.get(f"{backend.cluster_url('a')}{PODS}?limit=1", headers=headers) as answer:
                return int((await answer.json())["metadata"]["resourceVersion"])

        before = await version()
        turns.put_nowait(None)
        assert await version() > before


# --- a process of its own ---


async def test_a_process_answers_as_the_other_handle_does():
    settings = BackendSettings(clusters=("x", "y"), seed=7, backend_token="launch", base_url="/sub")
    async with BackendProcess.start(settings) as backend, aiohttp.ClientSession() as session:
        headers = {
            "Authorization": f"Bearer {await backend.issue_token('y', user='ada')}",
            "X-HEADLAMP_BACKEND-TOKEN": "launch",
        }
        async with session.get(f"{backend.cluster_url('y')}{PODS}", headers=headers) as answer:
            assert answer.status == 200
            theirs = await answer.json()
        async with session.get(f"{backend.cluster_url('y')}{PODS}") as answer:
            assert answer.status == 403
        await backend.set_fault(Respond(503), times=1)
        async with session.get(f"{backend.cluster_url('y')}{PODS}", headers=headers) as answer:
            assert answer.status == 503
        assert [one.status for one in await backend.requests(cluster="y")] == [200, 403, 503]
        assert await backend.step_churn(2, cluster="x")
    async with Backend.start(BackendSettings(clusters=("y",), seed=7)) as here:
        token = await here.issue_token("y")
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{here.cluster_url('y')}{PODS}", headers=headers) as answer,
        ):
            ours = await answer.json()
    assert [item["metadata"]["uid"] for item in ours["items"]] == [item["metadata"]["uid"] for item in theirs["items"]]


async def test_a_process_ends_on_sigterm(monkeypatch):
    started = []
    spawn = asyncio.create_subprocess_exec

    async def noted(*arguments, **options):
        started.append(await spawn(*arguments, **options))
        return started[0]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noted)
    async with BackendProcess.start():
        os.kill(started[0].pid, signal.SIGTERM)
        assert await started[0].wait() == 0


async def test_a_process_does_not_mind_what_it_is_told():
    command = (sys.executable, "-m", "querykit.testing.backend")
    pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
    process = await asyncio.create_subprocess_exec(*command, **pipes)
    assert b"http://127.0.0.1:" in await process.stdout.readline()
    assert await process.communicate(b"hello") == (b"", None)
    assert process.returncode == 0


async def test_a_process_that_does_not_come_up_is_an_error(capfd):
    settings = BackendSettings(clusters=("a", "b,b"))
    with pytest.raises(RuntimeError, match="ended with status 2"):
        async with BackendProcess.start(settings):
            pass
    assert "clusters must be distinct" in capfd.readouterr().err


def test_the_command_line_says_what_differs_from_the_defaults_but_no_secret():
    settings = BackendSettings(
        clusters=("a", "b"), seed=3, backend_token="launch", dynamic_clusters=False, churn_interval=0.5
    )
    assert arguments(settings) == [
        "--clusters=a,b",
        "--seed=3",
        "--dynamic-clusters=false",
        "--churn-interval=0.5",
    ]


def test_importing_the_command_does_not_run_it():
    name = "querykit.testing.backend.__main__"
    assert import_module(name).main
    del sys.modules[name]
