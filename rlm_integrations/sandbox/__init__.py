"""Where model code runs: the port, ``ProcessSandbox``, which fills it with locked processes, and ``MontySandbox``."""

from typing import TYPE_CHECKING, Any

from rlm_integrations.ports import CellOutput, Final, IsolationReport, Resume, Run, Sandbox, Session, SubCall
from rlm_integrations.sandbox.process import ProcessSandbox

if TYPE_CHECKING:
    from rlm_integrations.sandbox.monty import MontySandbox

__all__ = [
    "CellOutput",
    "Final",
    "IsolationReport",
    "MontySandbox",
    "ProcessSandbox",
    "Resume",
    "Run",
    "Sandbox",
    "Session",
    "SubCall",
]


def __getattr__(name: str) -> Any:
    """``MontySandbox`` is loaded when it is first asked for."""
    if name == "MontySandbox":
        from rlm_integrations.sandbox.monty import MontySandbox

        return MontySandbox
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
