"""The command line: ``rlm ask "question" PATH...``, ``rlm show RUN`` and other commands.

====  ======================================================================================
code  means
====  ======================================================================================
0     a complete answer
1     an unexpected failure
2     bad usage or input
3     turns or budget ran out; the answer was drawn from what had been seen ("extracted")
4     the model or its provider failed (no key, no such model, no connection, ...)
5     turns or budget ran out, and there is no answer
6     the sandbox failed
130   interrupted (Ctrl-C)
143   terminated
====  ======================================================================================
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import warnings
from collections.abc import Sequence
from io import TextIOWrapper

from rlm_integrations.cli.arguments import parser
from rlm_integrations.cli.exits import Exit
from rlm_integrations.ports import LanguageModel

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, *, model: LanguageModel | None = None) -> int:
    """Carry out a command and return its exit code; raises ``SystemExit`` for ``--help`` and bad usage.

    ``argv``: the arguments, by default those of the process. ``model`` takes the place of the model they name.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # An answer is shown in any locale, and at once where somebody reads along in a pipe.
            stream.reconfigure(errors="backslashreplace", line_buffering=True)
    if argv is None and not sys.warnoptions:
        # Python's warnings are for developers, here of LiteLLM and what it stands on.
        warnings.simplefilter("ignore")
    commands = parser()
    args = commands.parse_args(argv)
    if args.command is None:
        commands.print_help(sys.stderr)
        return Exit.USAGE
    if args.command == "ask" and not args.model and model is None:
        commands.error("no model: pass --model NAME or set RLM_MODEL")
    try:
        return _carry_out(args, model)
    except BrokenPipeError:
        # Whoever read the output has seen enough; and Python must not fail again when it flushes at exit.
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return Exit.UNEXPECTED
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    finally:
        if argv is None:
            # The process ends here. Collecting LiteLLM's objects one last time would take seconds.
            gc.freeze()


def _carry_out(args: argparse.Namespace, model: LanguageModel | None) -> int:
    """Each command loads what it needs: a saved run is shown without what asks models, help without either."""
    match args.command:
        case "ask":
            from rlm_integrations.cli.ask import ask

            return ask(args, model)
        case "show":
            from rlm_integrations.cli.show import show

            return show(args)
        case "export":
            from rlm_integrations.cli.export import export

            return export(args)
        case "resume":
            from rlm_integrations.cli.resume import resume

            return resume(args, model)
        case _:
            from rlm_integrations.cli.demo import demo

            return demo(args)
