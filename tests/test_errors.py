"""The errors' tree, and what is kept of an error (S10)."""

from __future__ import annotations

import asyncio
import gc
import inspect
import pickle
import ssl
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from hypothesis import given, strategies as st
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from querykit import errors
from querykit.errors import (
    ApiError,
    ClientClosed,
    InvalidBody,
    MissingQueryFunction,
    QueryCancelled,
    QueryCycleError,
    QuerykitError,
    QueryTimeout,
    RequestTimeout,
    Unreachable,
    WrongThread,
    kept,
    redacted,
)

SECRET = "s3cret-token"


# The tree


def test_the_tree_at_the_top_of_the_file_is_the_tree_of_the_classes():
    drawn = [line for line in errors.__doc__.splitlines() if line.lstrip() and line.lstrip()[0].isupper()][1:]
    parents: list[str] = []
    for line in drawn:
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        del parents[depth:]
        bases = [base.__name__ for base in getattr(errors, name).__bases__]
        assert not parents or parents[-1] in bases, name
        for also in ("TimeoutError", "RuntimeError", "TypeError"):
            assert (f"also a {also}" in line) is (also in bases), name
        parents.append(name)
    classes = [
        name for name, value in vars(errors).items() if inspect.isclass(value) and value.__module__ == errors.__name__
    ]
    assert sorted(classes) == sorted(line.split()[0] for line in drawn) == sorted(errors.__all__)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (QueryCancelled(("me",)), "the fetch of ('me',) was cancelled while it was waited for"),
        (QueryCancelled(("me",), "removed"), "the fetch of ('me',) was removed while it was waited for"),
        (QueryTimeout(("me",), 2.5), "the fetch of ('me',) has not ended within its timeout of 2.5 s"),
        (QueryCycleError([("a",), ("b",), ("a",)]), "wait for each other forever: ('a',) → ('b',) → ('a',)"),
        (ApiError("Not Found - no such pod", status=404), "Not Found - no such pod"),
    ],
    ids=lambda value: repr(value) if isinstance(value, Exception) else "",
)
def test_an_error_says_which_key_and_what_happened(error, says):
    assert says in str(error)


EVERY_KIND = [
    QueryCancelled(("me",), "reset"),
    QueryTimeout(("me",), 3),
    QueryCycleError([("a",), ("b",)]),
    MissingQueryFunction("nothing to fetch with"),
    ClientClosed("closed"),
    WrongThread("elsewhere"),
    ApiError("no", status=403, reason="Forbidden", details={"kind": "pods"}, url="http://a/b", method="GET"),
    RequestTimeout("slow", status=408, cluster="prod", namespace="default"),
    Unreachable("away", status=502),
    InvalidBody("no JSON", retry_after=3.0),
]


@pytest.mark.parametrize("error", EVERY_KIND, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "copied", [kept, redacted, lambda error: pickle.loads(pickle.dumps(error))], ids=["kept", "redacted", "pickled"]
)
def test_a_copy_of_our_own_errors_says_the_same(error, copied):
    copy = copied(error)
    assert copy is not error
    assert type(copy) is type(error)
    assert (str(copy), copy.args, vars(copy)) == (str(error), error.args, vars(error))
    assert isinstance(copy, QuerykitError)


def test_QueryTimeout_is_a_TimeoutError_and_QueryCancelled_no_CancelledError():
    assert issubclass(QueryTimeout, TimeoutError)
    assert not issubclass(QueryCancelled, asyncio.CancelledError)


# What is kept (S10)


def reachable(root: object) -> Iterator[object]:
    """Everything that is kept alive by `root`, but for classes, modules and functions' globals."""
    seen: set[int] = set()
    todo = [root]
    while todo:
        value = todo.pop()
        if id(value) in seen or inspect.isclass(value) or inspect.ismodule(value) or inspect.isroutine(value):
            continue
        seen.add(id(value))
        yield value
        todo.extend(gc.get_referents(value))


def holds(root: object, secret: str = SECRET) -> list[object]:
    """The strings and bytes with the secret in them that `root` keeps alive."""
    return [
        value
        for value in reachable(root)
        if (isinstance(value, str) and secret in value) or (isinstance(value, bytes) and secret.encode() in value)
    ]


def request_info() -> aiohttp.RequestInfo:
    url = URL(f"https://ada:{SECRET}@api.test/pods?token={SECRET}#{SECRET}")
    headers = CIMultiDictProxy(CIMultiDict({"Authorization": f"Bearer {SECRET}"}))
    return aiohttp.RequestInfo(url, "GET", headers, url)


def connection_key() -> ConnectionKey:
    proxy = URL(f"http://ada:{SECRET}@proxy.test")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        auth = aiohttp.BasicAuth("ada", SECRET)
    return ConnectionKey("api.test", 443, True, True, proxy, auth, 5, None)


def raised(error: BaseException, cause: BaseException | None = None) -> Any:
    """The error, raised in a frame that has the secret, and from `cause`."""
    try:
        token = f"local {SECRET}"
        assert token
        raise error from cause
    except BaseException as caught:
        return caught


def os_error() -> OSError:
    return raised(ConnectionRefusedError(111, "refused"))


def response_error(kind: type[aiohttp.ClientResponseError]) -> aiohttp.ClientResponseError:
    headers = CIMultiDict({"Set-Cookie": f"session={SECRET}"})
    return raised(kind(request_info(), (), status=502, message="Bad Gateway", headers=headers))


AIOHTTP = {
    "ClientResponseError": lambda: response_error(aiohttp.ClientResponseError),
    "ContentTypeError": lambda: response_error(aiohttp.ContentTypeError),
    "WSServerHandshakeError": lambda: response_error(aiohttp.WSServerHandshakeError),
    "TooManyRedirects": lambda: response_error(aiohttp.TooManyRedirects),
    "ClientHttpProxyError": lambda: response_error(aiohttp.ClientHttpProxyError),
    "ClientConnectorError": lambda: raised(aiohttp.ClientConnectorError(connection_key(), os_error())),
    "ClientProxyConnectionError": lambda: raised(aiohttp.ClientProxyConnectionError(connection_key(), os_error())),
    "ClientConnectorDNSError": lambda: raised(aiohttp.ClientConnectorDNSError(connection_key(), os_error())),
    "ClientConnectorSSLError": lambda: raised(
        aiohttp.ClientConnectorSSLError(connection_key(), raised(ssl.SSLError(1, "handshake")))
    ),
    "ClientConnectorCertificateError": lambda: raised(
        aiohttp.ClientConnectorCertificateError(
            connection_key(), raised(ssl.SSLCertVerificationError(1, "self signed"))
        )
    ),
    "ServerDisconnectedError": lambda: raised(aiohttp.ServerDisconnectedError("gone")),
    "ClientPayloadError": lambda: raised(aiohttp.ClientPayloadError("half"), cause=os_error()),
    "InvalidURL": lambda: raised(aiohttp.InvalidURL(URL(f"http://ada:{SECRET}@a.test/"), "bad")),
}


@pytest.mark.parametrize("name", AIOHTTP)
@pytest.mark.parametrize("copied", [kept, redacted])
def test_S10_no_secret_is_reachable_from_what_is_kept_of_an_aiohttp_error(name, copied):
    error = AIOHTTP[name]()
    assert holds(error), "the test would prove nothing"
    copy = copied(error)
    assert type(copy) is type(error)
    assert not holds(copy)
    assert SECRET not in str(copy) + repr(copy)
    assert not [value for value in reachable(copy) if isinstance(value, (TracebackType, FrameType))]


def test_S10_the_error_itself_is_left_as_it_is():
    error = AIOHTTP["ClientConnectorError"]()
    before = (error.args, dict(vars(error)), error.__traceback__, error.__cause__)
    kept(error)
    assert (error.args, dict(vars(error)), error.__traceback__, error.__cause__) == before


def test_S10_what_a_reader_needs_of_an_aiohttp_error_is_kept():
    copy: Any = kept(AIOHTTP["ClientResponseError"]())
    assert (copy.status, copy.message) == (502, "Bad Gateway")
    assert copy.request_info.method == "GET"
    assert str(copy.request_info.url) == "https://api.test/pods"
    assert copy.request_info is copy.args[0] or copy.request_info == copy.args[0]
    assert "502" in str(copy)
    copy = kept(AIOHTTP["ClientConnectorError"]())
    assert (copy.host, copy.port, copy.errno, copy.strerror) == ("api.test", 443, 111, "refused")
    assert isinstance(copy.os_error, ConnectionRefusedError)
    assert "Cannot connect to host api.test:443" in str(copy)


def test_S10_a_relative_url_in_an_error_loses_its_query():
    error = ValueError(URL(f"/pods?token={SECRET}"))
    assert kept(error).args == (URL("/pods"),)


@pytest.mark.parametrize("name", ["request", "_request", "response", "_response", "history", "headers"])
def test_S10_an_error_of_another_http_library_loses_its_request_and_response(name):
    class HttpError(Exception):
        pass

    error = HttpError("no", carried := {"Authorization": SECRET})
    setattr(error, name, carried)
    error.code = 7
    copy: Any = kept(error)
    assert not holds(copy)
    assert getattr(copy, name) is None
    assert (copy.args, copy.code) == (("no", None), 7)


def test_S10_neither_context_nor_traceback_nor_an_object_in_a_note_is_kept():
    class Request:
        headers = f"headers {SECRET}"

    def fail() -> None:
        request = Request()
        request.token = f"own {SECRET}"
        try:
            raise LookupError(request)
        except LookupError:
            raise ValueError("no")  # noqa: B904

    with pytest.raises(ValueError, match="no") as caught:
        fail()
    error = caught.value
    error.add_note("while listing pods")
    error.__notes__.append(error.__context__)
    copy = kept(error)
    assert copy.__context__ is None
    assert copy.__traceback__ is None
    assert copy.__notes__ == ["while listing pods"]
    assert not [value for value in reachable(copy) if isinstance(value, Request)]
    copy.add_note("another")
    assert "another" not in error.__notes__


def test_S10_an_attribute_error_lets_go_of_the_object_that_lacked_the_attribute():
    class Response:
        pass

    with pytest.raises(AttributeError) as caught:
        Response().jsn()
    copy = kept(caught.value)
    assert str(copy) == str(caught.value)
    assert copy.name == "jsn"
    assert not [value for value in reachable(copy) if isinstance(value, Response)]


def test_S10_causes_are_kept_as_copies():
    deepest = raised(KeyError("pods"))
    middle = raised(ValueError("no"), cause=deepest)
    copy = kept(raised(RuntimeError("failed"), cause=middle))
    assert repr(copy) == "RuntimeError('failed')"
    assert repr(copy.__cause__) == "ValueError('no')"
    assert repr(copy.__cause__.__cause__) == "KeyError('pods')"
    assert copy.__cause__.__cause__.__cause__ is None
    assert copy.__suppress_context__
    assert not [value for value in reachable(copy) if isinstance(value, TracebackType)]


def test_S10_redacted_leaves_the_cause_to_the_caller():
    assert redacted(raised(ValueError("no"), cause=KeyError("a"))).__cause__ is None


@pytest.mark.parametrize("length", [1, 2, 3])
def test_S10_a_cycle_of_causes_ends(length):
    chain = [ValueError(number) for number in range(length)]
    for one, cause in zip(chain, [*chain[1:], chain[0]], strict=True):
        one.__cause__ = cause
    copy = kept(chain[0])
    seen: list[BaseException] = []
    while copy is not None and not any(copy is each for each in seen):
        seen.append(copy)
        copy = copy.__cause__
    assert [each.args for each in seen] == [each.args for each in chain]
    assert not {id(each) for each in seen} & {id(each) for each in chain}


def test_S10_a_chain_of_causes_may_be_long():
    error = ValueError(0)
    for number in range(1, 5000):
        following = ValueError(number)
        following.__cause__ = error
        error = following
    copy = kept(error)
    count = 0
    while copy is not None:
        count, copy = count + 1, copy.__cause__
    assert count == 5000


def test_S10_errors_that_an_error_holds_are_copied_too():
    inner = raised(ValueError("inner"))
    error: Any = RuntimeError("outer", inner)
    error.os_error = error.again = inner
    error.itself = error
    copy: Any = kept(error)
    assert copy.args[1] is copy.os_error is copy.again
    assert copy.os_error is not inner
    assert copy.itself is copy
    assert not [value for value in reachable(copy) if isinstance(value, TracebackType)]


def test_S10_a_group_is_copied_with_its_members():
    class MyGroup(ExceptionGroup[Exception]):
        def __new__(cls, message, errors, code):
            group = super().__new__(cls, message, errors)
            group.code = code
            return group

    members = [raised(ValueError(1)), response_error(aiohttp.ClientResponseError)]
    error = raised(MyGroup("two", members, 5), cause=members[0])
    copy: Any = kept(error)
    assert type(copy) is MyGroup
    assert (copy.message, copy.code, len(copy.exceptions)) == ("two", 5, 2)
    assert str(copy) == str(error)
    assert copy.__cause__ is copy.exceptions[0]
    assert not holds(copy)
    assert type(kept(BaseExceptionGroup("stop", [KeyboardInterrupt()]))) is BaseExceptionGroup


# Exceptions of any shape are copied without calling their classes


class OwnSignature(Exception):
    def __init__(self, code: int, *, where: str) -> None:
        super().__init__(f"code {code} at {where}")
        self.code = code
        self.where = where


class SaysItTwice(Exception):
    """Called with its own `args`, it would say "code code 5"."""

    def __init__(self, code: object) -> None:
        super().__init__(f"code {code}")


class OwnNew(Exception):
    def __new__(cls, *, code):
        error = super().__new__(cls, code)
        error.code = code
        return error

    def __init__(self, *, code):
        pass


class Slotted(Exception):
    __slots__ = ("code", "headers", "unset")

    def __init__(self, code: int) -> None:
        self.code = code
        self.headers = {"Authorization": SECRET}


@dataclass(frozen=True)
class Frozen(Exception):
    code: int


class OwnOSError(OSError):
    def __init__(self, host: str, *, error: OSError) -> None:
        super().__init__(error.errno, error.strerror)
        self.host = host


class Strict(Exception):
    def __copy__(self):
        raise AssertionError("called")

    def __reduce__(self):
        raise AssertionError("called")

    __reduce_ex__ = __deepcopy__ = __getstate__ = __reduce__


@pytest.mark.parametrize(
    "error",
    [
        OwnSignature(5, where="here"),
        SaysItTwice(5),
        OwnNew(code=5),
        Slotted(5),
        Frozen(5),
        OwnOSError("api.test", error=OSError(2, "no such file")),
        Strict(1, 2),
        OSError(2, "no such file", "pods.json"),
        OSError(2, "no such file", "pods.json", None, "nodes.json"),
        OSError("just words"),
        BlockingIOError(11, "try again", 5),
        ConnectionResetError(),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        KeyError("pods"),
        ImportError("no module", name="pods", path="/pods"),
        SyntaxError("bad", ("pods.py", 1, 2, "text", 1, 3)),
        StopIteration(3),
        StopAsyncIteration(),
        SystemExit(3),
        ssl.SSLError(1, "handshake"),
        ssl.SSLCertVerificationError(1, "self signed"),
    ],
    ids=lambda error: f"{type(error).__name__}: {error}",
)
@pytest.mark.parametrize("copied", [kept, redacted])
def test_S10_an_error_of_any_shape_is_copied_as_it_is(error, copied):
    copy: Any = copied(error)
    assert copy is not error
    assert type(copy) is type(error)
    assert (str(copy), repr(copy), copy.args) == (str(error), repr(error), error.args)
    for name in (
        "code",
        "where",
        "host",
        "errno",
        "strerror",
        "filename",
        "filename2",
        "reason",
        "start",
        "value",
        "name",
        "text",
    ):
        assert getattr(copy, name, None) == getattr(error, name, None), name
    assert not holds(copy)


@given(st.lists(st.one_of(st.text(), st.integers(), st.none()), max_size=3))
def test_S10_a_plain_error_keeps_its_arguments(args):
    assert kept(ValueError(*args)).args == tuple(args)


def test_S10_a_copy_never_fails_on_an_argument_that_answers_to_every_name():
    """Such as a mock: what is raised to the caller would be the copy's failure otherwise."""

    class Anything:
        def __getattr__(self, name: str) -> object:
            return self

    assert type(kept(ValueError(Anything()))) is ValueError
