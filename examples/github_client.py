"""A client for an API in the manner of a library: typed, cached by what the server says, and safe to log out of.

    python examples/github_client.py aio-libs/aiohttp        # GITHUB_TOKEN is used if there is one

A method is cached by putting `@cached` on it: the instance has the `client`, and says in `__query_key__` what stands
for it in keys. With `stale_time="http"` GitHub's `Cache-Control` says how long data is fresh, and then its `ETag` asks
whether it still holds: an answer of 304 costs nothing of the rate limit, and gives the very objects there were.
"""

import asyncio
import os
import sys
from types import TracebackType
from typing import Self, TypeVar

from msgspec import Struct

from querykit import (
    ApiError,
    InfiniteData,
    InfiniteOptions,
    QueryClient,
    QueryContext,
    QueryKey,
    cached,
    current_context,
    infinite_query_options,
    use_identity,
)
from querykit.http import HttpTransport

T = TypeVar("T")

API = "https://api.github.com"
PER_PAGE = 30


class Repo(Struct, frozen=True):
    """A repository."""

    full_name: str
    description: str | None
    stargazers_count: int
    open_issues_count: int


class Issue(Struct, frozen=True):
    """An issue, or a pull request."""

    number: int
    title: str
    state: str


Pages = InfiniteData[list[Issue], int]


class RateLimited(ApiError):
    """GitHub asks to wait. It is asked again at the time it said, if that is within a minute."""

    retryable = True


class GitHub:
    """GitHub as one account sees it.

    Args:
        client: whose cache is used; it may be shared with other accounts, and other libraries.
        account: tells whose view it is, in keys: two accounts never share data.
        token: the account's token.
        api: the URL of the API.
    """

    def __init__(self, client: QueryClient, *, account: str = "", token: str | None = None, api: str = API) -> None:
        self.client = client
        self.__query_key__: QueryKey = (api, account)
        self._identity = ("github", api, account)
        self._token = token
        self._http = HttpTransport(api, headers={"User-Agent": "querykit-example"}, timeout=30)

    @cached("github repo", stale_time="http", error_time=30)
    async def repo(self, owner: str, name: str) -> Repo:
        """Return a repository."""
        return await self._get(f"/repos/{owner}/{name}", Repo)

    @cached("github issues", stale_time="http")
    async def issues_page(self, owner: str, name: str, page: int) -> list[Issue]:
        """Return one page of a repository's open issues."""
        return await self._get(f"/repos/{owner}/{name}/issues", list[Issue], per_page=PER_PAGE, page=page)

    def issues(self, owner: str, name: str) -> InfiniteOptions[list[Issue], int, list[Issue]]:
        """Return a repository's open issues as a query to observe, a page more at a time.

        Each page is a query of its own, with its own freshness and ETag, so that to fetch all of them again is
        cheap. All their keys begin as this one's.
        """

        async def page(context: QueryContext[Pages]) -> list[Issue]:
            return await self.issues_page(owner, name, context.page_param)

        def after(last_page: list[Issue], data: Pages) -> int | None:
            return len(data.pages) + 1 if len(last_page) == PER_PAGE else None

        key = ("github issues", *self.__query_key__, owner, name)
        pages = infinite_query_options(key, page, initial_page_param=1, get_next_page_param=after)
        return pages.select(lambda data: [issue for page in data.pages for issue in page])

    def set_token(self, token: str | None) -> None:
        """Use another token. What was read with the former one is forgotten, and read anew where it is observed."""
        self._token = token
        self.client.forget(self._identity, restart=token is not None)

    async def _get(self, path: str, type: type[T], **params: int) -> T:
        use_identity(self._identity)  # and with no await between: what comes was read with this token
        headers = {} if self._token is None else {"Authorization": f"Bearer {self._token}"}
        try:
            return await self._http.get(path, type=type, params=params, headers=headers, context=current_context())
        except ApiError as error:
            if error.status == 403 and error.retry_after is not None:
                raise RateLimited(error.message, status=403, retry_after=error.retry_after, url=error.url) from None
            raise

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


async def main(repository: str) -> None:
    """Show a repository and its newest issues."""
    owner, _, name = repository.partition("/")
    token, api = os.environ.get("GITHUB_TOKEN"), os.environ.get("GITHUB_API_URL", API)
    async with QueryClient() as client, GitHub(client, token=token, api=api) as github:
        repo = await github.repo(owner, name)
        print(f"{repo.full_name}, {repo.stargazers_count} stars: {repo.description}")
        async with client.observe(github.issues(owner, name)) as issues:
            result = await issues.wait_for(lambda result: result.is_fetched)
            while result.has_next_page and len(result.data or []) < 60:
                result = await issues.fetch_next_page(throw_on_error=True)
            for issue in result.data or []:
                print(f"#{issue.number} {issue.title}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
