"""What a call sends and what it makes of the answer, against a server of the test's own."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from rlm_integrations.errors import ModelError, ModelTimeout
from rlm_integrations.messages import Message, Usage

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])


def test_what_a_call_asks_for_goes_before_what_the_model_was_made_with(run, server):
    server.says("hi")
    model = server.model(temperature=0.1, max_tokens=9, top_p=0.5)

    run(model, temperature=0.9, stop=["```"])

    sent = server.bodies[0]
    assert (sent["temperature"], sent["max_tokens"], sent["top_p"], sent["stop"]) == (0.9, 9, 0.5, ["```"])


@pytest.mark.parametrize(("made_with", "asked", "sent"), [(9, 50, 9), (50, 9, 9), (None, 9, 9), (9, None, 9)])
def test_no_more_tokens_are_asked_for_than_the_model_was_made_with(run, server, made_with, asked, sent):
    server.says("hi")

    run(server.model(max_tokens=made_with), max_tokens=asked)

    assert server.bodies[0]["max_tokens"] == sent


def test_options_it_does_not_know_are_not_sent(run, server):
    server.says("hi")

    run(server.model(), event_id="e1", colour="blue")

    assert server.bodies[0].keys() == {"messages", "model"}


def test_a_reply_without_content_is_empty_text(run, server):
    server.says(None)

    assert run(server.model()).text == ""


def test_lone_surrogates_are_replaced_because_no_request_can_carry_them(run, server):
    server.says("hi")

    run(server.model(), [Message("user", "caf\u00e9 \U0001f600 \ud800!")])

    assert server.bodies[0]["messages"][0]["content"] == "caf\u00e9 \U0001f600 ?!"


@pytest.mark.parametrize("streamed", [False, True])
def test_tokens_cached_tokens_and_cost_are_counted_by_the_price_map(run, server, litellm, streamed):
    usage = {
        "prompt_tokens": 1000,
        "completion_tokens": 100,
        "total_tokens": 1100,
        "prompt_tokens_details": {"cached_tokens": 400},
    }
    server.streams("h", "i", usage=usage) if streamed else server.says("hi", **usage)
    price = litellm.model_cost["gpt-5-mini"]

    reply = run(server.model("openai/gpt-5-mini"), on_text=(lambda text: None) if streamed else None)

    cost_usd = (
        600 * price["input_cost_per_token"]
        + 400 * price["cache_read_input_token_cost"]
        + 100 * price["output_cost_per_token"]
    )
    assert reply.usage == Usage(1000, 100, 400, pytest.approx(cost_usd))


def test_a_stream_asks_for_its_usage(run, server):
    server.streams("h", "i", usage={"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9})

    reply = run(server.model(), on_text=lambda text: None)

    assert server.bodies[0]["stream_options"] == {"include_usage": True}
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (7, 2)


def test_the_tokens_of_a_stream_that_does_not_tell_are_estimated(run, server):
    server.streams("hi", " there")

    reply = run(server.model("openai/llama-2-7b"), on_text=lambda text: None)

    assert 5 < reply.usage.input_tokens < 40
    assert 0 < reply.usage.output_tokens < 5


def test_text_is_handed_on_while_the_server_is_still_speaking(run, server):
    server.streams(*"abcdef", pause_s=0.05)
    times: list[float] = []

    run(server.model(), on_text=lambda text: times.append(time.monotonic()))

    assert len(times) == 6
    assert times[-1] - times[0] > 0.15


def test_an_error_of_the_listener_closes_the_stream_and_goes_through_as_it_is(run, server):
    server.streams(*["word "] * 1000, pause_s=0.01)
    error = ConnectionError("the listener's own")

    def on_text(text: str) -> None:
        raise error

    with pytest.raises(ConnectionError) as caught:
        run(server.model(), on_text=on_text)

    assert caught.value is error
    assert server.client_left.wait(5)
    assert len(server.bodies) == 1


def test_cancelling_a_call_closes_its_stream(server):
    server.streams(*["word "] * 1000, pause_s=0.01)

    async def main():
        heard = asyncio.Event()
        call = asyncio.create_task(server.model().acomplete([Message("user", "?")], on_text=lambda text: heard.set()))
        await heard.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        return server.client_left.wait(5)

    assert asyncio.run(main())


def test_parameters_a_model_is_known_to_refuse_are_not_sent(run, server):
    server.says("hi")

    run(server.model("openai/gpt-5-mini", temperature=0.2), stop=["```"], max_tokens=50)

    assert server.bodies[0].keys() == {"messages", "model", "max_completion_tokens"}


def test_a_parameter_the_server_refuses_is_left_out_from_then_on(run, server, waits):
    server.refuses(400, "Unsupported parameter: 'stop' is not supported with this model.")
    server.says("hi")
    model = server.model("openai/o4-mini")

    replies = [run(model, stop=["```"], max_tokens=50).text for _ in range(2)]

    assert replies == ["hi", "hi"]
    assert ["stop" in body for body in server.bodies] == [True, False, False]
    assert waits == [0.0]


def test_an_option_the_model_does_not_take_is_an_error(run, server):
    with pytest.raises(ModelError, match="reasoning_effort"):
        run(server.model("openai/gpt-4o", reasoning_effort="low"))

    assert server.bodies == []


def test_connections_are_kept_though_each_call_has_its_own_time_limit(run, server):
    server.says("hi")
    model = server.model()

    for seconds in (30.1, 20.2, 10.3, None):
        run(model, timeout=seconds)

    assert server.connections <= 2  # one for all limits, one for none


@pytest.mark.parametrize("limit", [{"timeout": 0.3}, {}])
def test_a_server_that_does_not_answer_is_given_up_in_time(run, server, waits, limit):
    server.hangs()
    model = server.model(max_retries=0, timeout=None if limit else 0.3)
    start = time.monotonic()

    with pytest.raises(ModelTimeout, match=r"openai/local: .*timeout="):
        run(model, **limit)

    assert 0.25 < time.monotonic() - start < 5


def test_a_stream_that_drips_on_is_given_up_in_time(run, server):
    server.streams(*["x"] * 1000, pause_s=0.02)
    start = time.monotonic()

    with pytest.raises(ModelTimeout):
        run(server.model(), timeout=0.5, on_text=lambda text: None)

    assert time.monotonic() - start < 5
    assert server.client_left.wait(5)


def test_an_answer_that_drips_in_is_given_up_in_time_where_it_is_awaited(server):
    server.drips()
    start = time.monotonic()

    with pytest.raises(ModelTimeout):
        asyncio.run(server.model().acomplete([Message("user", "?")], timeout=0.3))

    assert time.monotonic() - start < 5


def test_no_request_is_made_when_no_time_is_left(run, server):
    server.says("hi")

    with pytest.raises(ModelTimeout):
        run(server.model(), timeout=0)

    assert server.bodies == []


def test_anthropic_models_are_told_what_to_keep_in_their_prompt_cache(run, server):
    text = [{"type": "text", "text": "hi"}]
    usage = {"input_tokens": 5, "output_tokens": 1, "cache_read_input_tokens": 90, "cache_creation_input_tokens": 0}
    reply = {"id": "m", "type": "message", "role": "assistant", "model": "c", "content": text, "usage": usage}
    server.answers_with(reply | {"stop_reason": "end_turn"})
    model = server.model("anthropic/claude-sonnet-4-5", api_base=server.url.removesuffix("/v1"), api_key="k")
    turns = [
        Message("system", "Rules."),
        Message("user", "First."),
        Message("assistant", "Code."),
        Message("user", "Output."),
    ]

    answer = run(model, turns)

    mark = {"type": "ephemeral"}
    sent = server.bodies[0]
    assert sent["system"] == [{"type": "text", "text": "Rules.", "cache_control": mark}]
    assert [[block.get("cache_control") for block in m["content"]] for m in sent["messages"]] == [
        [None],
        [None],
        [mark],
    ]
    assert (answer.text, answer.usage.input_tokens, answer.usage.cached_tokens) == ("hi", 95, 90)


def test_other_models_get_plain_text(run, server):
    server.says("hi")

    run(server.model())

    assert [message["content"] for message in server.bodies[0]["messages"]] == ["You are terse.", "Hello?"]


def test_one_model_serves_many_threads_that_each_hear_their_own_stream(server):
    server.streams("a", "b", "c", pause_s=0.01)
    model = server.model()
    heard: list[list[str]] = [[] for _ in range(8)]
    threads = [
        threading.Thread(target=model.complete, args=([Message("user", "?")],), kwargs={"on_text": pieces.append})
        for pieces in heard
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert heard == [["a", "b", "c"]] * 8
