"""The suites of snippets and how a judge answers their sub-calls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rlm_integrations.sandbox import Resume, SubCall

SUITES = Path(__file__).parent / "suites"
FUNCTIONS = ["recursive_llm", "llm_query_batched"]


def load(name: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads((SUITES / name).read_text())
    return items


def cells(item: dict[str, Any]) -> list[str]:
    return item.get("cells") or [item["code"]]


def judge(call: SubCall) -> Resume:
    try:
        if call.name == "recursive_llm":
            return Resume(_recursive_llm(*call.args, **(call.kwargs or {})))
        return Resume([f"B{index}:{len(prompt)}" for index, prompt in enumerate(call.args[0])])
    except Exception as error:
        return Resume(error=str(error))


def _recursive_llm(query: Any, sub_context: Any = "") -> str:
    return f"LLM({query},{len(sub_context)})"
