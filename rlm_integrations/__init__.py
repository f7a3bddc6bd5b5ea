"""Ask questions of documents too long for any prompt: a recursive language model for LangChain and LlamaIndex."""

from rlm_integrations.budget import Budget
from rlm_integrations.context import Context, Document
from rlm_integrations.errors import (
    BudgetExceeded,
    InvalidInput,
    MissingExtra,
    MissingKey,
    ModelError,
    ModelNotFound,
    ModelTimeout,
    ModelUnavailable,
    RateLimited,
    ReplayError,
    RLMError,
    RunCancelled,
    SandboxError,
    TurnsExhausted,
    WindowExceeded,
    WireError,
)
from rlm_integrations.events import (
    CellEnded,
    CellFailed,
    CellStarted,
    Citation,
    Event,
    ModelCallEnded,
    ModelCallFailed,
    ModelCallStarted,
    ReplayParted,
    RunEnded,
    RunFailed,
    RunResumed,
    RunStarted,
    SessionWaiting,
    TextDelta,
)
from rlm_integrations.messages import Message, Reply, Usage, UsageReport
from rlm_integrations.ports import LanguageModel
from rlm_integrations.result import RLMResult
from rlm_integrations.rlm import RLM
from rlm_integrations.trajectory import Trajectory

__version__ = "0.1.0"

__all__ = [
    "RLM",
    "Budget",
    "BudgetExceeded",
    "CellEnded",
    "CellFailed",
    "CellStarted",
    "Citation",
    "Context",
    "Document",
    "Event",
    "InvalidInput",
    "LanguageModel",
    "Message",
    "MissingExtra",
    "MissingKey",
    "ModelCallEnded",
    "ModelCallFailed",
    "ModelCallStarted",
    "ModelError",
    "ModelNotFound",
    "ModelTimeout",
    "ModelUnavailable",
    "RLMError",
    "RLMResult",
    "RateLimited",
    "ReplayError",
    "ReplayParted",
    "Reply",
    "RunCancelled",
    "RunEnded",
    "RunFailed",
    "RunResumed",
    "RunStarted",
    "SandboxError",
    "SessionWaiting",
    "TextDelta",
    "Trajectory",
    "TurnsExhausted",
    "Usage",
    "UsageReport",
    "WindowExceeded",
    "WireError",
    "__version__",
]
