"""The scan of what model code can import finds what must not be there."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import pytest

from rlm_integrations.sandbox.guards import Facade
from tests.sandbox.test_modules import leaks, private

BAD: dict[str, Any] = {
    "module": json,
    "frame": sys._getframe(),
    "code": leaks.__code__,
    "list of modules": ([os],),
    "class with a module": type("Class", (), {"decoder": json}),
    "facade with a module": Facade("inner", {"os": os}),
}


@pytest.mark.parametrize("kind", BAD)
def test_the_scan_finds(kind: str) -> None:
    found, _ = leaks({"good": Facade("good", {"dumps": json.dumps}), "bad": Facade("bad", {"name": BAD[kind]})})
    assert found
    assert all(path.startswith("bad.name") for path in found)


def test_the_scan_finds_a_private_name_of_a_facade() -> None:
    assert private({"bad": Facade("bad", {"_os": 1, "dumps": 2})}) == ["bad._os"]


def test_the_scan_finds_nothing_in_a_good_facade() -> None:
    good = {"good": Facade("good", {"dumps": json.dumps, "pi": 3.14, "JSONEncoder": json.JSONEncoder})}
    assert leaks(good)[0] == private(good) == []
