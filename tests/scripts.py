"""Short ways to write what a scripted model says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from rlm_integrations import LanguageModel, Message, Reply, RLMResult
from rlm_integrations.events import Event
from rlm_integrations.models import LiteLLMModel


def cell(code: str) -> str:
    """A reply that is one cell."""
    return f"```python\n{code}\n```"


def events(result: RLMResult, kind: str) -> list[Event]:
    """All events of one kind."""
    return [event for event in result.trajectory if event.kind == kind]


def play(monkeypatch: pytest.MonkeyPatch, model: LanguageModel) -> None:
    """Have ``model`` answer in place of all models that are given by name."""

    def complete(self: LiteLLMModel, messages: Sequence[Message], **options: Any) -> Reply:
        return model.complete(messages, **options)

    async def acomplete(self: LiteLLMModel, messages: Sequence[Message], **options: Any) -> Reply:
        return await model.acomplete(messages, **options)

    monkeypatch.setattr(LiteLLMModel, "complete", complete)
    monkeypatch.setattr(LiteLLMModel, "acomplete", acomplete)


def by_role(root: Sequence[str], sub_call: Callable[[str], str]) -> Callable[[Sequence[Message]], str]:
    """A script whose runs say ``root`` turn by turn, and whose plain sub-calls get what ``sub_call`` makes of them."""

    def say(messages: Sequence[Message]) -> str:
        if messages[0].role != "system":
            return sub_call(messages[0].content)
        return root[sum(message.role == "assistant" for message in messages)]

    return say
