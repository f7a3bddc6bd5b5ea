"""What is known before any call: keys, names, windows, prices. No network: pytest-socket would raise."""

from __future__ import annotations

import asyncio

import pytest

from rlm_integrations.errors import MissingKey, ModelNotFound
from rlm_integrations.models import LiteLLMModel
from rlm_integrations.models.provider import KEY_VARIABLES, Provider

HERE = "http://127.0.0.1:1/v1"


@pytest.fixture(params=["sync", "async"])
def check(request):
    return (lambda model: model.check()) if request.param == "sync" else (lambda model: asyncio.run(model.acheck()))


@pytest.mark.parametrize(
    "name", ["openai/gpt-5-mini", "gpt-4o", "anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-pro"]
)
def test_a_missing_key_is_said_with_the_variable_to_set(check, name):
    with pytest.raises(MissingKey, match=rf"^{name}: no API key for \w+: set [A-Z]+_API_KEY or pass api_key="):
        check(LiteLLMModel(name))


def test_a_call_without_a_key_says_the_same(run):
    with pytest.raises(MissingKey, match="set OPENAI_API_KEY"):
        run(LiteLLMModel("openai/gpt-5-mini"))


@pytest.mark.parametrize("provider", KEY_VARIABLES)
def test_a_key_in_any_variable_of_the_provider_will_do(monkeypatch, provider):
    for variable in KEY_VARIABLES[provider]:
        with monkeypatch.context() as environment:
            environment.setenv(variable, "k")
            LiteLLMModel(f"{provider}/some-model").check()


@pytest.mark.parametrize(
    "model",
    [
        LiteLLMModel("openai/gpt-5-mini", api_key="k"),
        LiteLLMModel("openai/qwen", api_base=HERE),
        LiteLLMModel("anthropic/claude-sonnet-4-5", api_base=HERE),
        LiteLLMModel("ollama/llama3"),
        LiteLLMModel("ollama_chat/own-model"),
        LiteLLMModel("bedrock/anthropic.claude-sonnet-4-5-20250929-v1:0"),
        LiteLLMModel("azure/deployment", api_base=HERE, azure_ad_token="t"),
        LiteLLMModel("hosted_vllm/qwen", api_base=HERE),
    ],
    ids=repr,
)
def test_nothing_is_refused_that_may_work(check, model):
    check(model)


def test_a_server_named_in_the_environment_needs_no_key(check, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", HERE)

    check(LiteLLMModel("openai/qwen"))


@pytest.mark.parametrize("name", ["qwen", "nosuchprovider/model", ""])
def test_a_name_without_a_provider_says_how_to_name_one(check, capfd, name):
    with pytest.raises(ModelNotFound, match=r"LiteLLM knows no provider .*'openai/gpt-5-mini'.*api_base="):
        check(LiteLLMModel(name))

    assert capfd.readouterr().out == ""


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_a_server_that_asks_for_no_key_gets_a_stand_in(run, server):
    server.says("hi")

    run(server.model())

    assert server.headers[0]["authorization"] == "Bearer no-key"


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_a_given_key_goes_before_the_environments(run, server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "from-environment")
    server.says("hi")

    run(server.model())
    run(server.model(api_key="given"))

    assert [headers["authorization"] for headers in server.headers] == ["Bearer from-environment", "Bearer given"]


def test_repr_shows_the_server_and_never_a_key():
    model = LiteLLMModel("openai/qwen", api_base=HERE, api_key="hunter2", extra_headers={"x": "hunter2"})

    assert repr(model) == f"LiteLLMModel('openai/qwen', api_base='{HERE}')"
    assert "hunter2" not in str(model)


def test_the_window_is_the_callers_or_the_price_maps_or_unknown(litellm):
    assert LiteLLMModel("openai/gpt-5-mini").window_tokens == litellm.model_cost["gpt-5-mini"]["max_input_tokens"]
    assert LiteLLMModel("openai/gpt-5-mini", window_tokens=5).window_tokens == 5
    assert LiteLLMModel("openai/qwen").window_tokens is None
    assert LiteLLMModel("ollama/own-model").window_tokens is None


@pytest.fixture
def cost_usd(litellm):
    def cost(name, **extra):
        return Provider(litellm, name, {}).cost_usd(litellm.Usage(prompt_tokens=10, completion_tokens=10, **extra))

    return cost


def test_a_price_of_nothing_is_only_believed_where_the_price_map_says_it(litellm, cost_usd):
    assert litellm.model_cost["ollama/llama3"]["input_cost_per_token"] == 0
    assert cost_usd("ollama/llama3") == 0.0
    assert cost_usd("openai/qwen") is None
    assert cost_usd("huggingface/some/model") is None


@pytest.mark.parametrize(
    ("name", "has_price"),
    [("openai/gpt-5-mini", True), ("ollama/llama3", True), ("openrouter/nobody/knows", True), ("openai/qwen", False)],
)
def test_whether_a_call_will_have_a_price_is_known_before_it_is_made(name, has_price):
    assert LiteLLMModel(name).has_price is has_price


def test_a_price_in_tiers_is_a_price(litellm, cost_usd):
    assert "input_cost_per_token" not in litellm.model_cost["dashscope/qwen-flash"]
    assert cost_usd("dashscope/qwen-flash") > 0


def test_what_the_provider_billed_goes_before_the_price_map(cost_usd):
    assert cost_usd("openrouter/nobody/knows", cost=0.25) == 0.25


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_an_ollama_server_is_not_asked_about_its_models(server, monkeypatch, cost_usd):
    monkeypatch.setenv("OLLAMA_API_BASE", server.url)

    assert LiteLLMModel("ollama/own-model").window_tokens is None
    assert cost_usd("ollama/own-model") is None
    assert server.connections == 0


def test_claude_wants_cache_marks_wherever_it_runs(litellm):
    names = [
        "anthropic/claude-new",
        "bedrock/anthropic.claude-sonnet-4-5-20250929-v1:0",
        "openai/gpt-5-mini",
        "openai/claude",
    ]

    assert [Provider(litellm, name, {}).wants_cache_marks for name in names] == [True, True, False, False]


def test_a_gap_in_the_price_map_does_not_lose_the_reply(litellm, caplog, monkeypatch):
    monkeypatch.setitem(litellm.model_cost, "gpt-4o", {"litellm_provider": "openai", "input_cost_per_token": "oops"})
    provider = Provider(litellm, "gpt-4o", {})

    assert provider.cost_usd(litellm.Usage(prompt_tokens=1, completion_tokens=1)) is None
    assert "no cost could be worked out for gpt-4o" in caplog.text
