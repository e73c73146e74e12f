"""One request from its arguments to its answer: credentials, sending, and what each answer sets off."""

import enum
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import aiohttp
import msgspec
from multidict import CIMultiDict

from querykit.checks import Seconds
from querykit.client import QueryClient
from querykit.cluster.auth import Auth
from querykit.cluster.logins import Credential
from querykit.cluster.names import namespace_of, path_of
from querykit.cluster.parameters import Parameters
from querykit.cluster.sources import Sources
from querykit.errors import ApiError, InvalidBody
from querykit.http import EncodedPath, HttpTransport, RequestOptions, error_from
from querykit.signals import auth_failed, emit, reload_requested

__all__ = ["NO_JSON", "Requests", "decoded"]

TIMEOUT: Final = 120.0


class NoJson(enum.Enum):
    """The type of `NO_JSON`: a request without a JSON body, where None would be `null`."""

    NO_JSON = enum.auto()


NO_JSON: Final = NoJson.NO_JSON


class Requests:
    """Sends the requests of one `ClusterClient`."""

    def __init__(self, client: QueryClient, transport: HttpTransport, sources: Sources) -> None:
        self._client = client
        self._transport = transport
        self._sources = sources
        self.auth = Auth(client, self._tell)

    def __repr__(self) -> str:
        return f"<Requests over {self._transport!r}>"

    async def send(
        self,
        method: str,
        path: str,
        *,
        cluster: str | None = None,
        query_params: Parameters | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = NO_JSON,
        body: bytes | str | None = None,
        timeout: Seconds | None = TIMEOUT,
        auto_logout: bool = True,
        with_phrase: bool = True,
    ) -> aiohttp.ClientResponse:
        """Return a good answer, its body read; see `ClusterClient.cluster_request`.

        Raises:
            ApiError: the answer is another, or there is none.
        """
        route = path_of(path, cluster)
        sent: CIMultiDict[str] = CIMultiDict(headers or {})
        options = RequestOptions(params=query_params, headers=sent, data=body, timeout=timeout)
        if json is not NO_JSON:
            options["json"] = json
        credential = None
        if cluster is not None:
            credential = await self.auth.credential(cluster, has_header="Authorization" in sent)
        self._add_credentials(sent, cluster, credential)  # no await between this and naming them
        response = await self._exchange(method, route, cluster, options)
        if credential is not None:
            self.auth.take_cookies(credential, response.headers.getall("Set-Cookie", ()))
        error = await self._look_at(response, route, cluster, with_phrase=with_phrase)
        if error is None:
            return response
        if error.status == 401 and auto_logout and credential is not None and credential.counts:
            await self.auth.refused(credential)
        raise error

    async def _exchange(
        self, method: str, route: EncodedPath, cluster: str | None, options: RequestOptions
    ) -> aiohttp.ClientResponse:
        try:
            return await self._transport.send(method, route, **options)
        except ApiError as error:
            _place(error, cluster, route)
            raise

    async def _look_at(
        self, response: aiohttp.ClientResponse, route: EncodedPath, cluster: str | None, *, with_phrase: bool
    ) -> ApiError | None:
        """Tell of what an answer brings along, and return the error that it is, if it is one."""
        if any("reload" in value for value in response.headers.getall("X-Reload", ())):
            emit(reload_requested, self._client, cluster=cluster, url=_shown(response))
        if 200 <= response.status < 300:
            return None
        error = error_from(response, await response.read(), with_phrase=with_phrase)
        _place(error, cluster, route)
        if response.status == 401:
            emit(auth_failed, self._client, cluster=cluster, error=error)
        return error

    def _add_credentials(self, headers: CIMultiDict[str], cluster: str | None, credential: Credential | None) -> None:
        for name, value in self._sources.headers(cluster).items():
            headers.setdefault(name, value)
        if credential is None:
            return
        if credential.bearer:
            headers.setdefault("Authorization", f"Bearer {credential.bearer}")
        if credential.cookie:
            own = headers.get("Cookie")
            headers["Cookie"] = f"{credential.cookie}; {own}" if own else credential.cookie

    async def _tell(self, cluster: str, token: str | None, *, cookie: str, timeout: float) -> Sequence[str]:
        """Set or clear a token at the backend; return the `Set-Cookie` headers of its answer."""
        route = path_of("set-token", cluster)
        sent: CIMultiDict[str] = CIMultiDict({"Cookie": cookie} if cookie else {})
        sent.update(self._sources.headers(None))
        options = RequestOptions(headers=sent, json={"token": token}, timeout=timeout)
        response = await self._exchange("POST", route, cluster, options)
        error = await self._look_at(response, route, cluster, with_phrase=False)
        if error is not None:
            raise error
        return response.headers.getall("Set-Cookie", ())


def decoded(response: aiohttp.ClientResponse, body: bytes, type: Any, *, cluster: str | None, path: str) -> Any:
    """Return the data of a good answer; None for an empty body.

    Args:
        response: the answer.
        body: its body.
        type: what it is decoded as.
        cluster: the cluster that was asked.
        path: what it was asked for.

    Raises:
        InvalidBody: the body is not JSON, or not of this type.
    """
    if not body:
        return None
    try:
        return msgspec.json.decode(body, type=type)
    except (ValueError, RecursionError) as error:
        said = str(error)
    invalid = InvalidBody(
        f"{_phrase(response)} - the body is not what was asked for: {said}",
        status=response.status,
        url=_shown(response),
        method=response.method,
    )
    _place(invalid, cluster, path_of(path, cluster))
    raise invalid


def _phrase(response: aiohttp.ClientResponse) -> str:
    known = {status.value: status.phrase for status in HTTPStatus}
    return response.reason or known.get(response.status, str(response.status))


def _place(error: ApiError, cluster: str | None, route: EncodedPath) -> None:
    error.cluster = cluster
    error.namespace = namespace_of(route)


def _shown(response: aiohttp.ClientResponse) -> str:
    return str(response.url.with_user(None).with_query(None).with_fragment(None))
