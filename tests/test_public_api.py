"""The names that users may rely on."""

from __future__ import annotations

import importlib
import inspect
from importlib.util import find_spec

import pytest

import rlm_integrations

PUBLIC = {
    "rlm_integrations": """
        RLM Budget BudgetExceeded CellEnded CellFailed CellStarted Citation Context Document Event InvalidInput
        LanguageModel Message MissingExtra MissingKey ModelCallEnded ModelCallFailed ModelCallStarted ModelError
        ModelNotFound ModelTimeout ModelUnavailable RLMError RLMResult RateLimited ReplayError ReplayParted Reply
        RunCancelled RunEnded RunFailed RunResumed RunStarted SandboxError SessionWaiting TextDelta Trajectory
        TurnsExhausted Usage UsageReport WindowExceeded WireError __version__
    """,
    "rlm_integrations.langchain": """
        ChatRLM CitedDocument OffloadMiddleware RLMInput RLMRunnable RLMTool create_rlm_documents_chain
    """,
    "rlm_integrations.llama_index": "RLMEvent RLMQueryEngine RLMSynthesizer",
    "rlm_integrations.models": "LiteLLMModel",
    "rlm_integrations.progress": "Progress",
    "rlm_integrations.ray": "JobLimits JobProgress RaySandbox answer_dataset",
    "rlm_integrations.sandbox": """
        CellOutput Final IsolationReport MontySandbox ProcessSandbox Resume Run Sandbox Session SubCall
    """,
    "rlm_integrations.testing": "SANDBOX_CHECKS ScriptedCall ScriptedModel check_sandbox",
}
WITHOUT_RAY = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
MODULES = [pytest.param(module, marks=WITHOUT_RAY if module.endswith(".ray") else ()) for module in PUBLIC]


@pytest.mark.parametrize("module", MODULES)
def test_the_public_names_are_these(module: str) -> None:
    assert set(importlib.import_module(module).__all__) == set(PUBLIC[module].split())


@pytest.mark.parametrize("module", MODULES)
def test_every_public_class_and_its_methods_say_what_they_do(module: str) -> None:
    for name in importlib.import_module(module).__all__:
        value = getattr(importlib.import_module(module), name)
        if not inspect.isclass(value) or not value.__module__.startswith("rlm_integrations"):
            continue
        assert value.__doc__, f"{module}.{name} has no docstring"
        for method_name, method in vars(value).items():
            if not method_name.startswith("_") and inspect.isfunction(method):
                assert method.__doc__, f"{module}.{name}.{method_name} has no docstring"


def test_every_error_is_an_rlm_error() -> None:
    errors = importlib.import_module("rlm_integrations.errors")
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), rlm_integrations.RLMError)
        assert name in rlm_integrations.__all__
