"""The demo: a login, a cache, two readers, a change, and a token that expires, told as it happens."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from rich.console import Console

from querykit.cli.account import Account
from querykit.client import QueryClient
from querykit.cluster import ClusterClient
from querykit.errors import ApiError
from querykit.http import HttpTransport
from querykit.observation import Observation
from querykit.testing.backend import BackendHandle, BackendProcess, BackendSettings

__all__ = ["Target", "run_demo"]

CLUSTERS = ("amber", "birch", "cedar")
CHURN_SECONDS = 1.0
LOOK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Target:
    """A backend, and one of its clusters."""

    url: str
    cluster: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Scene:
    """Where the story plays."""

    account: Account
    client: QueryClient
    clusters: ClusterClient
    tokens: Mapping[str, str] = field(repr=False)
    backend: BackendHandle | None = None

    @property
    def cluster(self) -> str:
        """The cluster that most of it is about."""
        return next(iter(self.tokens))

    def has(self, *key: str) -> bool:
        """Whether the key is in the cache, with data."""
        return self.client.get_query_data(key) is not None

    async def pods(self) -> list[str]:
        """Return the names of the pods, through the cache."""
        found: list[str] = await self.client.query(("pods", self.cluster), self._list("pods"), stale_time=30)
        return found

    def namespaces(self) -> Observation[list[str]]:
        """Follow the names of the namespaces."""
        return self.client.observe(("namespaces", self.cluster), self._list("namespaces"), stale_time=30)

    def _list(self, resource: str) -> Any:
        async def names() -> list[str]:
            found = await self.clusters.cluster_request(f"/api/v1/{resource}", cluster=self.cluster)
            return [item["metadata"]["name"] for item in found["items"]]

        return names


async def run_demo(
    console: Console,
    target: Target | None = None,
    *,
    keep: bool = False,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> bool:
    """Run the demo, against three simulated clusters or a `target`; `keep` follows the pods until cancelled.

    Args:
        console: where it is told.
        target: a real backend.
        keep: go on after the end of the story.
        sleep: waits seconds between two looks at the pods.

    Returns:
        Whether everything that it claims has held.
    """
    account = Account(console)
    async with AsyncExitStack() as stack:
        backend, url, tokens = None, "", {}
        if target is None:
            settings = BackendSettings(clusters=CLUSTERS, seed=7, churn_interval=CHURN_SECONDS if keep else None)
            backend = await stack.enter_async_context(BackendProcess.start(settings))
            url = backend.url
            tokens = {cluster: await backend.issue_token(cluster, user="ada") for cluster in CLUSTERS}
            account.tell("demo", f"a simulated backend with {len(CLUSTERS)} clusters listens at {url}")
        else:
            url, tokens = target.url, {target.cluster: target.token}
        session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trace_configs=[account.trace()])
        await stack.enter_async_context(session)
        transport = await stack.enter_async_context(HttpTransport(url, session=session))
        client = await stack.enter_async_context(QueryClient())
        clusters = await stack.enter_async_context(ClusterClient(client, transport, current_cluster=next(iter(tokens))))
        stack.enter_context(account.listening(client))
        scene = Scene(account, client, clusters, tokens, backend)
        await tell_story(scene)
        account.summary(client)
        if keep:
            await follow_pods(scene, sleep)
    return account.holds


async def tell_story(scene: Scene) -> None:
    """Tell it, chapter by chapter."""
    await log_in(scene)
    await know_who(scene)
    await share_a_request(scene)
    await see_a_change(scene)
    await lose_the_login(scene)


async def log_in(scene: Scene) -> None:
    """Set each cluster's token."""
    scene.account.chapter("1. Log in")
    for cluster, token in scene.tokens.items():
        await scene.clusters.set_token(cluster, token)
    health = await scene.clusters.test_cluster_health(list(scene.tokens))
    scene.account.claim(f"{', '.join(health)}: healthy", holds=all(each is True for each in health.values()))


async def know_who(scene: Scene) -> None:
    """Ask who the user is, twice."""
    scene.account.chapter("2. Who am I? Asked twice, told by the server once")
    before = scene.account.requests
    me = await scene.clusters.cluster_me(scene.cluster)
    again = await scene.clusters.cluster_me(scene.cluster)
    scene.account.claim("the second answer is the first, from the cache", holds=again is me)
    scene.account.claim("one request on the wire", holds=scene.account.requests == before + 1)
    scene.account.tell("demo", "a route guard asks whether the login is good, and keeps the answer under ('auth', …)")
    await scene.client.query(scene.clusters.auth_options(scene.cluster))


async def share_a_request(scene: Scene) -> None:
    """Let two consumers ask at the same time."""
    scene.account.chapter("3. Two consumers want the pods at the same time")
    before = scene.account.requests
    first, second = await asyncio.gather(scene.pods(), scene.pods())
    scene.account.claim(f"both have the same {len(first)} pods", holds=first is second)
    scene.account.claim("one request on the wire", holds=scene.account.requests == before + 1)
    await scene.pods()
    scene.account.claim("a third comes later: from the cache", holds=scene.account.requests == before + 1)


async def see_a_change(scene: Scene) -> None:
    """Create a namespace, and remove it, while somebody follows the list."""
    scene.account.chapter("4. A namespace comes and goes, and who follows the list sees it")
    name = f"querykit-demo-{secrets.token_hex(3)}"
    key = ("namespaces", scene.cluster)
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    async with scene.namespaces() as results:
        names = await _settled(results)
        scene.account.tell("demo", f"{len(names)} namespaces")
        try:
            await scene.clusters.post("/api/v1/namespaces", body, cluster=scene.cluster)
        except ApiError as error:
            scene.account.tell("demo", f"this token may not create one ({error}): on to the next chapter")
            return
        await scene.client.invalidate_queries(key)
        names = await _settled(results)
        scene.account.claim(f"{name} is in the list that is followed", holds=name in names)
        await scene.clusters.remove(f"/api/v1/namespaces/{name}", cluster=scene.cluster)
        if scene.backend is None:  # a real cluster takes its time to empty a namespace
            return
        await scene.client.invalidate_queries(key)
        names = await _settled(results)
        scene.account.claim("and out of it again", holds=name not in names)


async def _settled(results: Observation[list[str]]) -> list[str]:
    """Return the data of the next result that nothing is being fetched for."""
    while True:
        result = await anext(results)
        if result.error is not None:
            raise result.error
        if result.data is not None and not result.is_fetching and not result.is_stale:
            return result.data


async def lose_the_login(scene: Scene) -> None:
    """Let the token expire where the backend is ours; log out of a real one."""
    cluster, account = scene.cluster, scene.account
    held = scene.has("clusterMe", cluster) and scene.has("auth", cluster) and scene.has("pods", cluster)
    if scene.backend is None:
        account.chapter("5. Log out")
        account.claim("the cache holds clusterMe, auth and the pods", holds=held)
        await scene.clusters.logout(cluster)
    else:
        account.chapter("5. The token expires, and a request finds out")
        account.claim("the cache holds clusterMe, auth and the pods", holds=held)
        await scene.backend.expire_token(scene.tokens[cluster])
        account.tell("demo", "the logout is told to the backend by set-token, without a token")
        try:
            await scene.clusters.cluster_request("/api/v1/nodes", cluster=cluster)
        except ApiError as error:
            account.claim(f"the caller gets the server's own answer: {error}", holds=error.status == 401)
    gone = not (scene.has("clusterMe", cluster) or scene.has("auth", cluster))
    account.claim(f"('auth', …) and ('clusterMe', {cluster!r}) are gone", holds=gone)
    account.claim("so is everything else that was read with that token", holds=not scene.has("pods", cluster))


async def follow_pods(scene: Scene, sleep: Callable[[float], Awaitable[object]]) -> None:
    """Log in again, and follow the pods until cancelled."""
    cluster = scene.cluster
    scene.account.chapter("The backend stays up: following the pods until Ctrl-C")
    token = scene.tokens[cluster]
    if scene.backend is not None:
        token = await scene.backend.issue_token(cluster, user="ada", expires_in=None)
    await scene.clusters.set_token(cluster, token)
    while True:
        pods = await scene.pods()
        scene.account.tell("demo", f"{len(pods)} pods in {cluster}")
        await sleep(LOOK_SECONDS)
        await scene.client.invalidate_queries(("pods", cluster))
