"""Where model code runs: the port, and ``ProcessSandbox``, which fills it with locked processes."""

from rlm_integrations.ports import CellOutput, Final, IsolationReport, Resume, Run, Sandbox, Session, SubCall
from rlm_integrations.sandbox.process import ProcessSandbox

__all__ = [
    "CellOutput",
    "Final",
    "IsolationReport",
    "ProcessSandbox",
    "Resume",
    "Run",
    "Sandbox",
    "Session",
    "SubCall",
]
