"""LiteLLMModel against recordings of a real server (``RECORD=1 pytest tests/models`` makes them anew)."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from rlm_integrations.errors import WindowExceeded
from rlm_integrations.messages import Message
from rlm_integrations.ports import LanguageModel

COUNT = [Message("system", "You are terse."), Message("user", "Count from 1 to 5, with commas.")]


def test_it_is_a_language_model(qwen):
    assert isinstance(qwen, LanguageModel)


def test_a_call_gives_the_text_and_what_it_took(run, qwen, cassette):
    reply = run(qwen, COUNT, max_tokens=40)

    assert reply.text == "1, 2, 3, 4, 5"
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (28, 14)
    assert reply.usage.cost_usd is None


def test_a_stream_hands_on_each_piece_and_counts_the_tokens(run, qwen, cassette):
    pieces: list[str] = []

    reply = run(qwen, COUNT, max_tokens=40, on_text=pieces.append)

    assert len(pieces) > 5
    assert "".join(pieces) == reply.text == "1, 2, 3, 4, 5"
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (28, 14)


def test_generation_ends_at_a_stop_sequence(run, qwen, cassette):
    assert run(qwen, COUNT, max_tokens=40, stop=["4"]).text == "1, 2, 3, "


def test_a_prompt_larger_than_the_window_is_said_with_the_servers_figures(run, qwen, cassette):
    with pytest.raises(WindowExceeded, match=r"openai/qwen: request \(17\d\d\d tokens\) exceeds .*16384 tokens"):
        run(qwen, [Message("user", "word " * 17_000)])


def _questions() -> list[list[Message]]:
    return [[Message("user", f"Repeat exactly: {word}")] for word in ("apple", "river", "stone", "cloud")]


def test_calls_from_many_threads_each_get_their_own_reply(qwen, cassette):
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda messages: qwen.complete(messages, max_tokens=10), _questions()))

    assert [reply.text.lower() for reply in replies] == ["apple", "river", "stone", "cloud"]


def test_calls_from_many_tasks_each_get_their_own_reply(qwen, cassette):
    async def ask_all():
        return await asyncio.gather(*[qwen.acomplete(messages, max_tokens=10) for messages in _questions()])

    assert [reply.text.lower() for reply in asyncio.run(ask_all())] == ["apple", "river", "stone", "cloud"]
