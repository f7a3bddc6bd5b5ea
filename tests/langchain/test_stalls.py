"""No face of LangChain's holds up the event loop over a long context."""

from __future__ import annotations

import pytest
from langchain_core.documents import Document
from langchain_core.messages import HumanMessage

from rlm_integrations.langchain import ChatRLM, RLMRunnable, create_rlm_documents_chain
from tests.langchain.scripted import ScriptedChat
from tests.scripts import cell
from tests.stalls import longest_stall_s

TEXT = "0123456789" * 2_000_000
DOCUMENTS = [Document(f"document {number} of many", metadata={"n": number}) for number in range(20_000)]
MAX_STALL_S = 0.3
pytestmark = pytest.mark.alone

ASKED = {
    "a text": lambda llm: RLMRunnable(llm).ainvoke({"query": "?", "context": TEXT}),
    "documents": lambda llm: RLMRunnable(llm).ainvoke({"query": "?", "context": DOCUMENTS}),
    "a documents chain": lambda llm: create_rlm_documents_chain(llm).ainvoke({"input": "?", "context": DOCUMENTS}),
    "a message": lambda llm: ChatRLM(llm=llm).ainvoke([HumanMessage(TEXT), HumanMessage("?")]),
}


@pytest.mark.parametrize("what", ASKED)
def test_a_long_context_does_not_stall_the_loop(what: str) -> None:
    llm = ScriptedChat([cell("print(len(context))"), cell("FINAL(len(context))")])
    assert longest_stall_s(lambda: ASKED[what](llm)) < MAX_STALL_S
