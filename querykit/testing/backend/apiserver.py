"""The API server of one cluster over HTTP: who asks, what he may, and which store method answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from aiohttp import web

from querykit.testing.backend import discovery, status
from querykit.testing.backend.auth import TokenAuthority, User, bearer_token
from querykit.testing.backend.deletion import DeleteOptions
from querykit.testing.backend.documents import is_array, is_object
from querykit.testing.backend.listing import ListOptions
from querykit.testing.backend.patches import patcher
from querykit.testing.backend.resources import Resource, Target, parse_target
from querykit.testing.backend.reviews import review
from querykit.testing.backend.store import Store

__all__ = ["MAX_BODY", "ApiServer"]

MAX_BODY = 3 * 1024 * 1024
# What anyone may ask without a token; a bad token is refused here too.
PUBLIC_PATHS = ("/healthz", "/livez", "/readyz", "/version")
CACHE_CONTROL = {"Cache-Control": "no-cache, private"}


class ApiServer:
    """Answers the requests of one cluster.

    `tokens` says whom the cluster knows by `name`; `clock` gives seconds since the epoch.
    """

    def __init__(self, name: str, store: Store, tokens: TokenAuthority, *, clock: Callable[[], float]) -> None:
        self._name = name
        self._store = store
        self._tokens = tokens
        self._clock = clock

    async def handle(self, request: web.Request, path: str, *, authorization: str | None) -> web.Response:
        """Answer a request for `path`; `authorization` is the header as the backend passes it on."""
        try:
            return await self._answer(request, path, authorization)
        except status.StatusError as error:
            return _json(error.document, code=error.code)

    async def _answer(self, request: web.Request, path: str, authorization: str | None) -> web.Response:
        user = None
        if authorization is not None:
            user = self._tokens.authenticate(self._name, bearer_token(authorization))
            if user is None:
                raise status.unauthorized()
        if request.method == "GET" and path in PUBLIC_PATHS:
            if path == "/version":
                return _json(discovery.VERSION)
            return web.Response(text="ok", headers=CACHE_CONTROL)
        if user is None:
            raise status.unauthorized()
        if request.method == "GET" and (found := _discover(request, path)) is not None:
            return found
        if request.method == "POST":
            body = _decoded(await _read(request))
            if is_object(body) and (answer := review(path, body, user, now=self._clock())):
                return _json(answer, code=201)
        target = parse_target(path)
        if target is None:
            return _other_path(request, path, user)
        return await self._resource(request, target, user)

    async def _resource(self, request: web.Request, target: Target, user: User) -> web.Response:
        verb = _verb(request, target)
        if not user.role.allows(verb):
            raise status.forbidden(
                user.name,
                verb,
                plural=target.plural,
                group=target.group,
                subresource=target.subresource,
                namespace=target.namespace,
                name=target.name,
            )
        resource = target.resource
        if resource is None or target.subresource:
            raise status.generic(404)
        namespace = target.namespace if resource.namespaced else ""
        match verb:
            case "list":
                options = ListOptions.from_query(request.query, resource)
                return _json(self._store.list_objects(resource, namespace, options))
            case "get":
                return _json(self._store.get(resource, target.name, namespace))
            case "create" if bool(namespace) == resource.namespaced:
                return await self._create(request, resource, namespace)
            case "update":
                return await self._update(request, resource, target.name, namespace)
            case "patch":
                return await self._patch(request, resource, target.name, namespace)
            case "delete":
                return await self._delete(request, resource, target.name, namespace)
            case _:
                raise status.generic(405)

    async def _create(self, request: web.Request, resource: Resource, namespace: str) -> web.Response:
        manifest = await _read_manifest(request, resource)
        dry_run = _dry_run(request.query, "CreateOptions")
        created = self._store.create(resource, manifest, namespace, dry_run=dry_run)
        return _json(created, code=201)

    async def _update(self, request: web.Request, resource: Resource, name: str, namespace: str) -> web.Response:
        manifest = await _read_manifest(request, resource)
        dry_run = _dry_run(request.query, "UpdateOptions")
        return _json(self._store.replace(resource, name, manifest, namespace, dry_run=dry_run))

    async def _patch(self, request: web.Request, resource: Resource, name: str, namespace: str) -> web.Response:
        apply = patcher(request.content_type, _decoded(await _read(request)))
        dry_run = _dry_run(request.query, "PatchOptions")
        return _json(self._store.patch(resource, name, apply, namespace, dry_run=dry_run))

    async def _delete(self, request: web.Request, resource: Resource, name: str, namespace: str) -> web.Response:
        # The query counts only where there is no body.
        sent = await _read(request)
        fields: object = _decoded(sent) if sent else dict(request.query)
        if not is_object(fields):
            raise status.bad_request("decoded object cannot be converted to DeleteOptions")
        options = DeleteOptions.from_fields(fields, dry_run=_dry_run(fields, "DeleteOptions"))
        return _json(self._store.delete(resource, name, namespace, options))


def _verb(request: web.Request, target: Target) -> str:
    if request.method in ("GET", "HEAD"):
        if request.query.get("watch", "").lower() in ("1", "true"):
            return "watch"
        return "get" if target.name else "list"
    if request.method == "DELETE" and not target.name:
        return "deletecollection"
    verbs = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
    return verbs.get(request.method, request.method.lower())


def _discover(request: web.Request, path: str) -> web.Response | None:
    accepted = request.headers.get("Accept", "").replace(" ", "")
    if accepted.startswith(discovery.AGGREGATED_TYPE) and (found := discovery.aggregated(path)):
        tag = discovery.etag(found)
        headers = {"ETag": tag, "Vary": "Accept", "Cache-Control": "public"}
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers=headers)
        headers["Content-Type"] = discovery.AGGREGATED_TYPE
        return web.Response(body=msgspec.json.encode(found), headers=headers)
    described = discovery.document(path)
    return None if described is None else _json(described)


def _other_path(request: web.Request, path: str, user: User) -> web.Response:
    """A path that names no resource: an administrator learns that it is not there."""
    if not user.role.allows("*"):
        raise status.forbidden(user.name, request.method.lower(), path=path)
    return web.Response(status=404, text="404 page not found\n", headers=CACHE_CONTROL)


async def _read(request: web.Request) -> bytes:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise status.request_entity_too_large(MAX_BODY) from error


def _decoded(body: bytes) -> object:
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise status.bad_request(f"the body of the request is no JSON document: json parse error: {error}") from error


async def _read_manifest(request: web.Request, resource: Resource) -> dict[str, Any]:
    body = _decoded(await _read(request))
    if not is_object(body):
        raise status.bad_request(f"the object provided is unrecognized (must be of type {resource.kind})")
    kind = body.get("kind") or resource.kind
    version = body.get("apiVersion") or resource.api_version
    if kind != resource.kind:
        raise status.bad_request(f'{kind} in version "{version}" cannot be handled as a {resource.kind}')
    if version != resource.api_version:
        raise status.bad_request(
            f"the API version in the data ({version}) does not match the expected API version ({resource.api_version})"
        )
    return body


def _dry_run(fields: Mapping[str, Any], options: str) -> bool:
    value: object = fields.get("dryRun") or ""
    # A list in a DeleteOptions body, repeated text in a query.
    text = ",".join(map(str, value)) if is_array(value) else str(value)
    if text not in ("", "All"):
        error = status.FieldError.unsupported("dryRun", text, ("All",))
        raise status.invalid(options, "", [error], group="meta.k8s.io")
    return text == "All"


def _json(document: Mapping[str, Any], *, code: int = 200) -> web.Response:
    return web.Response(
        status=code,
        body=msgspec.json.encode(document) + b"\n",
        content_type="application/json",
        headers=CACHE_CONTROL,
    )
