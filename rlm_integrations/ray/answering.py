"""The process that answers rows: Ray Data hands it blocks of them."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

from rlm_integrations.engine.drivers import in_thread
from rlm_integrations.errors import InvalidInput, RLMError
from rlm_integrations.ports import LanguageModel
from rlm_integrations.ray.limited_model import LimitedModel, Permits
from rlm_integrations.ray.limits import JobLimits
from rlm_integrations.ray.rows import Columns, Outcome, with_outcomes
from rlm_integrations.ray.saved_rows import SavedRows
from rlm_integrations.ray.shipping import ShippedRLM, keys_of
from rlm_integrations.result import RLMResult
from rlm_integrations.rlm import RLM

__all__ = ["AnswerRows", "Work"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Work:
    """What a process that answers rows is told."""

    rlm: ShippedRLM
    columns: Columns
    rows_at_once: int
    save_to: str | None
    limits: JobLimits | None


class AnswerRows:
    """Answers the rows of a block, ``rows_at_once`` of all blocks at once.

    Its event loop is its own: that of Ray Data stands still whenever a block can't be passed on yet.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="rlm-rows", daemon=True).start()
        self._room = asyncio.Semaphore(work.rows_at_once)
        self._saved = SavedRows(work.save_to) if work.save_to is not None else None
        rlm = work.rlm.make()
        self._without_keys = keys_of(rlm)
        self._rlm = _limited(rlm, work.limits, self._loop) if work.limits else rlm

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        # A generator: Ray Data calls what is not one block by block, in one thread.
        self._work.columns.check(table.column_names)
        rows = self._work.columns.rows(table)
        answered = asyncio.run_coroutine_threadsafe(self._answered(rows), self._loop)
        try:
            yield with_outcomes(table, answered.result(), self._rlm.settings.answer_type.type is not str)
        finally:
            answered.cancel()

    async def _answered(self, rows: list[dict[str, Any]]) -> list[Outcome]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._row(row)) for row in rows]
        return [task.result() for task in tasks]

    async def _row(self, row: Mapping[str, Any]) -> Outcome:
        async with self._room:
            outcome = await self._outcome(row)
        if self._work.limits:
            await self._work.limits.actor.count_rows.remote(1, int(outcome.error is not None))
        return outcome

    async def _outcome(self, row: Mapping[str, Any]) -> Outcome:
        columns, saved, path = self._work.columns, self._saved, None
        try:
            question = columns.question_of(row)
            if not isinstance(question, str):
                raise InvalidInput(f"the question of a row is {question!r}: it must be text")
            context = await in_thread(partial(columns.context_of, row))
            if saved is None:
                return Outcome(await self._rlm.arun(question, context))
            path = saved.path(columns.id_of(row), question, context)
            return Outcome(await saved.run(self._rlm, path, question, context), path)
        except RLMError as error:
            result = error.partial or RLMResult(None, "failed")
            return Outcome(result, path, self._told(error))
        except Exception as error:
            # Of the user's functions, say, or his files: one bad row must not end a job that was paid for.
            logger.error("a row failed with %s", ": ".join(self._told(error)))
            return Outcome(RLMResult(None, "failed"), path, self._told(error))

    def _told(self, error: Exception) -> tuple[str, str]:
        return type(error).__name__, self._without_keys(str(error))


def _limited(rlm: RLM, limits: JobLimits, loop: asyncio.AbstractEventLoop) -> RLM:
    """``rlm`` with models that ask for leave. Raises ``InvalidInput`` where a limit of cost can't be held."""
    root, recursive = rlm.settings.model, rlm.settings.recursive_model
    permits = Permits(limits)

    def limited(model: LanguageModel) -> LanguageModel:
        if limits.limits.max_cost_usd is not None and getattr(model, "has_price", None) is False:
            raise InvalidInput(
                f"max_cost_usd can't be held: no price is known for {model.name}; use max_tokens or max_calls"
            )
        return LimitedModel(model, permits, loop)

    one = limited(root)
    return rlm.replace(model=one, recursive_model=one if recursive is root else limited(recursive))
