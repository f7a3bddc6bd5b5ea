"""What traces hold of contexts, events, answers and model calls: enough to follow a run, and small."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, LLMResult

from rlm_integrations.context import ContextSummary
from rlm_integrations.events import Event, ModelCallEnded, ModelCallStarted

__all__ = ["cut", "described", "fields_of", "llm_result", "small"]

MAX_TRACED_CHARS = 4_000


def described(context: ContextSummary) -> dict[str, Any]:
    """A context as traces hold it: what it is, never what it says."""
    return asdict(context)


def fields_of(event: Event) -> dict[str, Any]:
    """An event as a small dict: text cut, messages and usage reports left out."""
    fields: dict[str, Any] = {}
    for name in event.__slots__:
        value = getattr(event, name)
        match value:
            case str():
                fields[name] = cut(value)
            case ContextSummary():
                fields[name] = described(value)
            case int() | float() | None:
                fields[name] = value
            case _ if name == "answer":
                fields[name] = value
            case _ if name == "citations":
                fields[name] = [asdict(citation) for citation in value]
    return fields


def small(answer: Any) -> Any:
    """A child run's answer; a long one as the start of its text."""
    if isinstance(answer, str):
        return cut(answer)
    text = json.dumps(answer, ensure_ascii=False, default=str)
    return answer if len(text) <= MAX_TRACED_CHARS else cut(text)


def cut(text: str) -> str:
    if len(text) <= MAX_TRACED_CHARS:
        return text
    return f"{text[:MAX_TRACED_CHARS]} [... {len(text) - MAX_TRACED_CHARS:,} more characters]"


def llm_result(call: ModelCallStarted, event: ModelCallEnded) -> LLMResult:
    usage = UsageMetadata(
        input_tokens=event.usage.input_tokens,
        output_tokens=event.usage.output_tokens,
        total_tokens=event.usage.input_tokens + event.usage.output_tokens,
        input_token_details={"cache_read": event.usage.cached_tokens},
    )
    message = AIMessage(event.text, usage_metadata=usage, response_metadata={"model_name": call.model})
    return LLMResult(generations=[[ChatGeneration(message=message)]])
