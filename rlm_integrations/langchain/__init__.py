"""RLMs for LangChain: in chains and graphs, in the place of a chat model, behind a tool."""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from rlm_integrations.errors import MissingExtra

if find_spec("langchain_core") is None:
    raise MissingExtra("langchain", "rlm_integrations.langchain")

from rlm_integrations.langchain.chain import create_rlm_documents_chain
from rlm_integrations.langchain.chat import ChatRLM
from rlm_integrations.langchain.documents import CitedDocument
from rlm_integrations.langchain.runnable import RLMInput, RLMRunnable
from rlm_integrations.langchain.tool import RLMTool

if TYPE_CHECKING:
    from rlm_integrations.langchain.middleware import OffloadMiddleware

__all__ = [
    "ChatRLM",
    "CitedDocument",
    "OffloadMiddleware",
    "RLMInput",
    "RLMRunnable",
    "RLMTool",
    "create_rlm_documents_chain",
]


def __getattr__(name: str) -> Any:
    # Agents need langchain and langgraph; all else needs langchain_core alone.
    if name != "OffloadMiddleware":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if find_spec("langchain") is None:
        raise MissingExtra("langchain", "OffloadMiddleware")
    from rlm_integrations.langchain.middleware import OffloadMiddleware

    return OffloadMiddleware
