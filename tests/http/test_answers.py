"""What an answer says: the error in it."""

from __future__ import annotations

import json
import math

import pytest
from aiohttp import web
from multidict import CIMultiDict

from querykit.http import ApiError, error_from
from querykit.http.answers import retry_after
from querykit.retry import is_transient

STATUS = {
    "kind": "Status",
    "apiVersion": "v1",
    "status": "Failure",
    "message": 'pods "web" not found',
    "reason": "NotFound",
    "details": {"name": "web", "kind": "pods"},
    "code": 404,
}


REDIRECT = "Found - redirects are not followed; this one leads to "


async def failure_of(transport, **options) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await transport.get("/pods", **options)
    return caught.value


async def test_a_status_tells_its_message_reason_and_details(told):
    transport = await told(status=404, text=json.dumps(STATUS), content_type="application/json")
    failure = await failure_of(transport, params={"token": "s3cret"})
    assert failure.message == str(failure) == 'Not Found - pods "web" not found'
    assert (failure.status, failure.reason, failure.method) == (404, "NotFound", "GET")
    assert failure.details == STATUS["details"]
    assert failure.url == f"{transport.base_url}/pods"
    assert not is_transient(failure)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        pytest.param({"status": 400, "text": '{"message": " no "}'}, "Bad Request - no", id="message-alone"),
        pytest.param({"status": 400, "text": '{"message": 5}'}, "Bad Request", id="message-no-text"),
        pytest.param({"status": 400, "text": "[1]", "content_type": "application/json"}, "Bad Request", id="no-object"),
        pytest.param({"status": 400, "text": "{x", "content_type": "application/json"}, "Bad Request", id="no-json"),
        pytest.param({"status": 400, "text": "{x"}, "Bad Request - {x", id="text-like-json"),
        pytest.param({"status": 429, "text": " too many\n"}, "Too Many Requests - too many", id="text"),
        pytest.param(
            {"status": 400, "body": b"\xff\xfe", "content_type": "text/plain"},
            "Bad Request - ��",
            id="text-badly-encoded",
        ),
        pytest.param(
            {"status": 400, "body": "é".encode("latin1"), "headers": {"Content-Type": "text/plain; charset=latin1"}},
            "Bad Request - é",
            id="charset",
        ),
        pytest.param(
            {"status": 400, "body": b"x", "headers": {"Content-Type": "text/plain; charset=nope"}},
            "Bad Request - x",
            id="unknown-charset",
        ),
        pytest.param({"status": 502, "text": "<p>x", "content_type": "text/html"}, "Bad Gateway", id="html"),
        pytest.param({"status": 500, "body": b"\0\1"}, "Internal Server Error", id="bytes"),
        pytest.param({"status": 503}, "Service Unavailable", id="empty"),
        pytest.param({"status": 400, "reason": "Nope", "text": "x"}, "Nope - x", id="phrase-of-the-wire"),
        pytest.param({"status": 304}, "Not Modified", id="not-asked-304"),
        pytest.param({"status": 302, "headers": {"Location": "/new?t=s3cret"}}, REDIRECT + "{base}/new", id="redirect"),
        pytest.param({"status": 302, "headers": {"Location": "http://[x"}}, REDIRECT + "no URL", id="redirect-nowhere"),
        pytest.param({"status": 302}, "Found", id="redirect-without"),
    ],
)
async def test_the_message_is_the_phrase_and_what_the_body_says(told, answer, message):
    transport = await told(**answer)
    assert (await failure_of(transport)).message == message.replace("{base}", transport.base_url)


@pytest.mark.parametrize(("status", "phrase"), [(404, "Not Found"), (499, "499")])
async def test_without_a_phrase_on_the_wire_the_standard_one_is_said(connect, wire, status, phrase):
    transport = connect(await wire(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()))
    assert (await failure_of(transport)).message == phrase


async def test_a_long_text_is_cut(told):
    message = (await failure_of(await told(status=500, text="x" * 5000))).message
    assert message == "Internal Server Error - " + "x" * 1000 + "…"


async def test_the_phrase_can_be_left_out_where_the_body_says_something(told):
    said = await (await told(status=400, text="no")).send("GET", "/")
    assert error_from(said, await said.read(), with_phrase=False).message == "no"
    silent = await (await told(status=400)).send("GET", "/")
    assert error_from(silent, b"", with_phrase=False).message == "Bad Request"


async def test_a_reason_and_details_that_are_none_are_left_out(told):
    failure = await failure_of(await told(status=400, text='{"reason": 5, "details": [1]}'))
    assert (failure.reason, failure.details, failure.retry_after) == (None, None, None)
    assert (await failure_of(await told(status=400, text='{"reason": ""}'))).reason is None


@pytest.mark.parametrize(
    ("value", "details", "seconds"),
    [
        ("5", None, 5.0),
        (" 5 ", {"retryAfterSeconds": 9}, 5.0),
        ("9" * 400, None, math.inf),
        ("Wed, 21 Oct 2015 07:28:30 GMT", None, 30.0),
        ("Wed, 21 Oct 2015 07:28:30 -0000", None, 30.0),
        ("Wednesday, 21-Oct-15 07:28:30 GMT", None, 30.0),
        ("Wed Oct 21 07:28:30 2015", None, 30.0),
        ("Wed, 21 Oct 2015 07:00:00 GMT", None, 0.0),
        ("soon", None, None),
        ("-5", None, None),
        ("\u0661", None, None),
        ("Wed, 21 Oct 99999 07:00:00 GMT", None, None),
        ("", {"retryAfterSeconds": 2}, 2.0),
        ("", {"retryAfterSeconds": 0}, None),
        ("", {"retryAfterSeconds": "2"}, None),
        (None, None, None),
    ],
)
def test_S9_retry_after_is_read_from_the_header_or_the_status(value, details, seconds):
    headers = CIMultiDict({} if value is None else {"retry-after": value})
    assert retry_after(headers, details, lambda: 1445412480.0) == seconds


async def test_S9_the_seconds_to_wait_are_on_the_error(told):
    failure = await failure_of(await told(status=429, text="slow down", headers={"Retry-After": "1"}))
    assert (failure.retry_after, failure.message) == (1.0, "Too Many Requests - slow down")
    assert is_transient(failure)


async def test_a_wall_clock_is_asked_for_dates(serve, connect):
    async def handler(request):
        return web.Response(status=503, headers={"Retry-After": "Thu, 01 Jan 1970 00:01:00 GMT"})

    transport = connect(await serve(handler), wall_clock=lambda: 20.0)
    assert (await failure_of(transport)).retry_after == 40.0
