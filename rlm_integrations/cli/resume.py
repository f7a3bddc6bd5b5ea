"""``rlm resume``: a saved run goes on."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields

from rlm_integrations.budget import Budget
from rlm_integrations.cli.ask import documents, report
from rlm_integrations.cli.execute import Outcome, wait_for
from rlm_integrations.cli.exits import Exit
from rlm_integrations.cli.text import flat
from rlm_integrations.cli.views import NoView, View, view_on, warnings_to
from rlm_integrations.engine.tree import Observer
from rlm_integrations.errors import InvalidInput
from rlm_integrations.events import Event
from rlm_integrations.ports import LanguageModel
from rlm_integrations.rlm import RLM
from rlm_integrations.run_settings import RunSettings
from rlm_integrations.trajectory import Trajectory

__all__ = ["resume"]


def resume(args: argparse.Namespace, model: LanguageModel | None = None) -> Exit:
    """Go on with the run in ``args.run``; ``model`` takes the place of the one that ``args`` or the file name."""
    view: View = NoView() if args.quiet else view_on(sys.stderr)
    events: list[Event] = []
    try:
        with warnings_to(view):
            rlm = _rlm(args, model, Trajectory.load(args.run).settings, [events.append, view])
            context = documents(args) if args.paths else None
            result = wait_for(
                lambda: rlm.aresume(args.run, context), view, None if model else "reading the run and loading LiteLLM"
            )
        outcome = Outcome.of(result.trajectory)
    except (Exception, KeyboardInterrupt) as error:
        outcome = Outcome.of(events, error)
    report(args, outcome)
    if events and not args.quiet:
        print(f"saved: {flat(args.run)}", file=sys.stderr)
    return outcome.exit


def _rlm(
    args: argparse.Namespace, model: LanguageModel | None, was: RunSettings | None, observers: Sequence[Observer]
) -> RLM:
    """The settings of the run, but for what ``args`` say."""
    if was is None:
        if not (args.model or model):
            raise InvalidInput("the run does not say its model, as an earlier version saved it: pass --model")
        was = RunSettings(args.model or "", args.recursive_model or args.model or "")
    if was.tools or was.output_type:
        what = f"tools ({', '.join(was.tools)})" if was.tools else "an output_type"
        raise InvalidInput(f"the run was asked with {what}, which stand in your code: go on with RLM.resume")
    if was.api_base and not (args.api_base or model or args.model):
        # Never by itself: a key would be sent to whatever address a file names.
        raise InvalidInput(f"the run asked the server {was.api_base}: pass --api-base to go on there")
    limits = {limit.name: getattr(args, limit.name, getattr(was.budget, limit.name)) for limit in fields(Budget)}
    recursive = was.recursive_model if was.recursive_model != was.model and not model else None
    options = (("--model", model or args.model, was.model), ("--recursive-model", args.recursive_model, recursive))
    for option, given, name in options:
        if not given and name and "://" in name:  # some providers' models are addresses
            raise InvalidInput(f"the run asked the server {name}: pass {option} to go on there")
    return RLM(
        model or args.model or was.model,
        recursive_model=args.recursive_model or recursive,
        api_base=None if model else args.api_base,
        temperature=was.temperature if args.temperature is None else args.temperature,
        max_depth=getattr(args, "max_depth", was.max_depth),
        max_iterations=getattr(args, "max_iterations", was.max_iterations),
        max_parallel=was.max_parallel,
        budget=Budget(**limits),
        on_exhausted=was.on_exhausted,
        final_write=was.final_write,
        instructions=was.instructions,
        observers=observers,
    )
