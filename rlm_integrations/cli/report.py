"""What a command ends with: the answer, its evidence and its cost; or how far a run came that has no answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, TextIO

from rlm_integrations.cli.narrator import describe
from rlm_integrations.cli.text import flat, shown, tail
from rlm_integrations.cli.views import is_terminal
from rlm_integrations.events import CellEnded
from rlm_integrations.messages import UsageReport
from rlm_integrations.result import RLMResult

__all__ = ["as_json", "print_answer", "print_partial", "print_usage"]

EXTRACTED = "extracted: turns or budget ran out; the answer was drawn from what had been seen, and may be wrong"
QUOTE_CHARS = 300
LAST_LINES = 12


def as_json(result: RLMResult, error: str | None) -> str:
    """The one line that ``--json`` prints; ASCII, so that it suits any locale."""
    return json.dumps(
        {
            "answer": result.answer,
            "status": result.status,
            "error": error,
            "citations": [asdict(citation) for citation in result.citations],
            "usage": _plain_usage(result.usage),
            "run_id": result.run_id,
        }
    )


def print_answer(result: RLMResult, stream: TextIO) -> None:
    """Answer, status where it is not complete, evidence and usage."""
    if is_terminal(stream):
        _print_rich(result, stream)
        return
    for line in shown(str(result.answer)).split("\n"):
        print(f"answer: {line}", file=stream)
    if result.status == "extracted":
        print(f"status: {EXTRACTED}", file=stream)
    for place, quote in _evidence(result):
        print(f'evidence: {place}: "{quote}"', file=stream)
    print_usage(result.usage, stream)


def print_usage(usage: UsageReport, stream: TextIO) -> None:
    """What it took in all, by model and by depth."""
    if is_terminal(stream):
        _print_table(usage, stream)
        return
    for of, part in _usage_rows(usage):
        print(f"usage: {of}{describe(part)}", file=stream)
    stream.flush()


def print_partial(result: RLMResult, stream: TextIO) -> None:
    """What a run without an answer had got to: the last output, and what it took."""
    last = next((e.stdout for e in reversed(result.trajectory) if isinstance(e, CellEnded) and e.stdout.strip()), "")
    if last:
        for line in tail(last, LAST_LINES).split("\n"):
            print(f"last output | {line}", file=stream)
    print(f"usage: {describe(result.usage)}", file=stream, flush=True)


def _print_rich(result: RLMResult, stream: TextIO) -> None:
    from rich.panel import Panel
    from rich.text import Text

    from rlm_integrations.cli.live import terminal

    console = terminal(stream)
    found = result.status == "complete"
    title = "Answer" if found else EXTRACTED.capitalize()
    console.print(
        Panel(Text(shown(str(result.answer))), title=Text(title), border_style="green" if found else "yellow")
    )
    for place, quote in _evidence(result):
        console.print(Text.assemble(("evidence ", "bold"), place, ": ", (f'"{quote}"', "italic")))
    _print_table(result.usage, stream)


def _print_table(usage: UsageReport, stream: TextIO) -> None:
    from rich.table import Table
    from rich.text import Text

    from rlm_integrations.cli.live import terminal

    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("usage")
    for column in ("calls", "tokens in", "cached", "out", "cost"):
        table.add_column(column, justify="right")
    for of, part in _usage_rows(usage):
        cost = "-" if part.cost_usd is None else f"${part.cost_usd:.4f}"
        counts = (part.calls, part.input_tokens, part.cached_tokens, part.output_tokens)
        table.add_row(Text(of.removesuffix(": ") or "in all"), *(f"{count:,}" for count in counts), cost)
    terminal(stream).print(table)


def _evidence(result: RLMResult) -> Iterator[tuple[str, str]]:
    for citation in result.citations:
        place = f"{flat(citation.document_id)}, characters {citation.start:,} to {citation.end:,}"
        # Word for word, but on one line.
        quote = shown(citation.quote).replace("\n", " ")
        yield place, quote if len(quote) <= QUOTE_CHARS else f"{quote[:QUOTE_CHARS]}…"


def _usage_rows(usage: UsageReport) -> Iterator[tuple[str, UsageReport]]:
    """All of it, and its parts where there are several."""
    yield "", usage
    if len(usage.by_model) > 1:
        yield from ((f"{flat(model)}: ", part) for model, part in usage.by_model.items())
    if len(usage.by_depth) > 1:
        yield from ((f"depth {depth}: ", part) for depth, part in usage.by_depth.items())


def _plain_usage(usage: UsageReport) -> dict[str, Any]:
    plain = asdict(usage)
    for parts in (plain["by_model"], plain["by_depth"]):
        for part in parts.values():
            del part["by_model"], part["by_depth"]
    return plain
