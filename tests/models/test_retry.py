"""When a call is tried again, how long it waits, and when it gives up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from rlm_integrations.errors import ModelError, ModelTimeout, ModelUnavailable, RateLimited
from rlm_integrations.models.retry import Retries, retry_after_s

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 529])
def test_what_may_pass_is_tried_again(run, server, waits, status):
    server.refuses(status)
    server.says("hi")

    assert run(server.model()).text == "hi"
    assert len(waits) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_will_not_pass_is_not_tried_again(run, server, waits, status):
    server.refuses(status)

    with pytest.raises(ModelError, match="not now"):
        run(server.model())

    assert (len(server.bodies), waits) == (1, [])


def test_each_wait_is_about_twice_the_one_before(run, server, waits):
    server.refuses(500)

    with pytest.raises(ModelUnavailable, match="not now"):
        run(server.model(max_retries=4))

    assert len(server.bodies) == 5
    for wait_s, full_s in zip(waits, [1, 2, 4, 8], strict=True):
        assert full_s / 2 <= wait_s <= full_s


def test_waits_differ_so_that_a_batch_does_not_come_back_at_once():
    assert len({Retries(1, None).next_wait_s(None) for _ in range(20)}) == 20


def test_the_servers_wish_goes_before_the_backoff(run, server, waits):
    server.refuses(429, retry_after="7")
    server.refuses(503, retry_after="0.25")
    server.says("hi")

    run(server.model())

    assert waits == [7.0, 0.25]


def test_the_servers_wish_may_be_a_date():
    assert retry_after_s({"retry-after": "7"}) == 7.0
    assert retry_after_s({"retry-after": format_datetime(datetime.now(UTC) + timedelta(seconds=60))}) == pytest.approx(
        60, abs=2
    )
    assert retry_after_s({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0
    assert retry_after_s({"retry-after": "soon"}) is None
    assert retry_after_s({}) is None


def test_it_never_waits_past_the_calls_time_limit(run, server, waits):
    server.refuses(429, retry_after="7")

    with pytest.raises(RateLimited):
        run(server.model(), timeout=5)

    assert (len(server.bodies), waits) == (1, [])


def test_a_server_that_asks_for_hours_is_not_waited_for(run, server, waits):
    server.refuses(429, "quota of the day", retry_after="7200")

    with pytest.raises(RateLimited, match="quota of the day"):
        run(server.model())

    assert waits == []


def test_a_used_up_quota_is_not_tried_again(run, server, waits):
    server.refuses(429, "You exceeded your current quota", code="insufficient_quota")

    with pytest.raises(RateLimited, match="exceeded your current quota"):
        run(server.model())

    assert len(server.bodies) == 1


def test_a_request_that_timed_out_is_tried_again(run, server, waits):
    server.hangs()
    server.says("hi")

    assert run(server.model(timeout=0.2)).text == "hi"
    assert len(server.bodies) == 2


def test_a_server_that_is_not_there_is_tried_again_and_named(run, server, waits):
    model = server.model()
    server.close()

    with pytest.raises(ModelUnavailable, match=rf"openai/local: .*{server.url}"):
        run(model)

    assert len(waits) == 3


def test_a_stream_that_breaks_off_before_its_first_word_is_tried_again(run, server, waits):
    server.streams(breaks_off=True)
    server.streams("hi")
    pieces: list[str] = []

    assert run(server.model(), on_text=pieces.append).text == "hi"
    assert pieces == ["hi"]
    assert len(server.bodies) == 2


def test_a_stream_that_breaks_off_later_is_an_error_because_its_words_are_out(run, server, waits):
    server.streams("half", " an ans", breaks_off=True)
    pieces: list[str] = []

    with pytest.raises(ModelUnavailable):
        run(server.model(), on_text=pieces.append)

    assert pieces == ["half", " an ans"]
    assert (len(server.bodies), waits) == (1, [])


def test_time_runs_out_across_attempts(run, server):
    server.hangs()

    with pytest.raises(ModelTimeout):
        run(server.model(timeout=0.1, max_retries=50), timeout=0.4)

    assert len(server.bodies) == 1  # no second: the first wait is at least half a second
