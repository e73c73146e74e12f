"""One table translates what aiohttp raises; a cause that is kept holds no secret."""

from __future__ import annotations

import asyncio
import logging
import ssl
import traceback
from collections.abc import Iterator

import aiohttp
import pytest
import trustme
import yarl
from aiohttp import client_exceptions, web
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict, CIMultiDictProxy

from querykit.errors import kept
from querykit.http import ApiError, RequestTimeout, Unreachable
from querykit.http.failures import TABLE, harmless, row_of, translated
from querykit.retry import is_transient

SECRET = "s3cret"
URL = yarl.URL(f"https://ada:{SECRET}@example.com/pods?token={SECRET}#{SECRET}")


def with_subclasses(kind: type[BaseException]) -> Iterator[type[BaseException]]:
    yield kind
    for each in kind.__subclasses__():
        yield from with_subclasses(each)


def aiohttp_classes() -> list[type[BaseException]]:
    found = {*with_subclasses(aiohttp.ClientError), *with_subclasses(HttpProcessingError)}
    for value in vars(client_exceptions).values():
        if isinstance(value, type) and issubclass(value, BaseException):
            found.add(value)
    return sorted((each for each in found if each.__module__.startswith("aiohttp.")), key=lambda each: each.__name__)


CLASSES = aiohttp_classes()
WITHOUT_A_ROW = {"ClientError", "UploadAbortedError"}  # the latter needs an upload tracker; none is given


def make(kind: type[BaseException]) -> BaseException:
    """An error of that class which holds the secret wherever one can."""
    key = ConnectionKey("h", 1, False, True, URL, SECRET, None)
    headers = CIMultiDictProxy(CIMultiDict({"Authorization": SECRET}))
    if issubclass(kind, aiohttp.ClientResponseError):
        about = aiohttp.RequestInfo(URL, "GET", headers, URL)
        return kind(about, (), status=407, message=SECRET, headers=headers)
    if issubclass(kind, client_exceptions.UnixClientConnectorError):
        return kind("/run/x", key, OSError(2, "none"))
    if issubclass(kind, aiohttp.ClientConnectorCertificateError):
        return kind(key, ssl.SSLCertVerificationError(1, "unknown authority"))
    if issubclass(kind, aiohttp.ClientConnectorError):
        return kind(key, OSError(111, "refused"))
    if kind is aiohttp.ServerFingerprintMismatch:
        return kind(b"a", b"b", "h", 1)
    if kind is HttpProcessingError:
        return kind(message=SECRET, headers=headers)
    if issubclass(kind, OSError) and not issubclass(kind, TimeoutError):
        return kind(104, "reset")
    if kind in (aiohttp.ClientError, aiohttp.ClientConnectionError, aiohttp.ServerConnectionError):
        return kind("closed")
    return kind(SECRET)


def told_by(error: BaseException | None) -> str:
    """All that an error and its causes show, or hold."""
    text = ""
    while error is not None:
        text += f"{error} {error!r} {error.args} {vars(error)} {traceback.format_exception(error)}"
        for value in vars(error).values():
            text += f"{value!r} {value}"
        error = error.__cause__ or error.__context__
    return text


@pytest.mark.parametrize("kind", CLASSES)
def test_every_class_of_aiohttp_has_a_row(kind):
    assert (row_of(kind) is TABLE[aiohttp.ClientError]) == (kind.__name__ in WITHOUT_A_ROW)


def test_the_most_specific_row_wins():
    assert row_of(aiohttp.ConnectionTimeoutError) is TABLE[aiohttp.ServerTimeoutError]
    assert row_of(aiohttp.ClientConnectorSSLError) is TABLE[aiohttp.ClientSSLError]
    assert row_of(aiohttp.ClientConnectionResetError) is TABLE[aiohttp.ClientConnectionError]
    assert row_of(ConnectionResetError) is TABLE[OSError]


@pytest.mark.parametrize("kind", CLASSES)
def test_what_is_kept_of_an_error_holds_no_secret(kind):
    error = make(kind)
    error.__cause__ = make(aiohttp.ClientPayloadError)
    error.__cause__.__cause__ = ValueError(f"cannot parse {SECRET}")
    failure = translated(error, "GET", URL, 5)
    assert type(failure.__cause__) is kind
    assert failure.url == "https://example.com/pods"
    assert SECRET not in told_by(failure)
    assert SECRET not in told_by(kept(failure))


@pytest.mark.parametrize(
    ("error", "becomes", "status", "says"),
    [
        (TimeoutError(), RequestTimeout, 408, "Request Timeout - no whole answer within 5 s"),
        (make(aiohttp.SocketTimeoutError), RequestTimeout, 408, "Request Timeout - no whole answer in time"),
        (make(aiohttp.ClientConnectorError), Unreachable, 502, "Unreachable - no connection: refused"),
        (
            make(aiohttp.ClientHttpProxyError),
            Unreachable,
            502,
            "Unreachable - the proxy refused to connect, with status 407",
        ),
        (ConnectionResetError(), Unreachable, 502, "Unreachable - the connection was lost: ConnectionResetError"),
        (make(aiohttp.TooManyRedirects), ApiError, None, "Request Failed - aiohttp refused the request"),
    ],
)
def test_an_error_becomes_what_its_row_says(error, becomes, status, says):
    failure = translated(error, "PUT", URL, 5)
    assert type(failure) is becomes
    assert (failure.status, failure.method) == (status, "PUT")
    assert failure.message.startswith(says)


def test_a_system_timeout_without_a_limit_says_so():
    assert "within the time it had" in translated(TimeoutError(), "GET", URL, None).message


def test_a_cause_that_was_copied_has_no_traceback():
    try:
        raise make(aiohttp.ClientOSError) from OSError(1, "below")
    except OSError as error:
        copied = harmless(error, "GET", URL)
    assert copied.__traceback__ is None
    assert copied.__cause__.args == (1, "below")


@pytest.mark.parametrize("kind", [aiohttp.ClientConnectorCertificateError, aiohttp.ServerFingerprintMismatch])
def test_S9_a_refused_certificate_is_never_retried(kind):
    assert not is_transient(translated(make(kind), "GET", URL, 5))


@pytest.mark.parametrize("kind", [aiohttp.ClientConnectorError, aiohttp.ClientPayloadError, TimeoutError])
def test_S9_a_lost_connection_and_a_timeout_are_retried(kind):
    assert is_transient(translated(make(kind), "GET", URL, 5))


# --- on real wires ---


async def failure_of(transport, *args, **options) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await transport.request(*args, **options)
    return caught.value


async def test_no_server_is_unreachable(connect, unused_tcp_port):
    failure = await failure_of(connect(f"http://127.0.0.1:{unused_tcp_port}"), "GET", "/pods")
    assert isinstance(failure, Unreachable)
    assert isinstance(failure.__cause__, aiohttp.ClientConnectorError)
    assert failure.url == f"http://127.0.0.1:{unused_tcp_port}/pods"


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"s3cret garbage\r\n\r\n", id="no-http"),
        pytest.param(HEAD + b"X-Bad s3cret\r\n\r\n", id="bad-header"),
        pytest.param(HEAD + b"Set-Cookie: a=s3cret" + b"x" * 9000 + b"\r\n\r\n", id="long-header"),
        pytest.param(HEAD + b"Content-Length: 10\r\n\r\n{s3", id="cut-body"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\ns3cre", id="cut-chunk"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\ns3cret\r\n", id="bad-chunk"),
        pytest.param(HEAD + b"Content-Encoding: gzip\r\nContent-Length: 6\r\n\r\ns3cret", id="bad-gzip"),
        pytest.param(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", id="upgrade"),
    ],
)  # fmt: skip
async def test_a_broken_answer_is_unreachable(connect, wire, answer):
    transport = connect(await wire(answer), headers={"Authorization": SECRET})
    failure = await failure_of(transport, "GET", "/pods", params={"token": SECRET})
    assert isinstance(failure, Unreachable)
    assert SECRET not in told_by(failure)
    assert is_transient(failure)


async def test_the_timeout_covers_a_body_that_drips(connect, wire):
    gone = asyncio.Event()

    async def drip(reader, writer):
        writer.write(HEAD + b"Content-Length: 1000\r\n\r\n")
        end = asyncio.ensure_future(reader.read())
        while not end.done():
            writer.write(b" ")
            await asyncio.wait([end], timeout=0.01)
        end.exception()
        gone.set()

    failure = await failure_of(connect(await wire(drip), timeout=0.1), "GET", "/pods")
    assert isinstance(failure, RequestTimeout)
    assert isinstance(failure.__cause__, TimeoutError)
    await gone.wait()  # the connection was closed


async def test_the_timeout_covers_the_wait_for_an_answer(connect, wire):
    async def say_nothing(reader, writer):
        await reader.read()

    url = await wire(say_nothing)
    assert (await failure_of(connect(url), "GET", "/pods", timeout=0.05)).status == 408
    assert "0.05 s" in (await failure_of(connect(url, timeout=0.05), "POST", "/pods", json=1)).message


async def test_a_callers_cancellation_comes_through_and_closes_the_connection(connect, wire):
    asked, gone = asyncio.Event(), asyncio.Event()

    async def half(reader, writer):
        writer.write(HEAD + b"Content-Length: 1000\r\n\r\n{")
        asked.set()
        await reader.read()
        gone.set()

    task = asyncio.create_task(connect(await wire(half)).get("/pods"))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await gone.wait()


async def test_a_closed_transport_sends_nothing_more(reach):
    async def handler(request):
        raise AssertionError

    transport = await reach(handler)
    await transport.aclose()
    await transport.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await transport.get("/pods")


async def test_no_failure_shows_or_logs_a_secret(connect, serve, wire, unused_tcp_port, caplog):
    async def refuse(request):
        return web.json_response({"message": "no"}, status=403, headers={"Set-Cookie": f"a={SECRET}"})

    caplog.set_level(logging.DEBUG)
    given = {"Authorization": SECRET, "Cookie": f"a={SECRET}", "KUBECONFIG": SECRET}
    told = ""
    nowhere = f"http://127.0.0.1:{unused_tcp_port}"
    for url in (await serve(refuse), await wire(b""), await wire(HEAD + b"\r\n{"), nowhere):
        transport = connect(url, headers=given)
        failure = await failure_of(transport, "POST", "/pods", headers=given, params={"t": SECRET}, json=SECRET)
        told += told_by(failure) + told_by(kept(failure)) + repr(transport)
    via = connect("http://example.invalid", proxy=f"http://ada:{SECRET}@127.0.0.1:{unused_tcp_port}")
    told += told_by(await failure_of(via, "GET", "/pods")) + repr(via)
    via = connect("https://example.invalid", proxy=nowhere, proxy_auth=("ada", SECRET), proxy_headers=given)
    told += told_by(await failure_of(via, "GET", "/pods")) + repr(via)
    assert SECRET not in told + caplog.text


# --- certificates and proxies ---


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def secure(serve, authority, stack, reported):
    stack.callback(reported.take)  # asyncio's server tells its loop of a client that refuses its certificate
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)

    async def handler(request):
        return web.json_response(request.headers.get("Authorization"))

    return await serve(handler, ssl=context)


@pytest.fixture
def trusting(authority) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_a_certificate_of_a_known_authority_is_accepted(connect, secure, trusting):
    assert await connect(secure, ssl=trusting, headers={"Authorization": "x"}).get("/") == "x"


async def test_S9_a_certificate_of_an_unknown_authority_is_refused_and_not_retried(connect, secure):
    failure = await failure_of(connect(secure, headers={"Authorization": SECRET}), "GET", "/")
    assert isinstance(failure, Unreachable)
    assert isinstance(failure.__cause__, ssl.SSLCertVerificationError)
    assert "certificate" in failure.message
    assert not is_transient(failure)
    assert SECRET not in told_by(failure)


async def test_S9_another_fingerprint_is_refused_and_not_retried(connect, secure):
    failure = await failure_of(connect(secure, ssl=aiohttp.Fingerprint(b"x" * 32)), "GET", "/")
    assert isinstance(failure.__cause__, aiohttp.ServerFingerprintMismatch)
    assert not is_transient(failure)


@pytest.fixture
async def proxy(stack):
    """A small HTTP proxy: it tunnels, or answers with what it was asked. Returns its address and the heads."""
    heads: list[str] = []

    async def copy(reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def talk(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        heads.append(head)
        method, target, _ = head.split(" ", 2)
        if "Basic YWRhOnMzY3JldA==" not in head:
            writer.write(b"HTTP/1.1 407 Proxy s3cret\r\nContent-Length: 0\r\n\r\n")
        elif method == "CONNECT":
            host, port = target.rsplit(":", 1)
            onward_reader, onward_writer = await asyncio.open_connection(host, port)
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await asyncio.gather(copy(reader, onward_writer), copy(onward_reader, writer), return_exceptions=True)
        else:
            writer.write(HEAD + b"Content-Length: 4\r\n\r\ntrue")
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    stack.callback(server.close)
    return f"127.0.0.1:{server.sockets[0].getsockname()[1]}", heads


@pytest.mark.parametrize("where", ["url", "auth"])
async def test_a_proxy_tunnels_https_and_alone_sees_its_password(connect, proxy, secure, trusting, where):
    address, heads = proxy
    url = f"http://ada:{SECRET}@{address}" if where == "url" else f"http://{address}"
    auth = ("ada", SECRET) if where == "auth" else None
    hop, mine = {"X-Hop": "1"}, {"Authorization": "x"}
    transport = connect(secure, proxy=url, proxy_auth=auth, proxy_headers=hop, ssl=trusting, headers=mine)
    assert [await transport.get("/"), await transport.get("/")] == ["x", "x"]
    (head,) = heads
    assert head.startswith("CONNECT 127.0.0.1:")
    assert "X-Hop: 1" in head
    assert "Authorization: x" not in head


async def test_a_proxy_sees_a_plain_request_with_its_password(connect, proxy):
    address, heads = proxy
    transport = connect("http://example.invalid", proxy=f"http://ada:{SECRET}@{address}", headers={"X-Mine": "1"})
    assert await transport.get("/a b") is True
    (head,) = heads
    assert head.startswith("GET http://example.invalid/a%20b HTTP/1.1")
    assert "X-Mine: 1" in head


async def test_a_proxy_that_refuses_makes_the_server_unreachable(connect, proxy, secure, trusting):
    address, _ = proxy
    failure = await failure_of(connect(secure, proxy=f"http://{address}", ssl=trusting), "GET", "/")
    assert failure.message == "Unreachable - the proxy refused to connect, with status 407"
    assert SECRET not in told_by(failure)


def test_options_for_a_proxy_without_one_are_refused(connect):
    with pytest.raises(ValueError, match="without proxy"):
        connect("http://localhost", proxy_auth=("ada", SECRET))
    with pytest.raises(ValueError, match="without proxy"):
        connect("http://localhost", proxy_headers={"X": "y"})


def test_a_proxy_without_a_scheme_is_refused(connect):
    with pytest.raises(ValueError, match=r"http://proxy\.example\.com:3128") as caught:
        connect("http://localhost", proxy=f"ada:{SECRET}@proxy:3128")
    assert SECRET not in str(caught.value)
