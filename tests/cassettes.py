"""Cassettes: what a real server answered, recorded with RECORD=1 and else played back, each answer exactly once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import vcr

RECORDING = bool(os.environ.get("RECORD"))


def without_headers(request: Any) -> Any:
    """A request as it is kept: nothing of the machine that made it, and no key."""
    request.headers = {"content-type": "application/json"}
    return request


@contextmanager
def cassette(
    request: pytest.FixtureRequest, path: Path, *, place: str, kept: Callable[[Any], Any] = without_headers
) -> Iterator[Any]:
    """The tape of one test. Requests are told apart by method, body and ``place`` ("uri" or "path")."""
    if RECORDING:
        request.getfixturevalue("socket_enabled")
        path.unlink(missing_ok=True)
    recorder = vcr.VCR(
        record_mode="all" if RECORDING else "none",
        match_on=["method", place, "body"],
        decode_compressed_response=True,
        before_record_request=kept,
        before_record_response=_portable_response,
    )
    with recorder.use_cassette(str(path)) as tape:
        yield tape
    assert RECORDING or tape.all_played


def _portable_response(response: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in response["headers"].items() if name.lower() == "content-type"}
    return response | {"headers": kept}
