"""A record holds what happened, once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from rlm_integrations import RLMResult
from rlm_integrations.testing import ScriptedModel
from tests.scripts import cell


class Place(BaseModel):
    name: str


def test_a_saved_trajectory_is_one_event_a_line_after_the_version(run: Any, make_rlm: Any, tmp_path: Path) -> None:
    model = ScriptedModel([cell("print(context)"), cell("FINAL({'name': context[:5]})")])
    result = run(make_rlm(model, output_type=Place), "q", "Paris \ud800 \0 \u2028")
    result.save(tmp_path / "run.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text("ascii").split("\n")[:-1]]
    assert lines[0] == {"rlm_trajectory": 1}
    assert [line["kind"] for line in lines[1:]] == [event.kind for event in result.trajectory]
    assert lines[-1]["answer"] == {"name": "Paris"}


def test_a_trajectory_describes_the_context_and_does_not_hold_it(run: Any, make_rlm: Any, tmp_path: Path) -> None:
    text = "".join(f"row {number}\n" for number in range(100_000))
    result = run(make_rlm(ScriptedModel([cell("FINAL(len(context))")])), "q", text)
    result.save(tmp_path / "run.jsonl")
    assert (tmp_path / "run.jsonl").stat().st_size < 10_000


def test_a_result_is_told_by_events_cut_off_anywhere(run: Any, make_rlm: Any) -> None:
    result = run(make_rlm(ScriptedModel([cell("print(1)"), cell("FINAL(len(context))")])), "q", "text")
    for end in range(1, len(result.trajectory)):
        assert RLMResult.from_events(result.trajectory[:end]).status == "failed"
    assert RLMResult.from_events(result.trajectory) == result
