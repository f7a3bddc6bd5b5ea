"""What the commands take: parsed and checked before anything else is loaded."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from rlm_integrations import __version__
from rlm_integrations.budget import Budget
from rlm_integrations.cli.exits import Exit

__all__ = ["parser"]

Number = TypeVar("Number", int, float)

EXIT_CODES = "exit codes:\n" + "\n".join(f"  {code:>3}  {code.meaning}" for code in Exit)
KEYS = "Keys are read from the environment (OPENAI_API_KEY, ANTHROPIC_API_KEY, ...), as LiteLLM does."
ASK_EXAMPLES = """examples:
  rlm ask "Which orders were late, and why?" orders/ --model openai/gpt-5-mini
  rlm ask "How many tests failed?" log.txt --model ollama/qwen2.5-coder:7b --save run.jsonl
  git log | rlm ask "Who changed the parser most often?" - --model anthropic/claude-sonnet-4-5 --json
"""
RESUME_EXAMPLES = """examples:
  rlm resume run.jsonl orders/                                   after a crash, Ctrl-C or a killed process
  rlm resume run.jsonl orders/ --max-calls 400                   after its budget had run out
"""
SHOW_EXAMPLES = """examples:
  rlm show run.jsonl                     what happened, with its cost
  rlm show run.jsonl --full | less       all of it, prompts and replies of the sub-calls too
  rlm show run.jsonl --follow            a run under way, as it goes on
"""
EXPORT_EXAMPLES = """examples:
  rlm export run.jsonl run.html
  rlm export run.jsonl run.html orders/  with the cited passages in their documents
"""
DEMO_EXAMPLES = """examples:
  rlm demo                                                       recorded replies: no key, no network
  rlm demo --model ollama/qwen2.5-coder:7b                       a local model, live
  rlm demo --model openai/qwen --api-base http://127.0.0.1:8080/v1    any server that speaks OpenAI's protocol
"""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(Exit.USAGE, f"{self.prog}: {message} ({self.prog} --help shows how)\n")


def parser() -> Parser:
    """The parser of all commands."""
    root = Parser(
        prog="rlm",
        description="Answers questions about documents too long for any prompt: a model writes code that searches "
        "them, the code runs in a sandbox, and the answer comes with its evidence.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action="version", version=f"rlm-integrations {__version__}")
    commands = root.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    _add_ask(commands)
    _add_demo(commands)
    _add_show(commands)
    _add_export(commands)
    _add_resume(commands)
    return root


def _add_ask(commands: Any) -> None:
    ask: Parser = commands.add_parser(
        "ask",
        help="answer a question about files and folders",
        description="Answers a question about files and folders. What happens is told on stderr, the answer with its "
        f"evidence and cost goes to stdout. {KEYS}",
        epilog=f"{ASK_EXAMPLES}\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    ask.add_argument("question", type=_question, help="what to find out, in quotes")
    ask.add_argument(
        "paths", nargs="+", metavar="PATH", help="file (text, html, csv, json, pdf), folder, or - for stdin"
    )
    _add_lazy(ask)
    _add_model(ask, os.environ.get("RLM_MODEL") or None, "; default: the environment's RLM_MODEL")
    limits = ask.add_argument_group("limits (default)")
    limits.add_argument("--max-depth", type=_whole(0), default=1, metavar="N", help="levels of helper runs (1)")
    limits.add_argument("--max-iterations", type=_whole(1), default=20, metavar="N", help="turns of a run (20)")
    limits.add_argument(
        "--max-calls",
        type=_or_none(_whole(1)),
        default=Budget().max_calls,
        metavar="N",
        help=f"model calls in all ({Budget().max_calls}; none: no limit)",
    )
    limits.add_argument("--max-tokens", type=_whole(1), metavar="N", help="tokens in all (no limit)")
    limits.add_argument("--max-cost-usd", type=_number, metavar="USD", help="cost in all (no limit)")
    limits.add_argument("--max-seconds", type=_number, metavar="S", help="time in all (no limit)")
    output = _add_output(ask)
    output.add_argument("--save", metavar="FILE", help="write every event to FILE as it happens, as JSON lines")
    output.add_argument("--include-context", action="store_true", help="with --save: keep the documents too")


def _add_output(command: Parser) -> Any:
    output = command.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="print one JSON object and nothing else on stdout")
    output.add_argument("-q", "--quiet", action="store_true", help="print the answer alone")
    return output


def _add_demo(commands: Any) -> None:
    demo: Parser = commands.add_parser(
        "demo",
        help="see it work, without a key and without a network",
        description="Answers questions about Python's language reference, which every Python brings along. The model's "
        "replies are a recording unless --model is given; the code in them really runs in the sandbox. " + KEYS,
        epilog=f"{DEMO_EXAMPLES}\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_model(demo, None, "; default: the recording")


def _add_show(commands: Any) -> None:
    show: Parser = commands.add_parser(
        "show",
        help="see a saved run: its turns, code, output, sub-calls and cost",
        description="Shows a run that was saved (rlm ask --save, or save= in Python): every turn with its code and "
        "what it printed, every sub-call with its model, tokens, cost and time, and the answer.",
        epilog=f"{SHOW_EXAMPLES}\n{_codes('it was shown, however it had ended')}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    show.add_argument("run", metavar="RUN", help="file with a saved run")
    show.add_argument("-f", "--follow", action="store_true", help="go on with what is added, until the run has ended")
    show.add_argument("--full", action="store_true", help="shorten nothing, and show what each sub-call was asked")


def _add_export(commands: Any) -> None:
    export: Parser = commands.add_parser(
        "export",
        help="make one HTML page of a saved run",
        description="Makes one self-contained HTML page of a run that was saved.",
        epilog=f"{EXPORT_EXAMPLES}\n{_codes('the page is written')}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    export.add_argument("run", metavar="RUN", help="file with a saved run")
    export.add_argument("page", metavar="PAGE", help="the HTML file to write")
    export.add_argument(
        "paths", nargs="*", metavar="PATH", help="the documents it was asked of, where RUN was saved without them"
    )


def _add_resume(commands: Any) -> None:
    """What is not said stays as RUN has it: of the limits, ``args`` hold only those that were given."""
    resume: Parser = commands.add_parser(
        "resume",
        help="go on with a saved run that ended before its answer",
        description="Goes on with a saved run that its budget, an error, Ctrl-C or a killed process ended. What was "
        f"answered is not asked again, and RUN is written on. {KEYS}",
        epilog=f"{RESUME_EXAMPLES}\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    resume.add_argument("run", metavar="RUN", help="file with a saved run")
    resume.add_argument("paths", nargs="*", metavar="PATH", help="the documents, where RUN was saved without them")
    _add_lazy(resume)
    _add_model(resume, None, "; default: the one in RUN", "the one in RUN", "that in RUN")
    limits = resume.add_argument_group("limits (default: those in RUN; none: no limit)")
    given, no_limit = argparse.SUPPRESS, _or_none(_whole(1))
    limits.add_argument("--max-depth", type=_whole(0), default=given, metavar="N", help="levels of helper runs")
    limits.add_argument("--max-iterations", type=_whole(1), default=given, metavar="N", help="turns of a run")
    limits.add_argument("--max-calls", type=no_limit, default=given, metavar="N", help="model calls in all")
    limits.add_argument("--max-tokens", type=no_limit, default=given, metavar="N", help="tokens in all")
    limits.add_argument("--max-cost-usd", type=_or_none(_number), default=given, metavar="USD", help="cost in all")
    limits.add_argument("--max-seconds", type=_or_none(_number), default=given, metavar="S", help="time from now on")
    _add_output(resume)


def _add_lazy(command: Parser) -> None:
    command.add_argument(
        "--lazy", action="store_true", help="for more text than memory: index it on disk and read a document at a time"
    )
    command.add_argument("--index", metavar="FOLDER", help="with --lazy: keep the index there, for the next question")


def _codes(done: str) -> str:
    """The exit codes of a command that asks no model."""
    codes = {Exit.COMPLETE: done} | {code: code.meaning for code in (Exit.UNEXPECTED, Exit.USAGE, Exit.INTERRUPTED)}
    return "exit codes:\n" + "\n".join(f"  {code:>3}  {meaning}" for code, meaning in codes.items())


def _add_model(
    command: Parser,
    default: str | None,
    said: str,
    recursive_model: str = "the same",
    temperature: str = "the provider's",
) -> None:
    model = command.add_argument_group("model")
    model.add_argument(
        "--model", default=default, metavar="NAME", help=f"LiteLLM name, e.g. openai/gpt-5-mini, ollama/llama3{said}"
    )
    model.add_argument("--recursive-model", metavar="NAME", help=f"model of the sub-calls (default: {recursive_model})")
    model.add_argument(
        "--api-base",
        default=os.environ.get("RLM_API_BASE") or None,
        metavar="URL",
        help="server of the model; default: the environment's RLM_API_BASE",
    )
    model.add_argument("--temperature", type=float, metavar="T", help=f"default: {temperature}")


def _question(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("the question is empty")
    return text


def _whole(least: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
        return number

    return whole


def _or_none(parse: Callable[[str], Number]) -> Callable[[str], Number | None]:
    return lambda text: None if text == "none" else parse(text)


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number
