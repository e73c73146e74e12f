"""examples/aiohttp_service.py: one request for many callers, and nothing of a login after its end."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

from examples import aiohttp_service
from examples.aiohttp_service import Service
from querykit import QueryClient
from tests.examples.processes import browser, free_port, line_with, started


class Upstream:
    """Takes the tokens of ada and bob; it can be held, fail, and take no token any more."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.users = {"Bearer ada-token": "ada", "Bearer bob-token": "bob"}
        self.fails = False
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.is_asked = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        user = self.users.get(request.headers.get("Authorization", ""))
        if user is None:
            raise web.HTTPUnauthorized
        self.asked[f"{user} {request.path}"] += 1
        if request.path != "/me":
            self.is_asked.set()
            await self.goes_on.wait()
        if self.fails:
            raise web.HTTPServiceUnavailable
        return web.json_response([{"name": f"{user}-web", "phase": "Running", "secret": "not for callers"}])

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes([web.get("/{anything:.*}", self.answer)])
        return app


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    yield Upstream()


@pytest.fixture
async def service(upstream: Upstream) -> AsyncIterator[Service]:
    async with TestServer(upstream.app()) as above:
        service = Service(str(above.make_url("")))
        async with TestServer(service.app()) as server:
            service.url = server.make_url("/")
            yield service


@pytest.fixture
async def ada(service: Service) -> AsyncIterator[aiohttp.ClientSession]:
    async with browser(service.url) as ada:
        assert (await log_in(ada, "ada")).status == 200
        yield ada


async def log_in(caller: aiohttp.ClientSession, user: str) -> aiohttp.ClientResponse:
    return await caller.post("/login", data={"token": f"{user}-token"})


async def pods(caller: aiohttp.ClientSession) -> tuple[int, str]:
    async with caller.get("/pods/prod") as response:
        return response.status, await response.text()


ADAS = 200, '[{"name":"ada-web","phase":"Running"}]'
BOBS = 200, '[{"name":"bob-web","phase":"Running"}]'


async def test_ten_callers_at_a_time_and_one_later_make_one_request(ada, upstream):
    upstream.goes_on.clear()
    callers = [asyncio.create_task(pods(ada)) for _ in range(10)]
    await upstream.is_asked.wait()
    upstream.goes_on.set()
    assert await asyncio.gather(*callers) == [ADAS] * 10
    assert await pods(ada) == ADAS
    assert upstream.asked["ada /pods/prod"] == 1


async def test_each_login_sees_its_own_pods_and_ends_alone(ada, service):
    async with browser(service.url) as bob:
        await log_in(bob, "bob")
        assert (await pods(ada), await pods(bob)) == (ADAS, BOBS)
        await ada.post("/logout")
        assert (await pods(ada), await pods(bob)) == ((401, "log in first"), BOBS)


async def test_after_a_logout_nothing_of_the_login_is_served_even_to_who_waits_for_it(ada, service, upstream):
    cookie = {one.key: one.value for one in ada.cookie_jar}
    upstream.goes_on.clear()
    waiting = asyncio.create_task(pods(ada))
    await upstream.is_asked.wait()
    await ada.post("/logout")
    assert await waiting == (401, "logged out meanwhile")
    upstream.goes_on.set()
    ada.cookie_jar.update_cookies(cookie, service.url)  # one who has kept it
    assert await pods(ada) == (401, "log in first")
    await log_in(ada, "ada")
    assert await pods(ada) == ADAS
    assert upstream.asked["ada /pods/prod"] == 2


async def test_a_path_that_is_no_name_of_a_cluster_does_not_reach_the_upstream(ada, upstream):
    before = upstream.asked.copy()
    for path in ("/pods/..%2Fme", "/pods/a%2Fb", "/pods/"):
        async with ada.get(URL(path, encoded=True)) as response:
            assert response.status == 404
    assert upstream.asked == before


async def test_a_token_that_the_upstream_does_not_take_is_no_login(service):
    async with browser(service.url) as eve:
        assert (await log_in(eve, "eve")).status == 401
        assert not service.logins
        assert await pods(eve) == (401, "log in first")


async def test_a_login_ends_when_the_upstream_takes_its_token_no_more(ada, service, upstream):
    upstream.users.clear()
    assert await pods(ada) == (401, "log in again")
    assert not service.logins


async def test_a_login_ends_by_itself(service, monkeypatch):
    monkeypatch.setattr(aiohttp_service, "HOURS", 0)
    async with browser(service.url) as ada:
        await log_in(ada, "ada")
        assert await pods(ada) == (401, "log in first")


async def test_a_failing_upstream_is_left_alone_and_covered_by_old_data_for_a_while(service, upstream, monkeypatch):
    now = 0.0
    clocked = partial(QueryClient, clock=lambda: now, sleep=lambda _: asyncio.sleep(0))
    monkeypatch.setattr(aiohttp_service, "QueryClient", clocked)
    async with browser(service.url) as ada:
        await log_in(ada, "ada")
        assert await pods(ada) == ADAS
        upstream.fails = True
        for moment, asked, status in [
            (9, 1, 200),  # fresh
            (11, 3, 200),  # asked, and asked again; old data is served
            (12, 3, 200),  # that it failed is remembered
            (17, 5, 200),
            (299, 7, 200),
            (301, 7, 502),  # the data is too old now
        ]:
            now = moment
            assert (await pods(ada))[0] == status
            assert upstream.asked["ada /pods/prod"] == asked


async def test_it_runs_beside_a_simulated_upstream_and_ends_when_told():
    port = free_port()
    async with started("aiohttp_service", str(port)) as process:
        await line_with(process.stdout, "Running on")
        async with browser(f"http://localhost:{port}") as bob:
            assert await pods(bob) == (401, "log in first")
            await log_in(bob, "bob")
            assert await pods(bob) == (
                200,
                '[{"name":"bob-web-1","phase":"Running"},{"name":"bob-web-2","phase":"Running"}]',
            )
        process.send_signal(signal.SIGTERM)
        _, stderr = await process.communicate()
        assert process.returncode == 0
        assert [line for line in stderr.splitlines() if b"HTTP/1.1" not in line] == []  # requests are all it logs
