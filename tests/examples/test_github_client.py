"""examples/github_client.py, against a server that answers as GitHub was recorded to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from examples import github_client
from examples.github_client import GitHub, Issue, RateLimited, Repo
from querykit import ApiError, QueryClient
from tests.examples.processes import started

REPO: Any = {
    "id": 13258039,
    "name": "aiohttp",
    "full_name": "aio-libs/aiohttp",
    "private": False,
    "owner": {"login": "aio-libs", "id": 7049303, "type": "Organization"},
    "description": "Asynchronous HTTP client/server framework for asyncio and Python",
    "stargazers_count": 15123,
    "open_issues_count": 3,
    "license": {"key": "other", "spdx_id": "NOASSERTION"},
}
ISSUES: Any = [
    {"id": 2000 + n, "number": n, "title": title, "state": "open", "user": {"login": "ada"}, "labels": [], "body": None}
    for n, title in [(12, "Speed up the parser"), (11, "Document timeouts"), (7, "Support HTTP/3")]
]
NOT_FOUND = {"message": "Not Found", "documentation_url": "https://docs.github.com/rest", "status": "404"}
SLOW_DOWN = {
    "message": "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
    "documentation_url": "https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api",
}


class Recorded:
    """Replays GitHub's answers, with its ETags and its 304, and tells what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.tokens: list[str | None] = []
        self.limits: list[int] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.tokens.append(request.headers.get("Authorization"))
        if self.limits:
            self.asked.append(f"403 {request.path_qs}")
            return web.json_response(SLOW_DOWN, status=403, headers={"Retry-After": str(self.limits.pop(0))})
        data, more = self.found(request)
        if data is None:
            self.asked.append(f"404 {request.path_qs}")
            return web.json_response(NOT_FOUND, status=404)
        etag = f'W/"{abs(hash(str(data))):x}"'
        headers = {"ETag": etag, "Cache-Control": "private, max-age=60, s-maxage=60", "Vary": "Accept, Authorization"}
        if more:
            headers["Link"] = f'<{request.url.update_query(page=more)}>; rel="next"'
        known = request.headers.get("If-None-Match") == etag
        self.asked.append(f"{304 if known else 200} {request.path_qs}")
        return web.Response(status=304, headers=headers) if known else web.json_response(data, headers=headers)

    def found(self, request: web.Request) -> tuple[object, int]:
        if request.path == "/repos/aio-libs/aiohttp":
            return REPO, 0
        if request.path == "/repos/aio-libs/aiohttp/issues":
            size, page = (int(request.query[name]) for name in ("per_page", "page"))
            return ISSUES[(page - 1) * size : page * size], page + 1 if page * size < len(ISSUES) else 0
        return None, 0


class Time:
    """The client's clock, and what was slept by it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def server() -> AsyncIterator[Recorded]:
    recorded, app = Recorded(), web.Application()
    app.router.add_get("/{anything:.*}", recorded.answer)
    async with TestServer(app) as server:
        recorded.url = str(server.make_url(""))
        yield recorded


@pytest.fixture
async def client(time: Time) -> AsyncIterator[QueryClient]:
    async with QueryClient(clock=lambda: time.now, sleep=time.sleep) as client:
        yield client


@pytest.fixture
async def github(client: QueryClient, server: Recorded) -> AsyncIterator[GitHub]:
    async with GitHub(client, account="ada", token="first", api=server.url) as github:
        yield github


@pytest.fixture
def two_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(github_client, "PER_PAGE", 2)


async def test_a_repository_is_typed_and_asked_for_once_while_it_is_fresh(github, server, time):
    repos = await asyncio.gather(*(github.repo("aio-libs", "aiohttp") for _ in range(5)))
    time.now = 59
    repos.append(await github.repo(owner="aio-libs", name="aiohttp"))
    assert repos[0] == Repo("aio-libs/aiohttp", REPO["description"], 15123, 3)
    assert all(repo is repos[0] for repo in repos)
    assert server.asked == ["200 /repos/aio-libs/aiohttp"]


async def test_when_it_is_stale_its_etag_is_sent_and_304_keeps_the_very_object(github, server, time):
    first = await github.repo("aio-libs", "aiohttp")
    time.now = 60
    assert await github.repo("aio-libs", "aiohttp") is first
    time.now = 119  # what 304 says is fresh for a minute more
    assert await github.repo("aio-libs", "aiohttp") is first
    assert server.asked == ["200 /repos/aio-libs/aiohttp", "304 /repos/aio-libs/aiohttp"]


async def test_issues_come_a_page_more_at_a_time(github, client, server, two_a_page):
    async with client.observe(github.issues("aio-libs", "aiohttp")) as issues:
        result = await issues.wait_for(lambda result: result.is_success)
        assert [issue.number for issue in result.data] == [12, 11]
        assert result.has_next_page
        result = await issues.fetch_next_page()
        assert result.data[2] == Issue(7, "Support HTTP/3", "open")
        assert not result.has_next_page
    pages = [f"200 /repos/aio-libs/aiohttp/issues?per_page=2&page={page}" for page in (1, 2)]
    assert server.asked == pages


async def test_issues_that_are_asked_for_again_cost_304_a_page_and_keep_their_pages(github, client, server, two_a_page):
    query = github.issues("aio-libs", "aiohttp")
    async with client.observe(query) as issues:
        await issues.wait_for(lambda result: result.is_success)
        await issues.fetch_next_page()
        before = client.get_query_data(query.key)
        server.asked.clear()
        await client.invalidate_queries(query.key)
        after = client.get_query_data(query.key)
    assert [one is other for one, other in zip(before.pages, after.pages, strict=True)] == [True, True]
    assert server.asked == [f"304 /repos/aio-libs/aiohttp/issues?per_page=2&page={page}" for page in (1, 2)]


async def test_a_repository_that_is_not_there_is_remembered_as_such_for_a_while(github, server, time):
    for now, requests in [(0, 1), (29, 1), (30, 2)]:
        time.now = now
        with pytest.raises(ApiError, match="Not Found") as raised:
            await github.repo("aio-libs", "nothing")
        assert raised.value.status == 404
        assert server.asked == ["404 /repos/aio-libs/nothing"] * requests


async def test_a_rate_limit_is_waited_out_as_long_as_github_says(github, server, time):
    server.limits = [7]
    assert (await github.repo("aio-libs", "aiohttp")).stargazers_count == 15123
    assert [7 <= seconds <= 30 for seconds in time.slept] == [True]
    assert server.asked == ["403 /repos/aio-libs/aiohttp", "200 /repos/aio-libs/aiohttp"]


async def test_a_rate_limit_of_an_hour_is_raised_at_once(github, server, time):
    server.limits = [3600]
    with pytest.raises(RateLimited, match="secondary rate limit") as raised:
        await github.repo("aio-libs", "aiohttp")
    assert (raised.value.retry_after, time.slept) == (3600, [])


async def test_another_token_forgets_what_was_read_with_the_former_one(github, server):
    first = await github.repo("aio-libs", "aiohttp")
    github.set_token("second")
    assert github.repo.get("aio-libs", "aiohttp") is None
    assert await github.repo("aio-libs", "aiohttp") is not first
    assert server.tokens == ["Bearer first", "Bearer second"]
    assert server.asked == ["200 /repos/aio-libs/aiohttp"] * 2  # and not by its ETag


async def test_what_is_observed_is_read_anew_with_another_token_and_not_without_one(github, server):
    async with github.repo.observe("aio-libs", "aiohttp") as results:
        await results.wait_for(lambda result: result.is_success)
        github.set_token("second")
        assert results.result.data is None
        await results.wait_for(lambda result: result.is_success)
        github.set_token(None)
        assert (results.result.data, results.result.is_fetching) == (None, False)
    assert server.tokens == ["Bearer first", "Bearer second"]


async def test_two_accounts_of_one_client_share_nothing(github, client, server):
    async with GitHub(client, account="bob", api=server.url) as bobs:
        assert await github.repo("aio-libs", "aiohttp") is not await bobs.repo("aio-libs", "aiohttp")
        github.set_token(None)
        assert bobs.repo.get("aio-libs", "aiohttp") is not None
    assert server.tokens == ["Bearer first", None]


async def test_it_shows_a_repository_and_its_issues(server):
    async with started(
        "github_client", "aio-libs/aiohttp", GITHUB_API_URL=server.url, GITHUB_TOKEN="s3cret"
    ) as process:
        stdout, stderr = await process.communicate()
    assert stderr == b""
    assert stdout.decode().splitlines() == [
        f"aio-libs/aiohttp, 15123 stars: {REPO['description']}",
        "#12 Speed up the parser",
        "#11 Document timeouts",
        "#7 Support HTTP/3",
    ]
    assert server.tokens == ["Bearer s3cret"] * 2
