"""The faults a test can plan."""

import asyncio
import json

import aiohttp
import pytest

from querykit.testing.backend import (
    AddHeaders,
    Backend,
    ControlError,
    Cut,
    Delay,
    Drop,
    Hold,
    Malformed,
    Respond,
    SlowBody,
)

PODS = "/api/v1/namespaces/demo/pods"
NEW_POD = {"metadata": {"name": "new"}, "spec": {"containers": [{}]}}


class Sleeps:
    """A sleep that ends when the test says so, and notes how long it was asked for."""

    def __init__(self):
        self.asked = []
        self.asleep = asyncio.Event()
        self.awake = asyncio.Event()

    async def __call__(self, seconds):
        self.asked.append(seconds)
        self.asleep.set()
        await self.awake.wait()


@pytest.fixture
def sleeps():
    return Sleeps()


@pytest.fixture
async def backend(settings, clock, sleeps):
    async with Backend.start(settings, clock=clock, sleep=sleeps) as running:
        yield running


# --- which requests ---


async def test_a_fault_befalls_every_matching_request_until_it_is_cleared(admin, backend):
    await backend.set_fault(Respond(503))
    assert [(await admin.api("GET", PODS)).status for _ in range(3)] == [503] * 3
    await backend.clear_faults()
    assert (await admin.api("GET", PODS)).status == 200


async def test_a_fault_befalls_so_many_requests_after_so_many(admin, backend):
    await backend.set_fault(Respond(500), times=2, after=1)
    assert [(await admin.api("GET", PODS)).status for _ in range(5)] == [200, 500, 500, 200, 200]


@pytest.mark.parametrize(
    "which", [{"method": "POST"}, {"path": r"/nodes$"}, {"cluster": "b"}, {"method": "GET", "path": "^/api"}]
)
async def test_other_requests_are_left_alone_and_not_counted(admin, backend, which):
    await backend.set_fault(Respond(500), times=1, **which)
    assert (await admin.api("GET", PODS)).status == 200


async def test_method_path_and_cluster_choose_together(admin, wire, backend):
    await backend.set_fault(Respond(500), method="GET", path=r"/pods$", cluster="a", times=1)
    assert (await admin.api("GET", PODS)).status == 500
    await backend.set_fault(Respond(500), path=r"/config$", times=1)
    assert (await wire("GET", "/config")).status == 500


async def test_a_fault_that_is_no_fault_is_refused(backend):
    with pytest.raises(ControlError, match="no regular expression"):
        await backend.set_fault(Respond(503), path="(")


# --- what happens to them ---


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (401, "Unauthorized"),
        (429, "TooManyRequests"),
        (500, "InternalError"),
        (503, "ServiceUnavailable"),
        (504, "Timeout"),
        (418, "Unknown"),
    ],
)
async def test_a_status_comes_with_its_document(admin, backend, code, reason):
    """kubernetes.md 1.9: codes and reasons."""
    await backend.set_fault(Respond(code))
    reply = await admin.api("GET", PODS)
    assert reply.status == code
    assert (reply.json["kind"], reply.json["code"], reply.json["reason"]) == ("Status", code, reason)
    assert "Retry-After" not in reply.headers


async def test_overload_is_a_429_in_plain_text_with_retry_after(admin, backend):
    """kubernetes.md 1.9: priority and fairness answers with a plain text body."""
    await backend.set_fault(Respond(429, text="Too many requests, please try again later.", retry_after="1"))
    reply = await admin.api("POST", PODS, NEW_POD)
    assert (reply.status, reply.headers["Retry-After"]) == (429, "1")
    assert reply.headers["Content-Type"].startswith("text/plain")
    await backend.clear_faults()
    assert (await admin.api("GET", f"{PODS}/new")).status == 404


async def test_malformed_json_comes_with_a_200(admin, backend):
    await backend.set_fault(Malformed())
    reply = await admin.api("GET", PODS)
    assert (reply.status, reply.headers["Content-Type"]) == (200, "application/json")
    with pytest.raises(json.JSONDecodeError):
        _ = reply.json


async def test_headers_are_added(admin, backend):
    added = (("X-Reload", "reload"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"))
    await backend.set_fault(AddHeaders(added), times=1)
    reply = await admin.api("GET", PODS)
    assert reply.headers["X-Reload"] == "reload"
    assert reply.headers.getall("Set-Cookie") == ["a=1", "b=2"]


async def test_several_faults_act_together(admin, backend):
    await backend.set_fault(AddHeaders((("X-Extra", "1"),)))
    await backend.set_fault(Respond(503))
    await backend.set_fault(Respond(500))
    reply = await admin.api("GET", PODS)
    assert (reply.status, reply.headers["X-Extra"]) == (503, "1")


@pytest.mark.parametrize(("handled", "after"), [(False, 404), (True, 200)])
async def test_a_dropped_connection_gives_no_answer(admin, backend, handled, after):
    """With `handled` the request was carried out, which the client cannot know."""
    await backend.set_fault(Drop(handled=handled), method="POST")
    with pytest.raises(aiohttp.ClientConnectionError):
        await admin.api("POST", PODS, NEW_POD)
    assert (await admin.api("GET", f"{PODS}/new")).status == after


async def test_aiohttp_asks_again_by_itself_when_a_kept_connection_is_dropped(admin, backend):
    await admin.api("GET", PODS)
    await backend.set_fault(Drop(), times=1)
    await backend.reset_requests()
    assert (await admin.api("GET", PODS)).status == 200
    assert [request.status for request in await backend.requests()] == [None, 200]


@pytest.mark.parametrize("cut", [Cut(), Cut(after=0), Cut(after=10, reset=True)])
async def test_a_cut_body_is_an_error_to_the_client(admin, backend, cut):
    await backend.set_fault(cut)
    with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientOSError)):
        await admin.api("GET", PODS)


async def test_a_cut_comes_after_the_bytes_that_were_asked_for(admin, backend, wire):
    await backend.set_fault(Cut(after=10))
    url = f"{backend.cluster_url('a')}{PODS}"
    async with wire.session.get(url, headers={"Authorization": f"Bearer {admin.token}"}) as answer:
        assert answer.status == 200
        assert int(answer.headers["Content-Length"]) > 10
        assert await answer.content.readexactly(10) == b'{"kind":"P'
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.content.read()


async def test_a_delay_waits_before_the_request_is_carried_out(admin, backend, sleeps):
    await backend.set_fault(Delay(7.5), method="POST")
    asking = asyncio.create_task(admin.api("POST", PODS, NEW_POD))
    await sleeps.asleep.wait()
    assert (await admin.api("GET", f"{PODS}/new")).status == 404
    sleeps.awake.set()
    assert (await asking).status == 201
    assert sleeps.asked == [7.5]


async def test_a_delay_of_the_answer_waits_after_it(admin, backend, sleeps):
    await backend.set_fault(Delay(7.5, handled=True), method="POST")
    asking = asyncio.create_task(admin.api("POST", PODS, NEW_POD))
    await sleeps.asleep.wait()
    assert (await admin.api("GET", f"{PODS}/new")).status == 200
    sleeps.awake.set()
    assert (await asking).status == 201


async def test_a_slow_body_comes_in_pieces(admin, backend, sleeps):
    whole = (await admin.api("GET", PODS)).text
    sleeps.awake.set()
    await backend.set_fault(SlowBody(size=1000, seconds=0.25))
    assert (await admin.api("GET", PODS)).text == whole
    assert sleeps.asked == [0.25] * -(-len(whole) // 1000)


async def test_an_empty_answer_can_be_slow_too(wire, backend):
    await backend.set_fault(SlowBody())
    assert (await wire("POST", "/clusters/a/set-token", {"token": None})).text == ""


async def test_a_held_request_waits_until_it_is_released(admin, backend):
    fault = await backend.set_fault(Hold(), path=r"/pods$")
    asking = asyncio.create_task(admin.api("GET", PODS))
    (held,) = await backend.wait_requests(1, path=f"/clusters/a{PODS}")
    assert held.status is None
    await admin.api("DELETE", f"{PODS}/importer?gracePeriodSeconds=0")
    await backend.release(fault)
    assert "importer" not in (await asking).names
    assert (await admin.api("GET", PODS)).status == 200


async def test_a_held_answer_is_old_when_it_leaves(admin, backend):
    """So a test can let an answer of a former identity arrive late."""
    await backend.set_fault(Hold(handled=True), path=r"/pods$")
    asking = asyncio.create_task(admin.api("GET", PODS))
    await backend.wait_requests(1)
    await admin.api("DELETE", f"{PODS}/importer?gracePeriodSeconds=0")
    await backend.revoke_token(admin.token)
    await backend.release()
    late = await asking
    assert late.status == 200
    assert "importer" in late.names


async def test_a_release_without_a_name_is_for_holds_alone(admin, backend):
    await backend.set_fault(Respond(503))
    await backend.release()
    assert (await admin.api("GET", PODS)).status == 503


async def test_clearing_lets_go_what_is_held(admin, backend):
    await backend.set_fault(Hold())
    asking = asyncio.create_task(admin.api("GET", PODS))
    await backend.wait_requests(1)
    await backend.clear_faults()
    assert (await asking).status == 200


async def test_a_backend_that_ends_lets_go_what_is_held(admin, backend):
    await backend.set_fault(Hold())
    asking = asyncio.create_task(admin.api("GET", PODS))
    await backend.wait_requests(1)
    await backend.aclose()
    assert (await asking).status == 200


async def test_releasing_what_is_not_there_is_refused(backend):
    with pytest.raises(ControlError, match="fault-9"):
        await backend.release("fault-9")


async def test_a_client_that_is_gone_does_not_disturb_a_drop(admin, backend, sleeps):
    await backend.set_fault(Delay(1.0))
    await backend.set_fault(Drop())
    asking = asyncio.create_task(admin.api("GET", PODS))
    await sleeps.asleep.wait()
    await admin.session.close()
    with pytest.raises(aiohttp.ClientConnectionError):
        await asking
    await backend.requests()  # by now the server knows
    sleeps.awake.set()
    assert [request.status for request in await backend.requests()] == [None]
