"""``rlm ask``: a question about files, folders and stdin."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rlm_integrations.budget import Budget
from rlm_integrations.cli.execute import Outcome, carry_out
from rlm_integrations.cli.exits import Exit
from rlm_integrations.cli.report import as_json, print_answer, print_partial
from rlm_integrations.cli.text import flat, shown
from rlm_integrations.cli.views import NoView, View, view_on, warnings_to
from rlm_integrations.context import Context, Document
from rlm_integrations.engine.tree import Observer
from rlm_integrations.errors import InvalidInput
from rlm_integrations.events import Event
from rlm_integrations.ports import LanguageModel
from rlm_integrations.rlm import RLM
from rlm_integrations.saving import Saver

__all__ = ["ask", "documents", "read", "report"]


def ask(args: argparse.Namespace, model: LanguageModel | None) -> Exit:
    """Answer the question; ``model`` takes the place of the one that ``args`` name."""
    view: View = NoView() if args.quiet else view_on(sys.stderr)
    saver: Saver | None = None
    events: list[Event] = []
    try:
        with warnings_to(view):
            if args.include_context and not args.save:
                raise InvalidInput("--include-context is for a run that is saved: name a file with --save")
            context = documents(args)
            saver = Saver(args.save, include_context=args.include_context) if args.save else None
            rlm = _rlm(args, model, [events.append, view])
            carry_out(rlm, args.question, context, view, None if model else "loading LiteLLM", save=saver)
        outcome = Outcome.of(events)
    except (Exception, KeyboardInterrupt) as error:
        outcome = Outcome.of(events, error)
    report(args, outcome)
    if saver and saver.error:
        print(f"rlm: {flat(saver.path)} is not complete: {saver.error.strerror or saver.error}", file=sys.stderr)
        return max(outcome.exit, Exit.UNEXPECTED)
    if saver and events and not args.quiet:
        print(f"saved: {flat(saver.path)}", file=sys.stderr)
    return outcome.exit


def _rlm(args: argparse.Namespace, model: LanguageModel | None, observers: Sequence[Observer]) -> RLM:
    return RLM(
        model or args.model,
        recursive_model=args.recursive_model,
        api_base=None if model else args.api_base,
        temperature=args.temperature,
        max_depth=args.max_depth,
        max_iterations=args.max_iterations,
        budget=Budget(args.max_calls, args.max_tokens, args.max_cost_usd, args.max_seconds),
        observers=observers,
    )


def documents(args: argparse.Namespace) -> Context:
    """The documents that ``args`` name, in memory or on disk. Raises ``InvalidInput`` for what can't be read."""
    if args.index and not args.lazy:
        raise InvalidInput("--index is for documents that stay on disk: pass --lazy with it")
    if not args.lazy:
        return read(args.paths)
    if "-" in args.paths:
        raise InvalidInput("--lazy takes files and folders, not stdin: write it to a file first")
    return Context.from_files(args.paths, lazy=True, index=args.index)


def read(paths: Sequence[str]) -> Context:
    """The documents at ``paths``; "-" is stdin. Raises ``InvalidInput`` for what can't be read."""
    files = [path for path in paths if path != "-"]
    documents = list(Context.from_files(files).value) if files else []
    if "-" in paths:
        documents.append(_read_stdin())
    return Context(documents)


def _read_stdin() -> Document:
    if sys.stdin.isatty():
        print("rlm: reading a document from the terminal; Ctrl-D ends it", file=sys.stderr)
    try:
        text = sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput("stdin is not text (UTF-8 expected): convert it to text first") from error
    if not text:
        raise InvalidInput("stdin is empty: pipe a document into it, or name a file")
    return Document(text, id="stdin")


def report(args: argparse.Namespace, outcome: Outcome) -> None:
    """Print what came of a question, in the way that ``args`` ask for."""
    result, error = outcome.result, outcome.error
    if error:
        print(f"rlm: {error}", file=sys.stderr)
        if result.run_id and not args.quiet:
            print_partial(result, sys.stderr)
    elif args.quiet and result.status == "extracted":
        print(f"rlm: {outcome.exit.meaning}", file=sys.stderr)
    if args.json:
        print(as_json(result, error))
    elif not error and args.quiet:
        print(shown(str(result.answer)))
    elif not error:
        print_answer(result, sys.stdout)
