"""The Headlamp-style routes: token cookies, `/me`, and the proxy in front of each API server."""

from __future__ import annotations

import hmac

import msgspec
from aiohttp import web

from querykit.testing.backend.auth import bearer_token
from querykit.testing.backend.cookies import TokenCookies, read_cookies
from querykit.testing.backend.kubeconfigs import Context, KubeconfigError
from querykit.testing.backend.me import me
from querykit.testing.backend.simulation import Cluster, Simulation

__all__ = ["Routes"]

BACKEND_TOKEN = "X-HEADLAMP_BACKEND-TOKEN"
NO_STORE = {
    "Cache-Control": "no-store, no-cache, must-revalidate, private",
    "Pragma": "no-cache",
    "Expires": "0",
    "Vary": "Cookie",
}


class SetToken(msgspec.Struct):
    """The body of set-token; no token, or an empty one, clears."""

    token: str | None = None


class Routes:
    """The backend's own routes over one simulation."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._settings = simulation.settings

    def add_to(self, app: web.Application) -> None:
        """Register every route. The first that fits wins, so the proxy stands after the special ones."""
        base = self._simulation.base
        cluster = f"{base}/clusters/{{cluster}}"
        app.router.add_post(f"{cluster}/set-token", self.set_token)
        app.router.add_get(f"{cluster}/me", self.me)
        app.router.add_route("*", f"{cluster}/{{api:.*}}", self.proxy)
        app.router.add_post(f"{base}/auth/set-token", self.set_token_nowhere)
        app.router.add_get(f"{base}/config", self.config)
        app.router.add_get(f"{base}/plugins", self.list_plugins)
        app.router.add_route("*", "/{path:.*}", self.nothing_here)

    async def set_token(self, request: web.Request) -> web.Response:
        """Store the cluster's token in cookies, or clear them; neither token nor cluster is checked."""
        if not self._may_enter(request):
            return _denied()
        try:
            token = msgspec.json.decode(await request.read(), type=SetToken | None)
        except msgspec.DecodeError:
            return _text(400, "Invalid JSON")
        cookies = self._cookies(request)
        present = _cookies_of(request)
        secure = request.headers.get("X-Forwarded-Proto") == "https"
        if token is not None and token.token:
            written = cookies.set(token.token, present=present, secure=secure)
        else:
            written = cookies.clear(present=present, secure=secure)
        response = web.Response()
        for cookie in written:
            response.headers.add("Set-Cookie", cookie)
        return response

    async def set_token_nowhere(self, request: web.Request) -> web.Response:
        """`/auth/set-token` has no cluster in its path, so it never works."""
        return _text(400, "Cluster name is required") if self._may_enter(request) else _denied()

    async def me(self, request: web.Request) -> web.Response:
        """Who the request's token says it is: of the header, or else of the cookies."""
        if not self._may_enter(request):
            return _denied()
        token = bearer_token(request.headers.get("Authorization", ""))
        # The real handler finds the cookie's cluster in the path, and only below no base URL.
        if not token and not self._simulation.base:
            token = self._cookies(request).read(_cookies_of(request))
        code, document = me("" if "," in token else token, now=self._simulation.now())
        body = msgspec.json.encode(document)
        return web.Response(status=code, body=body, content_type="application/json", headers=NO_STORE)

    async def proxy(self, request: web.Request) -> web.Response:
        """Pass a request on to the cluster's API server."""
        if not self._may_enter(request):
            return _denied()
        name = request.match_info["cluster"]
        try:
            cluster, context = self._upstream(request, name)
        except KubeconfigError as error:
            return _text(400, str(error))
        except LookupError:
            return _text(404, "key not found")
        reload = self._simulation.plugins.take()
        if cluster is None:
            response = web.Response(status=502)
        else:
            response = await cluster.api.handle(
                request,
                f"/{request.match_info['api']}",
                authorization=self._authorization(request, context),
            )
        if reload:
            response.headers["Access-Control-Expose-Headers"] = "X-Reload"
            response.headers["X-Reload"] = "reload"
        return response

    async def config(self, request: web.Request) -> web.Response:
        """The clusters there are."""
        if not self._may_enter(request):
            return _denied()
        clusters = [
            {
                "name": cluster.name,
                "server": cluster.server,
                "auth_type": "",
                "meta_data": {
                    "source": "kubeconfig",
                    "namespace": "",
                    "extensions": None,
                    "origin": {"kubeconfig": "/simulated/kubeconfig"},
                    "originalName": cluster.name,
                    "clusterID": f"/simulated/kubeconfig+{cluster.name}",
                },
            }
            for cluster in self._simulation.clusters.values()
        ]
        return web.json_response(
            {
                "clusters": clusters,
                "isDynamicClusterEnabled": self._settings.dynamic_clusters,
                "allowKubeconfigChanges": False,
            }
        )

    async def list_plugins(self, _: web.Request) -> web.Response:
        """The plugins; from now on their changes are announced."""
        self._simulation.plugins.listed = True
        return web.json_response([])

    async def nothing_here(self, _: web.Request) -> web.Response:
        """No such route."""
        return _text(404, "404 page not found")

    def _may_enter(self, request: web.Request) -> bool:
        wanted = self._settings.backend_token
        given = request.headers.getall(BACKEND_TOKEN, [])
        if not wanted:
            return True
        return len(given) == 1 and hmac.compare_digest(given[0].encode(), wanted.encode())

    def _upstream(self, request: web.Request, name: str) -> tuple[Cluster | None, Context | None]:
        """Which API server is meant, None where nothing listens; LookupError for no such cluster."""
        kubeconfig = request.headers.get("KUBECONFIG", "")
        if not kubeconfig or not self._settings.dynamic_clusters:
            return self._simulation.clusters[name], None
        user_id = request.headers.get("X-HEADLAMP-USER-ID", "")
        context = self._simulation.contexts.resolve(kubeconfig, name, user_id)
        if context is None:
            raise LookupError(name)
        # A server that is none of ours may still be meant by the context's name.
        found = self._simulation.cluster_at(context.server)
        return found or self._simulation.clusters.get(name), context

    def _authorization(self, request: web.Request, context: Context | None) -> str | None:
        """The header that the API server sees: of the cookies, else the client's, else the context's."""
        if token := self._cookies(request).read(_cookies_of(request)):
            return f"Bearer {token}"
        own = request.headers.get("Authorization")
        if own is None and context is not None and context.token:
            return f"Bearer {context.token}"
        return own

    def _cookies(self, request: web.Request) -> TokenCookies:
        name = request.match_info["cluster"]
        return TokenCookies(
            name,
            path=f"{self._simulation.base}/clusters/{name}",
            max_age=self._settings.session_ttl,
        )


def _cookies_of(request: web.Request) -> dict[str, str]:
    return read_cookies(request.headers.getall("Cookie", []))


def _denied() -> web.Response:
    return _text(403, "access denied")


def _text(code: int, message: str) -> web.Response:
    """An error as Go's `http.Error` writes it."""
    headers = {"X-Content-Type-Options": "nosniff"}
    return web.Response(status=code, text=f"{message}\n", headers=headers)
