"""``rlm demo``: the main job over documents that every Python has, with recorded or live replies of a model."""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, TextIO

from rlm_integrations.cli.execute import Outcome, carry_out
from rlm_integrations.cli.exits import Exit
from rlm_integrations.cli.report import print_answer, print_partial
from rlm_integrations.cli.views import say, view_on, warnings_to
from rlm_integrations.context import Context, Document
from rlm_integrations.engine.tree import Observer
from rlm_integrations.errors import InvalidInput
from rlm_integrations.events import Event
from rlm_integrations.messages import Reply, Usage
from rlm_integrations.rlm import RLM
from rlm_integrations.testing import ScriptedModel

__all__ = ["Recording", "demo", "reference"]

LIVE_ITERATIONS = 8
CHARS_PER_TOKEN = 4  # about, for English and code
MISFIT = "the recording ({made}) does not fit the language reference of this Python: run it live, with --model NAME"
TRY = (
    "Live, with a local model:  rlm demo --model ollama/qwen2.5-coder:7b",
    "or with a key:             OPENAI_API_KEY=... rlm demo --model openai/gpt-5-mini",
    'Over your own documents:   rlm ask "your question" FILE_OR_FOLDER --model NAME',
)


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A question, what a model replied to it turn by turn, and the turns it was allowed."""

    question: str
    max_iterations: int
    replies: tuple[Reply, ...]


@dataclass(frozen=True, slots=True)
class Recording:
    """What a model replied to the demo's questions: recorded by ``python -m tests.record``, never edited."""

    model: str
    made: str
    runs: tuple[RecordedRun, ...]

    @classmethod
    def load(cls) -> Recording:
        """The recording that this package brings along."""
        data = json.loads(resources.files(__package__).joinpath("demo.json").read_text("utf-8"))
        return cls(data["model"], data["made"], tuple(_recorded_run(run) for run in data["runs"]))


def _recorded_run(run: Mapping[str, Any]) -> RecordedRun:
    replies = (Reply(reply["text"], Usage(**reply["usage"])) for reply in run["replies"])
    return RecordedRun(run["question"], run["max_iterations"], tuple(replies))


def reference() -> Context:
    """Python's language reference, a document for each of its topics."""
    try:
        topics = importlib.import_module("pydoc_data.topics").topics
    except ImportError as error:
        raise InvalidInput(
            "this Python came without pydoc_data, which the demo reads: use one from python.org"
        ) from error
    return Context([Document(text, id=topic) for topic, text in sorted(topics.items())])


def demo(args: argparse.Namespace) -> Exit:
    """Answer the recording's questions, by its replies or live by the model that ``args`` name."""
    out = sys.stdout
    recording = Recording.load()
    try:
        context = reference()
    except InvalidInput as error:
        print(f"rlm: {error}", file=sys.stderr)
        return Exit.USAGE
    for line in _introduction(args.model, recording, context):
        say(out, line)
    exits = []
    for number, run in enumerate(recording.runs, 1):
        say(out, "")
        say(out, f"Question {number} of {len(recording.runs)}: {run.question}", "bold cyan")
        outcome = _answer(args, recording.model, run, context, out)
        exits.append(outcome.exit)
        if outcome.error:
            print(f"rlm: {outcome.error}", file=sys.stderr)
            if outcome.exit is Exit.MODEL and not args.model:
                print(f"rlm: {MISFIT.format(made=recording.made)}", file=sys.stderr)
            print_partial(outcome.result, sys.stderr)
            return outcome.exit
        print_answer(outcome.result, out)
        sent, there = outcome.result.usage.input_tokens, round(context.chars / CHARS_PER_TOKEN, -3)
        say(out, f"The model was sent {sent:,} tokens in all. The documents have about {there:,.0f}.", "dim")
    say(out, "")
    for line in TRY:
        say(out, line)
    return max(exits)


def _introduction(model: str | None, recording: Recording, context: Context) -> Sequence[str]:
    documents = (
        f"Documents: the language reference of this Python {platform.python_version()}, {context.documents} topics, "
        f"{context.chars:,} characters. The model does not read them: it writes code that looks into them, and sees "
        "what the code prints."
    )
    if model:
        return [f"Live: {model} answers, here and now.", documents]
    return [
        f"Recorded: the model's replies, made by {recording.model} ({recording.made}).",
        "Real: everything else, here and now. The code in the replies runs in a sandbox over the documents, and quotes "
        "are checked against them.",
        documents,
    ]


def _answer(args: argparse.Namespace, recorded_model: str, run: RecordedRun, context: Context, out: TextIO) -> Outcome:
    view = view_on(out, ["context"] if args.model else ["context", "asking"])
    events: list[Event] = []
    observers: list[Observer] = [events.append, view]
    try:
        if args.model:
            rlm = RLM(
                args.model,
                recursive_model=args.recursive_model,
                api_base=args.api_base,
                temperature=args.temperature,
                max_iterations=LIVE_ITERATIONS,
                observers=observers,
            )
        else:
            model = ScriptedModel(run.replies, name=f"{recorded_model} (recorded)")
            rlm = RLM(model, max_iterations=run.max_iterations, observers=observers)
        waiting_for = "loading LiteLLM" if args.model and "litellm" not in sys.modules else None
        with warnings_to(view):
            carry_out(rlm, run.question, context, view, waiting_for)
        return Outcome.of(events)
    except (Exception, KeyboardInterrupt) as error:
        return Outcome.of(events, error)
