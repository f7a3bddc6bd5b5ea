"""A provider of models that all nodes of a cluster share: an actor that counts what it is asked."""

from __future__ import annotations

import asyncio
import json
import os
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import ray

from rlm_integrations import Message, ModelError, Reply, Usage
from rlm_integrations.engine.drivers import in_thread
from rlm_integrations.ray import JobLimits
from tests.scripts import cell

USAGE = Usage(100, 20, 0, 0.01)
TEXT = "text = context if isinstance(context, str) else context[0]\n"


class Provider:
    """Counts the calls, and how many there are at once."""

    def __init__(self, latency_s: float) -> None:
        self._latency_s = latency_s
        self._in_flight = self._most = 0
        self._asked: list[str] = []

    async def ask(self, question: str) -> None:
        """Serve one call."""
        self._asked.append(question)
        self._in_flight += 1
        self._most = max(self._most, self._in_flight)
        await asyncio.sleep(self._latency_s)
        self._in_flight -= 1

    async def told(self) -> tuple[list[str], int]:
        """The questions of all calls, and the most calls at once."""
        return self._asked, self._most


class ProvidedModel:
    """Looks at the context in its first turn and answers with its first word; a question with "bad" in it fails."""

    def __init__(self, provider: str) -> None:
        self.name = "provided"
        self._provider = provider

    def complete(self, messages: Sequence[Message], **options: Any) -> Reply:
        raise NotImplementedError

    async def acomplete(self, messages: Sequence[Message], **options: Any) -> Reply:
        asked = messages[1].content
        question = next(line for line in asked.splitlines() if "?" in line).removeprefix("Question: ")
        await ray.get_actor(self._provider).ask.remote(question)
        if "bad" in question:
            raise ModelError("it is overloaded", model=self.name)
        if len(messages) < 4:
            return Reply(cell(TEXT + "print(text[:20])"), USAGE)
        return Reply(cell(TEXT + "FINAL(text.split()[0], quotes=[text.split()[0]])"), USAGE)


class PostingModel:
    """Asks a server that speaks OpenAI's protocol, which is told the process that asks as the name of the model."""

    def __init__(self, url: str) -> None:
        self.name = "posting"
        self._url = url

    def complete(self, messages: Sequence[Message], **options: Any) -> Reply:
        body = {"model": str(os.getpid()), "messages": [asdict(message) for message in messages]}
        request = urllib.request.Request(f"{self._url}/chat/completions", json.dumps(body).encode())
        with urllib.request.urlopen(request) as answer:
            return Reply(json.load(answer)["choices"][0]["message"]["content"], USAGE)

    async def acomplete(self, messages: Sequence[Message], **options: Any) -> Reply:
        return await in_thread(lambda: self.complete(messages, **options))


def in_flight(limits: JobLimits, calls: int) -> bool:
    """Whether so many are in flight, as soon as word of those that ended has come."""
    end = time.monotonic() + 30
    while (found := limits.progress()).in_flight != calls or found.waiting:
        assert time.monotonic() < end, found
    return True


@contextmanager
def provider(name: str, latency_s: float = 0.0) -> Iterator[Any]:
    """A provider that is known by ``name`` in the whole cluster."""
    actor = ray.remote(Provider).options(name=name, num_cpus=0, max_concurrency=1000).remote(latency_s)
    try:
        yield actor
    finally:
        ray.kill(actor)
