"""What LangChain's standard tests need to run here."""

from __future__ import annotations

import inspect

import pytest

__all__ = ["run_async_tests"]


def run_async_tests(*suites: type) -> None:
    """Have the coroutine functions among the tests of ``suites`` run, which is left to each project's settings."""
    for suite in suites:
        for name, test in inspect.getmembers(suite, inspect.iscoroutinefunction):
            if name.startswith("test_"):
                pytest.mark.asyncio(test)
