import asyncio

import pytest

from querykit.cluster.cookies import TokenCookies


def taken(*lines, clock=lambda: 0.0):
    cookies = TokenCookies(clock)
    cookies.take(lines)
    return cookies


def test_cookies_are_sent_in_the_order_they_came():
    assert taken("a.0=one; Path=/", "a.1=two; HttpOnly").header() == "a.0=one; a.1=two"


def test_set_cookie_headers_count_in_order_so_that_a_name_may_end_and_begin_in_one_reply():
    assert taken("a.0=old", "a.1=old", "a.0=; Max-Age=0", "a.1=; Max-Age=0", "a.0=new").header() == "a.0=new"


def test_a_value_is_sent_back_as_it_came():
    assert taken('a="x, y=z"; Path=/').header() == 'a="x, y=z"'


def test_domain_path_and_secure_do_not_matter_since_cookies_go_nowhere_else():
    assert taken("a=1; Domain=elsewhere.test; Path=/deep; Secure").header() == "a=1"


def test_a_cookie_without_a_name_is_left_out():
    assert taken("=1", ";", "").header() == ""


def test_a_cookie_ends_after_its_max_age():
    now = [0.0]
    cookies = taken("headlamp-auth-a.0=1; Max-Age=10; Expires=Thu, 01 Jan 1970 00:00:00 GMT", clock=lambda: now[0])
    now[0] = 9.9
    assert cookies.header() == "headlamp-auth-a.0=1"
    assert cookies.hold_token
    now[0] = 10.0
    assert not cookies.hold_token
    assert cookies.header() == ""


def test_a_cookie_that_has_expired_is_dropped():
    assert taken("a=1", "a=; Expires=Thu, 01 Jan 1970 00:00:00 GMT").header() == ""


def test_a_cookie_whose_times_cannot_be_read_is_kept():
    assert taken("a=1; Max-Age=soon; Expires=later").header() == "a=1"
    assert taken("a=1; Expires=Fri, 01 Jan 2100 00:00:00 GMT").header() == "a=1"


def test_a_max_age_beyond_all_measure_is_a_long_one():
    assert taken(f"a=1; Max-Age={'9' * 400}").header() == "a=1"
    assert taken("a=1", f"a=1; Max-Age=-{'9' * 400}").header() == ""


@pytest.mark.virtual_time
async def test_a_cookie_ends_by_the_time_of_the_loop():
    cookies = TokenCookies()
    cookies.take(["a=1; Max-Age=10"])
    await asyncio.sleep(9)
    assert cookies.header() == "a=1"
    await asyncio.sleep(1.1)
    assert cookies.header() == ""


def test_without_a_loop_there_is_a_time_too():
    cookies = TokenCookies()
    cookies.take(["a=1; Max-Age=1000"])
    assert cookies.header() == "a=1"


def test_a_negative_max_age_ends_a_cookie():
    assert taken("a=1", "a=2; Max-Age=-1").header() == ""


def test_only_some_cookies_are_tokens_by_their_name():
    assert not taken("INGRESSCOOKIE=1").hold_token
    assert taken("headlamp-auth-main.0=1").hold_token


def test_a_repr_shows_no_cookie():
    assert repr(taken("a=s3cret")) == "<TokenCookies: 1>"
