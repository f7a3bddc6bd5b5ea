"""Renews the recording of ``rlm demo``: ``python -m tests.record [MODEL [API_BASE]]`` (``make record``).

A question is asked until the model answers it rightly by itself, at temperature 0 first; the recording says how often
it was asked. Nothing in a reply is changed.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import rlm_integrations.cli
from rlm_integrations import RLM, Message, Reply, RLMError, RLMResult
from rlm_integrations.cli.demo import reference
from rlm_integrations.models import LiteLLMModel

MODEL, API_BASE = "openai/qwen", "http://127.0.0.1:8089/v1"
MODEL_CARD = "Qwen2.5-Coder-1.5B-Instruct"
PATH = Path(rlm_integrations.cli.__file__).with_name("demo.json")
# Turns and temperature of each attempt. Told that few turns are left, so small a model answers from what it sees; left
# alone, it quotes more.
ATTEMPTS = [(8, 0.0), (3, 0.0), *[(8, 0.3), (3, 0.3)] * 5]


def says_unlimited(result: RLMResult, topics: Mapping[str, str]) -> bool:
    """The identifiers' length, with the sentence that says it."""
    quotes = [citation.quote for citation in result.citations]
    return "unlimited" in result.answer and any("Identifiers are unlimited in length." in quote for quote in quotes)


def counts_metaclass(result: RLMResult, topics: Mapping[str, str]) -> bool:
    """The number of topics with the word, as plain Python counts it."""
    return bool(result.answer == str(sum("metaclass" in text for text in topics.values())))


RIGHT: Mapping[str, Callable[[RLMResult, Mapping[str, str]], bool]] = {
    "What is the maximum length of an identifier? Quote the sentence that says so.": says_unlimited,
    "Count the documents that contain 'metaclass' and give the count.": counts_metaclass,
}


class Recorder:
    """A model that keeps the replies of the one it stands before."""

    def __init__(self, model: LiteLLMModel) -> None:
        self._model = model
        self.name = model.name
        self.replies: list[Reply] = []

    def complete(self, messages: Sequence[Message], **options: Any) -> Reply:
        self.replies.append(self._model.complete(messages, **options))
        return self.replies[-1]

    async def acomplete(self, messages: Sequence[Message], **options: Any) -> Reply:
        self.replies.append(await self._model.acomplete(messages, **options))
        return self.replies[-1]


def record(question: str, name: str, api_base: str) -> dict[str, Any]:
    """The replies to ``question``, of the first attempt that answers it rightly."""
    right = RIGHT[question]
    for attempt, (max_iterations, temperature) in enumerate(ATTEMPTS, 1):
        recorder = Recorder(
            LiteLLMModel(name, api_base=api_base, temperature=temperature, seed=attempt, max_tokens=500)
        )
        try:
            result = RLM(recorder, max_iterations=max_iterations).run(question, reference())
            said = f"{result.answer!r} ({result.status})"
        except RLMError as error:
            result, said = None, str(error)
        is_right = bool(result and result.status == "complete" and right(result, topics))
        print(f"{question}\n  attempt {attempt}: {said}: {'kept' if is_right else 'wrong'}", flush=True)
        if not is_right:
            print(
                "".join(f"    {line}\n" for reply in recorder.replies for line in reply.text.splitlines()), flush=True
            )
        else:
            replies = [asdict(reply) for reply in recorder.replies]
            settings = {"max_iterations": max_iterations, "temperature": temperature, "seed": attempt}
            return {"question": question, "attempt": attempt, **settings, "replies": replies}
    raise SystemExit(f"no right answer in {len(ATTEMPTS)} attempts: {question}")


def main(name: str = MODEL, api_base: str = API_BASE) -> None:
    """Record all questions and write the file."""
    runs = [record(question, name, api_base) for question in RIGHT]
    made = f"{date.today()}, Python {platform.python_version()}"
    model = MODEL_CARD if name == MODEL else name
    PATH.write_text(json.dumps({"model": model, "made": made, "runs": runs}, indent=1) + "\n")
    print(f"written: {PATH}")


if __name__ == "__main__":
    main(*sys.argv[1:])
