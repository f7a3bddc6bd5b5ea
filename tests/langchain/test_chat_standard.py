"""LangChain's own standard tests for chat models."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from rlm_integrations.langchain import ChatRLM
from rlm_integrations.sandbox import ProcessSandbox
from tests.langchain.marks import run_async_tests
from tests.langchain.scripted import ScriptedChat
from tests.scripts import cell

JOKE = {"setup": "Why did the cat sit on the mat?", "punchline": "It read the script."}
TWICE = "the inner model reports its calls to the same callbacks, as it should, so that the handler sees two starts"


def say(messages: list[BaseMessage]) -> str:
    """Answers what the suites ask: a joke where a schema is told, words where none is."""
    asked = str(messages[1].content)
    answer: Any = JOKE if "punchline" in asked else "Hello! " + asked[:40].replace('"', "")
    return cell(f"import json\nanswer_ = json.loads({json.dumps(json.dumps(answer))})\ncontext, FINAL(answer_)")


def params(sandbox: ProcessSandbox) -> dict[str, Any]:
    return {"llm": ScriptedChat(say), "sandbox": sandbox}


run_async_tests(ChatModelIntegrationTests)


class _Suite:
    @pytest.fixture(autouse=True)
    def _sandbox(self, sandbox: ProcessSandbox) -> None:
        self.sandbox = sandbox

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatRLM

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return params(self.sandbox)

    @property
    def has_tool_calling(self) -> bool:
        return False  # bind_tools is there to say why not

    @property
    def returns_usage_metadata(self) -> bool:
        return False  # the inner model's calls have it

    @property
    def supports_model_override(self) -> bool:
        return False


@pytest.mark.filterwarnings("ignore:The method .*dict:DeprecationWarning")
class TestUnit(_Suite, ChatModelUnitTests):
    pass


@pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning")
class TestIntegration(_Suite, ChatModelIntegrationTests):
    @pytest.mark.parametrize("schema_type", ["pydantic", "typeddict", "json_schema"])
    @pytest.mark.xfail(reason=TWICE, strict=True)
    def test_structured_output(self, model: BaseChatModel, schema_type: Any) -> None:
        super().test_structured_output(model, schema_type)

    @pytest.mark.parametrize("schema_type", ["pydantic", "typeddict", "json_schema"])
    @pytest.mark.xfail(reason=TWICE, strict=True)
    @pytest.mark.asyncio
    async def test_structured_output_async(self, model: BaseChatModel, schema_type: Any) -> None:
        await super().test_structured_output_async(model, schema_type)
