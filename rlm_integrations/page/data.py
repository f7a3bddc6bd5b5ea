"""Everything that the page shows, as JSON values; all text in it is fit to be shown."""

from __future__ import annotations

import json
import math
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any

from rlm_integrations.context import Context
from rlm_integrations.errors import InvalidInput
from rlm_integrations.events import Citation
from rlm_integrations.page.evidence import evidence
from rlm_integrations.page.steps import LOOK_UP, Cell, Step, Steps
from rlm_integrations.page.text import Texts, flat, shown
from rlm_integrations.page.totals import plain_usage, totals
from rlm_integrations.trajectory import Trajectory

__all__ = ["page_data"]

MAX_STEPS = 50_000
MAX_CITATIONS = 500

Part = list[Any]
"""A section of a step: ``[heading, kind, number of its text, open]``."""


def page_data(trajectory: Trajectory, context: Context | None) -> dict[str, Any]:
    """The page's data. Raises ``InvalidInput`` where ``trajectory`` holds no run."""
    steps = Steps.read(trajectory, MAX_STEPS)
    root = next((step for step in steps.all if step.kind == "run"), None)
    if root is None:
        raise InvalidInput("the record holds no run: it ended before anything had happened")
    texts = Texts()
    citations = root.citations[:MAX_CITATIONS]
    plain = [_step(step, texts) for step in steps.all]
    return {
        "question": shown(root.query),
        "title": flat(root.query, 80),
        "answer": None if root.answer is None else shown(_text(root.answer)),
        "state": root.state,
        "error": None if root.error is None else shown(root.error),
        "began": _date(trajectory),
        "seconds": _seconds(steps.seconds),
        "turns": root.turns,
        "resumed": [_seconds(time) for time in steps.resumed],
        "totals": totals(steps.all),
        "steps": plain,
        "texts": texts.all(),
        "settings": _settings(trajectory),
        **evidence(citations, context),
        "notices": _notices(trajectory, steps, root, texts, context),
    }


def _step(step: Step, texts: Texts) -> dict[str, Any]:
    cell = step.cell
    return {
        "kind": step.kind,
        "parent": step.parent,
        "name": step.name,
        "title": _title(step),
        "depth": step.depth,
        "model": shown(step.model),
        "turns": step.turns,
        "began": _seconds(step.started),
        "ended": None if step.ended is None else _seconds(step.ended),
        "state": _state(step),
        "source": step.source,
        "usage": None if step.usage is None else plain_usage(step.usage),
        "cell": cell and [_seconds(cell.started), None if cell.ended is None else _seconds(cell.ended)],
        "parts": [[shown(heading), kind, texts.add(text, code=kind == "code"), is_open]
                  for heading, kind, text, is_open in _parts(step)],
    }  # fmt: skip


def _title(step: Step) -> str:
    match step.kind:
        case "run":
            return flat(step.query)
        case "turn":
            return flat(_first_line(step.cell) if step.cell else step.reply)
        case "call":
            return flat(step.messages[-1].content) if step.messages else ""


def _first_line(cell: Cell) -> str:
    lines = [line for line in cell.code.splitlines() if line.strip()]
    return next((line for line in lines if not line.lstrip().startswith(("#", "import ", "from "))), (lines or [""])[0])


def _state(step: Step) -> str:
    if step.state == "complete" and step.cell:
        return "open" if step.cell.ended is None else "raised" if step.cell.error else "complete"
    return step.state


def _parts(step: Step) -> list[tuple[str, str, str, bool]]:
    """Heading, kind, text, and whether it is open at first."""
    parts: list[tuple[str, str, str, bool]] = []

    def add(heading: str, kind: str, text: str | None, is_open: bool = True) -> None:
        if text:
            parts.append((heading, kind, text, is_open))

    add("Question", "prose", step.query)
    if step.answer is not None:
        add("Answer" if step.state == "complete" else "Answer (extracted)", "prose", _text(step.answer))
    for citation in step.citations[:MAX_CITATIONS]:
        add(_place(citation), "quote", citation.quote)
    if (cell := step.cell) is not None:
        add("Code, looked up for the model" if step.name == LOOK_UP else "Code", "code", cell.code)
        add("Output", "text", cell.stdout)
        add("Error in the cell", "error", cell.error)
    add("Failed", "error", step.error)
    if step.parted:
        add("The replay parts here. Recorded", "text", step.parted.recorded or "(nothing)")
        add("Found by the replay", "text", step.parted.found or "(nothing)")
    if step.kind == "call":
        for message in step.messages:
            add("Prompt" if message.role == "user" else message.role.capitalize(), "prose", message.content)
        add("Reply", "prose", step.reply)
    else:
        add("Reply as the model wrote it", "prose", step.reply, cell is None)
        for message in step.messages:
            # What the model itself had said stands in the turn before.
            if message.role != "assistant":
                add(f"Sent to the model: {message.role}", "prose", message.content, False)
    if (context := step.context) is not None:
        facts = f"{context.type}, {context.chars:,} characters, {context.documents:,} documents\n{context.sha256}"
        add("Context (its sha256 below)", "text", facts)
        add("Head of the context", "text", context.head, False)
    return parts


def _place(citation: Citation) -> str:
    return f"Cited: {flat(citation.document_id)}, characters {citation.start:,} to {citation.end:,}"


def _text(answer: Any) -> str:
    if isinstance(answer, str):
        return answer
    try:
        return json.dumps(answer, indent=2, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        pass  # It is of the caller's own type, of a run that was not saved.
    from pydantic_core import to_jsonable_python

    try:
        return json.dumps(to_jsonable_python(answer, fallback=str), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return str(answer)


def _seconds(time: float) -> float:
    return round(time, 4)


def _date(trajectory: Trajectory) -> str | None:
    time = trajectory[0].time
    if not (math.isfinite(time) and 0 <= time < 32_503_680_000):  # to the year 3000
        return None
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _settings(trajectory: Trajectory) -> list[list[str]]:
    settings = trajectory.settings
    return [] if settings is None else [[name, flat(value, 1_000)] for name, value in _flat_fields(settings, "")]


def _flat_fields(value: Any, prefix: str) -> list[tuple[str, str]]:
    rows = []
    for field in fields(value):
        inner = getattr(value, field.name)
        if is_dataclass(inner):
            rows += _flat_fields(inner, f"{prefix}{field.name}.")
        elif inner not in (None, "", ()):
            rows.append((prefix + field.name, ", ".join(map(str, inner)) if isinstance(inner, tuple) else str(inner)))
    return rows


def _notices(trajectory: Trajectory, steps: Steps, root: Step, texts: Texts, context: Context | None) -> list[str]:
    """What a reader has to know to take the page for no more than it is."""
    notices = []
    if trajectory.cut:
        notices.append("The file this was read from is cut off in the middle; what it holds up to there is shown.")
    if root.state == "open":
        notices.append("The record does not tell how this run ended: it was stopped, or is still under way.")
    if root.state == "extracted":
        notices.append("Turns or budget ran out; the answer was drawn from what had been seen, and may be wrong.")
    if parted := next((step.parted for step in steps.all if step.parted), None):
        notices.append(f"What was done again parts from its record after turn {parted.turn}: see the step there.")
    if times := len(steps.resumed):
        often = "once" if times == 1 else f"{times} times"
        notices.append(f"The run was stopped and went on {often}; the time between is not counted.")
    if steps.left_out:
        notices.append(f"{steps.left_out:,} steps past the first {len(steps.all):,} are not shown.")
    if texts.cut:
        notices.append(
            f"{texts.cut:,} long texts are cut to {texts.limit:,} characters each; the record holds them whole."
        )
    if context is not None and root.context is not None and context.sha256 != root.context.sha256:
        notices.append("The documents given now are not those that the run was asked about.")
    return notices
