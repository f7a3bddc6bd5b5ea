"""Rows of a dataset: what is read from their columns, and the columns that come of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

from rlm_integrations.context import Context
from rlm_integrations.errors import InvalidInput
from rlm_integrations.messages import UsageReport
from rlm_integrations.result import RLMResult

__all__ = ["ADDED", "Column", "Columns", "Outcome", "with_outcomes"]

Column = str | Callable[[Mapping[str, Any]], Any]

USAGE = ("calls", "input_tokens", "output_tokens", "cached_tokens")
CITATION = (("document_id", pa.string()), ("start", pa.int64()), ("end", pa.int64()), ("quote", pa.string()))
# Fixed, so that all blocks have one schema, whatever their rows hold.
ADDED = pa.schema(
    [
        ("answer", pa.string()),
        ("status", pa.string()),
        ("citations", pa.list_(pa.struct(CITATION))),
        ("usage", pa.struct([*((name, pa.int64()) for name in USAGE), ("cost_usd", pa.float64())])),
        ("error", pa.struct([("type", pa.string()), ("message", pa.string())])),
        ("run_id", pa.string()),
        ("trajectory", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a row has its parts: each a column's name, or a function of the row, a dict of all columns."""

    question: Column
    context: Column | None
    context_path: Column | None
    id: Column | None

    def check(self, names: Sequence[str]) -> None:
        """Raise ``InvalidInput`` for columns that are not there, and for those that would be overwritten."""
        for setting, column in zip(("question", "context", "context_path", "id"), self._all, strict=True):
            if isinstance(column, str) and column not in names:
                raise InvalidInput(f"{setting}={column!r}: there is no such column; there are {', '.join(names)}")
        if both := [name for name in ADDED.names if name in names]:
            raise InvalidInput(f"the dataset has a column {both[0]} already: rename it (Dataset.rename_columns)")

    def rows(self, table: pa.Table) -> list[dict[str, Any]]:
        """The rows with all columns that are asked for."""
        if not any(callable(column) for column in self._all):
            table = table.select(list(dict.fromkeys(column for column in self._all if isinstance(column, str))))
        rows: list[dict[str, Any]] = table.to_pylist()
        return rows

    def question_of(self, row: Mapping[str, Any]) -> Any:
        """The question."""
        return _value(self.question, row)

    def id_of(self, row: Mapping[str, Any]) -> str | None:
        """What names the row, where the rows have names. Raises ``InvalidInput`` for an empty one."""
        if self.id is None:
            return None
        id = _value(self.id, row)
        if isinstance(id, bool) or not isinstance(id, str | int) or id == "":
            raise InvalidInput(f"the id of a row is {id!r}: it must be some text or a whole number")
        return str(id)

    def context_of(self, row: Mapping[str, Any]) -> Context:
        """The context, hashed; blocks for the files of a path."""
        if self.context_path is not None:
            context = Context.from_files(_value(self.context_path, row))
        else:
            assert self.context is not None
            context = Context.of(_value(self.context, row))
        _ = context.summary
        return context

    @property
    def _all(self) -> tuple[Column | None, ...]:
        return self.question, self.context, self.context_path, self.id


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a row: its result, or with ``error`` (type and message) what there is of one."""

    result: RLMResult
    trajectory: str | None = None
    error: tuple[str, str] | None = None


def with_outcomes(table: pa.Table, outcomes: Sequence[Outcome], as_json: bool) -> pa.Table:
    """``table`` with the columns ``ADDED``, the answers as JSON or, where all are, as text."""
    values = [_columns(outcome, as_json) for outcome in outcomes]
    for column in ADDED:
        table = table.append_column(column, pa.array([value[column.name] for value in values], column.type))
    return table


def _value(column: Column, row: Mapping[str, Any]) -> Any:
    return row[column] if isinstance(column, str) else column(row)


def _columns(outcome: Outcome, as_json: bool) -> dict[str, Any]:
    result = outcome.result
    error = outcome.error and {"type": outcome.error[0], "message": _sound(outcome.error[1])}
    return {
        "answer": None if outcome.error else _answer(result.answer, as_json),
        "status": result.status,
        "citations": [
            asdict(citation) | {"document_id": _sound(citation.document_id), "quote": _sound(citation.quote)}
            for citation in result.citations
        ],
        "usage": _usage(result.usage),
        "error": error,
        "run_id": result.run_id or None,
        "trajectory": outcome.trajectory,
    }


def _answer(answer: Any, as_json: bool) -> str:
    if not as_json:
        return _sound(str(answer))
    from pydantic_core import to_jsonable_python

    return _sound(json.dumps(to_jsonable_python(answer, fallback=str), ensure_ascii=False))


def _usage(usage: UsageReport) -> dict[str, Any]:
    return {name: getattr(usage, name) for name in (*USAGE, "cost_usd")}


def _sound(text: str) -> str:
    """``text`` with lone surrogates, which no column can hold, replaced."""
    return text.encode("utf-8", "replace").decode("utf-8")
