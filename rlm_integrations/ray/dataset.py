"""``answer_dataset``: the rows of a dataset answered by all nodes of a cluster."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable
from typing import Any

import ray
from ray.data import ActorPoolStrategy, Dataset

from rlm_integrations.errors import InvalidInput
from rlm_integrations.ray.answering import AnswerRows, Work
from rlm_integrations.ray.limits import JobLimits
from rlm_integrations.ray.rows import Column, Columns
from rlm_integrations.ray.shipping import ShippedRLM
from rlm_integrations.rlm import RLM

__all__ = ["answer_dataset"]

# While the last rows of one block are under way, those of the next fill the process.
BLOCKS_AT_ONCE = 3
# Ray spreads over the nodes only what asks for something; LiteLLM alone takes 115 MB.
MEMORY_MB = 384


def answer_dataset(
    dataset: Dataset,
    rlm: RLM | Callable[[], RLM],
    *,
    question: Column = "question",
    context: Column | None = None,
    context_path: Column | None = None,
    id: Column | None = None,
    save_to: str | os.PathLike[str] | None = None,
    limits: JobLimits | None = None,
    concurrency: int | None = None,
    rows_at_once: int = 32,
    num_cpus: float = 0.0,
    memory_mb: int = MEMORY_MB,
) -> Dataset:
    """``dataset`` with an answer to each row's question; lazy, as all of Ray Data: rows are asked when it is read.

    ``rlm``: is made again in ``concurrency`` processes (one for each node of now, by default), each of which answers
    ``rows_at_once`` rows at once; or a function that makes one there. An API key that the RLM was given goes with it to
    those processes by way of Ray's object store, but into no row and no log; one in their environment goes nowhere.
    Its sandbox works where the row does.

    A column is given by its name, or as a function of the row (a dict of all columns). ``context`` ("context" by
    default) is all that an ``RLM`` takes; of JSON in a column, Arrow gives all rows one shape, with None for what a row
    lacks: where shapes differ, keep text and pass ``lambda row: json.loads(row["context"])``. ``context_path`` in its
    place: files or folders that all nodes see, as for ``Context.from_files``.

    Added columns: ``answer`` (text; JSON text with another ``output_type``), ``status`` ("complete", "extracted",
    "failed"), ``citations`` (structs of document_id, start, end and quote), ``usage`` (struct of calls, input_tokens,
    output_tokens, cached_tokens and cost_usd), ``error`` (struct of type and message, or null), ``run_id``, and
    ``trajectory``, the file that the row was saved in, or null. A row's failure stays in its row.

    ``save_to``: a folder that all nodes see, where each row is saved as it runs, under its ``id`` or a hash of question
    and context. A row that has its answer there is not asked again, with whatever model; one that was cut off or failed
    goes on. So a job that was killed is run again as it is, and so are the rows of a node that was lost, and nothing is
    paid for twice. ``limits``: for all rows together; its ``progress()`` tells how far the job is. ``num_cpus`` and
    ``memory_mb`` are what Ray sets aside for each process; no CPU by default, so that a dataset can be read beside it
    on any machine.

    Raises ``InvalidInput`` at once for what can't be used or sent to other processes, and when rows are asked for
    columns that are missing or would be overwritten.
    """
    if not isinstance(dataset, Dataset):
        raise InvalidInput(f"dataset is a {type(dataset).__name__}: pass a ray.data.Dataset")
    if not ray.is_initialized():
        raise InvalidInput("Ray is not running here: call ray.init() first, with the address of your cluster")
    if limits is not None and not isinstance(limits, JobLimits):
        raise InvalidInput(f"limits={limits!r}: pass JobLimits(...), or None")
    if context is not None and context_path is not None:
        raise InvalidInput("context and context_path: pass one of them")
    _check_at_least_one("rows_at_once", rows_at_once)
    _check_at_least_one("memory_mb", memory_mb)
    if concurrency is not None:
        _check_at_least_one("concurrency", concurrency)
    columns = Columns(
        question=_column("question", question),
        context=_column("context", "context" if context is None else context) if context_path is None else None,
        context_path=None if context_path is None else _column("context_path", context_path),
        id=None if id is None else _column("id", id),
    )
    if schema := dataset.schema(fetch_if_missing=False):
        columns.check(schema.names)
    folder = None if save_to is None else os.path.abspath(os.fspath(save_to))
    work = Work(ShippedRLM(rlm), columns, rows_at_once, folder, limits)
    rows = math.ceil(rows_at_once / 2)
    return _in_blocks(dataset, rows).map_batches(
        AnswerRows,
        fn_constructor_args=(work,),
        batch_size=rows,
        batch_format="pyarrow",
        num_cpus=num_cpus,
        memory=memory_mb * 2**20,
        **_processes(concurrency or len(_nodes())),
    )


def _in_blocks(dataset: Dataset, rows: int) -> Dataset:
    """The dataset in blocks small enough to be shared out among processes."""
    # Without it (Ray 2.49), small blocks stay small here, and are put together on their way to a process.
    has_strict = "strict" in inspect.signature(dataset.repartition).parameters
    exact: dict[str, Any] = {"strict": True} if has_strict else {}
    return dataset.repartition(target_num_rows_per_block=rows, **exact)


def _processes(size: int) -> dict[str, Any]:
    known = inspect.signature(ActorPoolStrategy.__init__).parameters
    pool: dict[str, Any] = {"size": size, "max_tasks_in_flight_per_actor": BLOCKS_AT_ONCE}
    if "max_concurrent_calls_per_actor" in known:
        return {"compute": ActorPoolStrategy(max_concurrent_calls_per_actor=BLOCKS_AT_ONCE, **pool)}
    return {"compute": ActorPoolStrategy(**pool), "max_concurrency": BLOCKS_AT_ONCE}


def _nodes() -> list[Any]:
    nodes: Any = ray.nodes
    alive = [node for node in nodes() if node["Alive"]]
    return [node for node in alive if node["Resources"].get("CPU")] or alive


def _column(name: str, column: Any) -> Column:
    if not (isinstance(column, str) and column) and not callable(column):
        raise InvalidInput(f"{name}={column!r}: pass the name of a column, or a function of the row")
    return column  # type: ignore[no-any-return]


def _check_at_least_one(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidInput(f"{name}={value!r}: pass a whole number of at least 1")
