"""RLMs for LangChain: in chains and graphs, in the place of a chat model, behind a tool."""

from importlib.util import find_spec

from rlm_integrations.errors import MissingExtra

if find_spec("langchain_core") is None:
    raise MissingExtra("langchain", "rlm_integrations.langchain")

from rlm_integrations.langchain.documents import CitedDocument
from rlm_integrations.langchain.runnable import RLMInput, RLMRunnable

__all__ = ["CitedDocument", "RLMInput", "RLMRunnable"]
