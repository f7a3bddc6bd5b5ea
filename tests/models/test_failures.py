"""A provider's refusal becomes an error of ours that says what it said, and what to do."""

from __future__ import annotations

import pytest

from rlm_integrations.errors import MissingKey, ModelError, ModelNotFound, RLMError, WindowExceeded
from rlm_integrations.models import failures

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])


def test_a_refused_key_names_the_variable_to_set(run, server):
    server.refuses(401, "Incorrect API key provided")

    with pytest.raises(MissingKey) as caught:
        run(server.model())

    assert str(caught.value) == ("openai/local: Incorrect API key provided (set OPENAI_API_KEY or pass api_key=)")
    assert caught.value.model == "openai/local"


@pytest.mark.parametrize("status", [400, 401, 429, 500])
@pytest.mark.parametrize("given", ["argument", "environment", "option"])
def test_no_message_holds_a_key_though_the_server_repeats_it(run, server, waits, monkeypatch, status, given):
    key = "hunter2-hunter2-hunter2"
    server.refuses(status, f"the key {key} is bad")
    if given == "environment":
        monkeypatch.setenv("OPENAI_API_KEY", key)
    settings = {"argument": {"api_key": key}, "environment": {}, "option": {"my_secret_token": key}}[given]

    with pytest.raises(ModelError) as caught:
        run(server.model(**settings))

    assert key not in str(caught.value)
    assert "the key [key] is bad" in str(caught.value)


def test_an_unknown_model_says_where_it_was_asked_for(run, server):
    server.refuses(404, "The model `local` does not exist", code="model_not_found")

    with pytest.raises(ModelNotFound, match=r"The model `local` does not exist .*api_base=http://127.0.0.1"):
        run(server.model())


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
        "prompt is too long: 210000 tokens > 200000 maximum",
        "request (17015 tokens) exceeds the available context size (16384 tokens), try increasing it",
    ],
)
def test_a_prompt_too_large_is_said_in_the_servers_words(run, server, message):
    server.refuses(400, message)

    with pytest.raises(WindowExceeded) as caught:
        run(server.model())

    assert str(caught.value) == f"openai/local: {message} (send less text in one call)"


def test_another_refusal_is_said_in_the_servers_words_alone(run, server):
    server.refuses(400, "messages: roles must alternate")

    with pytest.raises(ModelError) as caught:
        run(server.model())

    assert type(caught.value) is ModelError
    assert str(caught.value) == "openai/local: messages: roles must alternate"


def test_the_message_is_taken_out_of_a_providers_json(run, server):
    error = {"type": "error", "error": {"type": "not_found_error", "message": "model: claude-x"}}
    server.answers_with(error, 404)

    with pytest.raises(ModelNotFound, match=r"^anthropic/claude-x: model: claude-x \("):
        run(server.model("anthropic/claude-x", api_base=server.url.removesuffix("/v1"), api_key="k"))


def test_the_original_error_is_kept_as_the_cause(run, server):
    server.refuses(400, "no")

    with pytest.raises(RLMError) as caught:
        run(server.model())

    assert type(caught.value.__cause__).__module__.startswith("litellm")


def test_only_errors_of_litellm_and_below_are_translated():
    assert failures.is_foreign(ConnectionResetError())
    assert failures.is_foreign(ModuleNotFoundError("boto3"))
    assert not failures.is_foreign(TypeError())
    assert not failures.is_foreign(ModelError("ours", model="m"))
