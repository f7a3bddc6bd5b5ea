"""What ``import rlm_integrations`` costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from statistics import median

from tests.benchmarks.figure import Figure

__all__ = ["measure"]

HEAVY = ("litellm", "langchain_core", "llama_index", "openai", "pydantic", "RestrictedPython", "rich")
SCRIPT = f"""
import json, sys, time
start = time.perf_counter()
import rlm_integrations
seconds = time.perf_counter() - start
print(json.dumps([seconds, len(sys.modules), [name for name in {HEAVY} if name in sys.modules]]))
"""


def measure(times: int = 11) -> Iterator[Figure]:
    """In fresh processes, with byte code at hand as an installed package has it: the first fills the cache."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": cache}
        command = [sys.executable, "-c", SCRIPT]
        found = [json.loads(subprocess.check_output(command, env=environment)) for _ in range(times + 1)][1:]
    yield Figure("import rlm_integrations", median(seconds for seconds, _, _ in found), "s", 0.1)
    yield Figure("modules loaded by it", found[0][1], "")
    yield Figure(f"heavy ones among them {found[0][2] or ''}".strip(), len(found[0][2]), "", 0)
