"""What a caller gives as text is encoded, never read as another part of the URL."""

from __future__ import annotations

import enum

import pytest
import yarl
from hypothesis import given, strategies as st

from querykit.http import EncodedPath, HttpTransport, encode_path, join_path

BASE = HttpTransport("https://example.com/base/")

encodable = st.text(st.characters(exclude_categories=["Cs"]))


def has_dots(text: str) -> bool:
    try:
        encode_path(text)
    except ValueError:
        return True
    return False


segments = encodable.filter(lambda text: text and "/" not in text and not has_dots(text))


def test_every_part_is_one_segment():
    assert join_path("clusters", "eu/west", "a?b#c", "50% +;") == "/clusters/eu%2Fwest/a%3Fb%23c/50%25%20%2B%3B"


def test_an_encoded_path_is_not_encoded_again():
    path = join_path("clusters", "eu/west")
    assert encode_path(path) is path
    assert join_path(path, "pods") == "/clusters/eu%2Fwest/pods"
    assert str(BASE.url(path)) == "https://example.com/base/clusters/eu%2Fwest"
    assert path + encode_path("/x y") == "/clusters/eu%2Fwest/x%20y"


def test_plain_text_is_not_added_to_an_encoded_path():
    with pytest.raises(TypeError, match="join_path"):
        join_path("a") + "/b?"


@pytest.mark.parametrize("text", ["a b", "a?b", "a#b", "a%b", "é"])
def test_text_that_is_not_encoded_is_no_encoded_path(text):
    with pytest.raises(ValueError, match="not percent-encoded"):
        EncodedPath(text)


@pytest.mark.parametrize(
    "segment", [".", "..", "%2e", "%2E%2e", "%252e%252e", "x/../y", "..\\x", "x%2f..%2Fy", "a%5c.."]
)
def test_a_segment_that_could_be_read_as_another_directory_is_refused(segment):
    with pytest.raises(ValueError, match=r"'\.' or '\.\.'"):
        join_path("api", segment)
    with pytest.raises(ValueError, match=r"'\.' or '\.\.'"):
        BASE.url(f"/api/{segment}/pods")
    with pytest.raises(ValueError, match=r"'\.' or '\.\.'|percent-encoded"):
        EncodedPath(f"/api/{segment}")


def test_an_empty_part_is_refused():
    with pytest.raises(ValueError, match="empty"):
        join_path("pods", "")


@pytest.mark.parametrize("path", [None, 5, b"/pods"])
def test_a_path_that_is_not_text_is_refused(path):
    with pytest.raises(TypeError, match="text"):
        join_path(path)
    with pytest.raises(TypeError, match="text"):
        BASE.url(path)


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("", "https://example.com/base"),
        ("/", "https://example.com/base/"),
        ("pods", "https://example.com/base/pods"),
        ("/pods/", "https://example.com/base/pods/"),
        ("/pods?watch=1#x", "https://example.com/base/pods%3Fwatch=1%23x"),
        ("//evil.example/x", "https://example.com/base//evil.example/x"),
        ("https://evil.example/x", "https://example.com/base/https://evil.example/x"),
        ("@evil.example", "https://example.com/base/@evil.example"),
    ],
)
def test_a_path_stays_under_the_base(path, url):
    assert str(BASE.url(path)) == url


class Level(enum.Enum):
    low = 1


class Name(str, enum.Enum):  # noqa: UP042 - its str() is not its value
    web = "web app"


def test_query_parameters_are_written_as_a_server_reads_them():
    params = {"q": "a+b c&d=e", "none": None, "yes": True, "no": False, "n": 5, "f": 0.5}
    params |= {"many": ["x", None, 2], "e": Name.web}
    query = BASE.url("/pods", params).raw_query_string
    assert query == "q=a%2Bb%20c%26d%3De&yes=true&no=false&n=5&f=0.5&many=x&many=2&e=web%20app"


@pytest.mark.parametrize("params", [{"at": object()}, {"at": b"x"}, {"at": {"a": 1}}, {"at": Level.low}, {5: "x"}])
def test_a_query_parameter_that_cannot_be_written_is_refused(params):
    with pytest.raises(TypeError, match="query parameter"):
        BASE.url("/pods", params)


@given(st.lists(segments, min_size=1))
def test_segments_come_back_as_they_were(parts):
    url = BASE.url(join_path(*parts))
    assert [yarl.URL(f"/{part}", encoded=True).path[1:] for part in url.raw_path.split("/")[2:]] == parts
    assert BASE.url("/".join(parts)) == url
    assert (url.host, url.raw_query_string, url.raw_fragment) == ("example.com", "", "")


@given(st.dictionaries(encodable, encodable))
def test_query_parameters_come_back_as_they_were(params):
    url = BASE.url("/pods", params)
    assert dict(url.query) == params
    assert (url.path, url.raw_fragment) == ("/base/pods", "")


@pytest.mark.parametrize(
    "url", ["example.com", "//example.com", "ftp://example.com", "http://", "/api", "", "unix:/run/x", "http://h:99999"]
)
def test_a_base_url_without_scheme_or_host_is_refused_with_one_that_works(url):
    with pytest.raises(ValueError, match=r"https://example\.com/api"):
        HttpTransport(url)


@pytest.mark.parametrize("url", ["http://h/?", "http://h?a=1", "http://h/#", "http://h#x", yarl.URL("http://h?a=1")])
def test_a_base_url_with_query_or_fragment_is_refused(url):
    with pytest.raises(ValueError, match="params="):
        HttpTransport(url)


def test_a_base_url_with_a_password_is_refused_and_not_shown():
    with pytest.raises(ValueError, match="Authorization") as caught:
        HttpTransport("https://ada:hunter2@example.com")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ValueError, match=r"https://example\.com/api") as caught:
        HttpTransport("https://ada:hunter2@example.com:x")
    assert "hunter2" not in str(caught.value)


def test_a_base_url_that_is_none_is_refused():
    with pytest.raises(TypeError, match="base_url"):
        HttpTransport(None)


def test_a_base_url_may_be_parsed_and_keeps_its_path():
    transport = HttpTransport(yarl.URL("http://[::1]:8080/a%2Fb/"))
    assert transport.base_url == "http://[::1]:8080/a%2Fb"
    assert str(transport.url("/c")) == "http://[::1]:8080/a%2Fb/c"
