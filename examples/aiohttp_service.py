"""A service between an upstream API and its callers: a cache for each login, and a logout that forgets at once.

    python examples/aiohttp_service.py                                # with a simulated upstream
    python examples/aiohttp_service.py 8080 https://api.example.com

    curl -c jar -d token=ada-token localhost:8080/login
    curl -b jar localhost:8080/pods/prod
    curl -b jar -X POST localhost:8080/logout

Each login has a `QueryClient` and a transport of its own, and keys say nothing of who asks: what one user was told
cannot reach another by a key that somebody forgot to make longer, and a logout is to close the two. What is the same
for everybody would belong in one more client, shared by all.
"""

import asyncio
import secrets
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable

import aiohttp
import msgspec
from aiohttp import web

from querykit import ApiError, ClientClosed, DefaultOptions, QueryCancelled, QueryClient, QueryTimeout
from querykit.http import HttpTransport

COOKIE = "login"
HOURS = 8 * 3600.0
OPTIONS: DefaultOptions = {
    "queries": {
        "stale_time": 10,  # younger data is not asked for again, whoever asks
        "stale_if_error": 300,  # and data up to five minutes old is better than an error
        "error_time": 5,  # an upstream that fails is left alone for five seconds
        "retry": 1,
        "timeout": 15,
    }
}


class Pod(msgspec.Struct, frozen=True):
    """What callers get to know of a pod."""

    name: str
    phase: str


class Login:
    """One user's credential, and what was read with it."""

    def __init__(self, upstream: str, token: str, session: aiohttp.ClientSession) -> None:
        self.http = HttpTransport(upstream, session=session, headers={"Authorization": f"Bearer {token}"}, timeout=10)
        self.client = QueryClient(default_options=OPTIONS, max_entries=1_000)

    async def pods(self, cluster: str) -> list[Pod]:
        """Return a cluster's pods: any number of callers make one request."""
        return await self.client.query(("pods", cluster), self.http.query_fn(f"/pods/{cluster}", type=list[Pod]))

    async def aclose(self) -> None:
        """Let go of everything; a fetch that runs is cancelled, and who waits for it gets `QueryCancelled`."""
        await self.client.aclose()
        await self.http.aclose()


class Service:
    """The handlers, and the logins that they serve."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.logins: dict[str, Login] = {}

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self.errors])
        app.cleanup_ctx.append(self.running)
        app.add_routes(
            [
                web.post("/login", self.login),
                web.post("/logout", self.logout),
                web.get("/pods/{cluster:[a-z0-9-]+}", self.pods),
            ]
        )
        return app

    async def running(self, app: web.Application) -> AsyncGenerator[None]:
        """Share one pool of connections; at the end, when requests have been answered, close every login."""
        del app
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as self.session:
            yield
            await asyncio.gather(*map(self.end, list(self.logins)))

    async def login(self, request: web.Request) -> web.Response:
        """Take a token that the upstream takes."""
        login = Login(self.upstream, str((await request.post()).get("token", "")), self.session)
        try:
            await login.http.get("/me")
        except BaseException:
            await login.aclose()
            raise
        name = secrets.token_urlsafe()
        self.logins[name] = login
        login.client.own(self.expire(name), "the end of a login")
        response = web.json_response({})
        response.set_cookie(COOKIE, name, httponly=True, samesite="Strict")  # and secure=True behind TLS
        return response

    async def logout(self, request: web.Request) -> web.Response:
        await self.end(request.cookies.get(COOKIE, ""))
        response = web.json_response({})
        response.del_cookie(COOKIE)
        return response

    async def pods(self, request: web.Request) -> web.Response:
        login = self.logins.get(request.cookies.get(COOKIE, ""))
        if login is None:
            raise web.HTTPUnauthorized(text="log in first")
        pods = await login.pods(request.match_info["cluster"])
        return web.Response(body=msgspec.json.encode(pods), content_type="application/json")

    async def end(self, name: str) -> None:
        """End a login. From the call on nobody is served from it."""
        login = self.logins.pop(name, None)
        if login is not None:
            await login.aclose()

    async def expire(self, name: str) -> None:
        await asyncio.sleep(HOURS)
        await self.end(name)

    @web.middleware
    async def errors(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Say in HTTP what went wrong on the way to the upstream."""
        try:
            return await handler(request)
        except (QueryCancelled, ClientClosed):
            raise web.HTTPUnauthorized(text="logged out meanwhile") from None
        except QueryTimeout:
            raise web.HTTPGatewayTimeout(text="the upstream took too long") from None
        except ApiError as error:
            if error.status == 401:  # the upstream no longer takes the token: nothing of it is kept
                await self.end(request.cookies.get(COOKIE, ""))
                raise web.HTTPUnauthorized(text="log in again") from None
            if error.status in (403, 404):
                return web.Response(status=error.status, text=error.message)
            raise web.HTTPBadGateway(text="the upstream fails") from None


def simulated_upstream() -> web.Application:
    """Return an API that takes the tokens of ada and bob, and shows each his own pods."""
    users = {"Bearer ada-token": "ada", "Bearer bob-token": "bob"}

    async def answer(request: web.Request) -> web.Response:
        user = users.get(request.headers.get("Authorization", ""))
        if user is None:
            raise web.HTTPUnauthorized
        return web.json_response([{"name": f"{user}-web-{n}", "phase": "Running"} for n in (1, 2)])

    app = web.Application()
    app.add_routes([web.get("/me", answer), web.get("/pods/{cluster}", answer)])
    return app


def main(port: int = 8080, upstream: str | None = None) -> None:
    """Serve until the process is told to end."""
    app = Service(upstream or f"http://localhost:{port}/upstream").app()
    if upstream is None:
        app.add_subapp("/upstream", simulated_upstream())
    web.run_app(app, host="localhost", port=port)


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 8080, *sys.argv[2:3])
