"""The request methods of a cluster client."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack

import aiohttp
from multidict import CIMultiDict

from querykit.checks import Seconds
from querykit.cluster.parameters import Parameters
from querykit.cluster.requests import NO_JSON, TIMEOUT, Requests, decoded

__all__ = ["ClusterOptions", "RequestMethods"]


class ClusterOptions(TypedDict, total=False):
    """What any request may be given.

    Attributes:
        cluster: the cluster it is for.
        headers: headers that go before those of the client.
        timeout: the seconds, or a `timedelta`, for the whole exchange; None for no limit.
        auto_logout_on_auth_error: whether a 401 logs out of the cluster.
        is_json: whether the answer is JSON; if not, the response itself is returned, its body read.
        query_params: query parameters; None is left out.
        type: what the JSON is decoded as, such as a `msgspec.Struct`.
    """

    cluster: str | None
    headers: Mapping[str, str] | None
    timeout: Seconds | None
    auto_logout_on_auth_error: bool
    is_json: bool
    query_params: Parameters | None
    type: Any


class RequestMethods:
    """What can be asked of clusters and of the backend."""

    _requests: Requests
    _current: str | None = None

    async def cluster_request(
        self,
        path: str,
        *,
        method: str = "GET",
        cluster: str | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = NO_JSON,
        body: bytes | str | None = None,
        timeout: Seconds | None = TIMEOUT,
        auto_logout_on_auth_error: bool = True,
        is_json: bool = True,
        query_params: Parameters | None = None,
        type: Any = Any,
    ) -> Any:
        """Return what a cluster answers.

        Args:
            path: the path, such as `/api/v1/pods`; a name that may have odd characters goes through
                `querykit.http.join_path`.
            method: the HTTP method.
            cluster: the cluster; without one the path is the backend's own, or an API server's.
            headers: headers that go before those of the client.
            json: a value to send as JSON; None is `null`.
            body: a body to send as it is.
            timeout: the seconds for the whole exchange, body included; None for no limit.
            auto_logout_on_auth_error: whether a 401 logs out of the cluster.
            is_json: whether the answer is JSON; if not, the response itself is returned, its body read.
            query_params: query parameters; None is left out.
            type: what the JSON is decoded as.

        Returns:
            The data, or None for an empty body; or the response.

        Raises:
            ApiError: the status is none of success; its message begins with the phrase of the status.
            RequestTimeout: no whole answer came in time.
            Unreachable: no connection was made, or it broke.
            InvalidBody: the body is not JSON, or not of this type.
            TypeError: an argument is of a wrong type.
            ValueError: the path or the cluster's name cannot be used.
        """
        accept: CIMultiDict[str] = CIMultiDict(headers or {})
        if is_json:
            accept.setdefault("Accept", "application/json")
        cluster = cluster or None
        response = await self._requests.send(
            method,
            path,
            cluster=cluster,
            headers=accept,
            json=json,
            body=body,
            timeout=timeout,
            auto_logout=auto_logout_on_auth_error,
            query_params=query_params,
        )
        if not is_json:
            return response
        return decoded(response, await response.read(), type, cluster=cluster, path=path)

    async def request(
        self,
        path: str,
        *,
        method: str = "GET",
        use_cluster: bool = True,
        json: Any = NO_JSON,
        body: bytes | str | None = None,
        **options: Unpack[ClusterOptions],
    ) -> Any:
        """Return what the given cluster answers, or else the current one; see `cluster_request`.

        Args:
            path: the path.
            method: the HTTP method.
            use_cluster: False asks the backend itself.
            json: a value to send as JSON.
            body: a body to send as it is.
            options: see `ClusterOptions`.
        """
        options["cluster"] = (options.get("cluster") or self._current) if use_cluster else None
        return await self.cluster_request(path, method=method, json=json, body=body, **options)

    async def post(self, path: str, json: Any = NO_JSON, **options: Unpack[ClusterOptions]) -> Any:
        """Send a POST; see `request`."""
        return await self.request(path, method="POST", json=json, **options)

    async def put(self, path: str, json: Any = NO_JSON, **options: Unpack[ClusterOptions]) -> Any:
        """Send a PUT; see `request`."""
        return await self.request(path, method="PUT", json=json, **options)

    async def patch(
        self, path: str, changes: Mapping[str, Any] | Sequence[Mapping[str, Any]], **options: Unpack[ClusterOptions]
    ) -> Any:
        """Send a PATCH: a mapping as merge patch, a list as JSON patch; see `request`.

        Raises:
            TypeError: `changes` is neither.
        """
        if isinstance(changes, Mapping):
            return await self._patch(path, changes, "application/merge-patch+json", options)
        return await self.json_patch(path, changes, **options)

    async def json_patch(
        self, path: str, operations: Sequence[Mapping[str, Any]], **options: Unpack[ClusterOptions]
    ) -> Any:
        """Send a PATCH that is a list of operations (RFC 6902); see `request`.

        Raises:
            TypeError: `operations` is no list.
        """
        given: object = operations  # callers without a type checker are answered too
        if not isinstance(given, Sequence) or isinstance(given, (str, bytes)):
            raise TypeError(f"a patch is a mapping or a list of operations, not a {type(operations).__name__}")
        return await self._patch(path, operations, "application/json-patch+json", options)

    async def _patch(self, path: str, changes: object, content_type: str, options: ClusterOptions) -> Any:
        headers: CIMultiDict[str] = CIMultiDict(options.get("headers") or {})
        headers.setdefault("Content-Type", content_type)
        options["headers"] = headers
        return await self.request(path, method="PATCH", json=changes, **options)

    async def remove(self, path: str, json: Any = NO_JSON, **options: Unpack[ClusterOptions]) -> Any:
        """Send a DELETE, with `DeleteOptions` as `json` if there are any; see `request`."""
        return await self.request(path, method="DELETE", json=json, **options)

    async def cluster_fetch(
        self,
        path: str,
        *,
        method: str = "GET",
        json: Any = NO_JSON,
        body: bytes | str | None = None,
        **options: Unpack[ClusterOptions],
    ) -> aiohttp.ClientResponse:
        """Return a good answer itself, its body read; see `cluster_request`."""
        options["is_json"] = False
        response: aiohttp.ClientResponse = await self.cluster_request(
            path, method=method, json=json, body=body, **options
        )
        return response

    async def backend_fetch(
        self,
        path: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        json: Any = NO_JSON,
        body: bytes | str | None = None,
        timeout: Seconds | None = TIMEOUT,
        query_params: Parameters | None = None,
    ) -> aiohttp.ClientResponse:
        """Return a good answer of the backend itself, its body read.

        Raises:
            ApiError: the status is none of success; its message is what the body says, if it says anything.
            Exception: see `cluster_request`.
        """
        return await self._requests.send(
            method,
            path,
            headers=headers,
            json=json,
            body=body,
            timeout=timeout,
            query_params=query_params,
            with_phrase=False,
        )
