"""``RLMQueryEngine`` answers over loaded documents and cites them, as any query engine of LlamaIndex's."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import threading
from collections.abc import Callable
from typing import Any, get_type_hints

import pytest
from llama_index.core import MockEmbedding, PromptTemplate, VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.response.schema import (
    AsyncStreamingResponse,
    PydanticResponse,
    Response,
    StreamingResponse,
)
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.llms import LLM
from llama_index.core.schema import Document, NodeRelationship, NodeWithScore, QueryBundle, TextNode
from llama_index.core.storage.docstore import SimpleDocumentStore
from pydantic import BaseModel

from rlm_integrations import RLM, Budget, BudgetExceeded, InvalidInput, ModelError
from rlm_integrations.llama_index import RLMQueryEngine, RLMSynthesizer
from rlm_integrations.sandbox import ProcessSandbox
from rlm_integrations.testing import ScriptedModel
from tests.llama_index.conftest import Ask
from tests.llama_index.scripted import ScriptedLLM
from tests.scripts import cell

Make = Callable[..., RLMQueryEngine]
CITING = [
    cell("letter = next(d for d in context if 'crowns' in d)\nlen(context), letter.id, letter.metadata"),
    cell("FINAL('12 crowns', quotes=['Bo owes 12 crowns.'])"),
]
WRITING = [cell("print(len(context))"), cell("FINAL_WRITE('short', quotes=['Bo owes 12 crowns.'])"), "Bo owes twelve."]


class Debt(BaseModel):
    """Who owes what."""

    debtor: str
    crowns: int


def test_an_answer_is_computed_over_whole_documents_and_says_what_it_cost(
    make: Make, ask: Ask, letters: list[Document]
) -> None:
    llm = ScriptedLLM(CITING)
    response = ask(make(llm, letters), "What does Bo owe?")
    assert type(response) is Response
    assert str(response) == "12 crowns"
    assert response.metadata["status"] == "complete"
    assert response.metadata["usage"]["calls"] == len(llm.calls) == 2
    assert (response.metadata["usage"]["input_tokens"], response.metadata["usage"]["output_tokens"]) == (20, 10)
    assert response.metadata["run_id"]
    # The model saw how the documents look, and none of the long one.
    assert "(3, 'second', {'year': 1902})" in llm.calls[1][-1].content
    assert all(len(message.content) < 4_000 for call in llm.calls for message in call)


def test_source_nodes_are_the_spans_that_are_cited_and_know_their_documents(
    make: Make, ask: Ask, letters: list[Document]
) -> None:
    (found,) = ask(make(ScriptedLLM(CITING), letters)).source_nodes
    node = found.node
    assert node.get_content() == "Bo owes 12 crowns."
    assert letters[1].text[node.start_char_idx : node.end_char_idx] == "Bo owes 12 crowns."
    assert node.metadata == {"year": 1902}
    assert node.ref_doc_id == letters[1].id_ == "second"


def test_an_answer_without_quotes_has_no_source_nodes(make: Make, ask: Ask, letters: list[Document]) -> None:
    assert ask(make(ScriptedLLM([cell("FINAL(len(context))")]), letters)).source_nodes == []


def test_the_llm_of_the_settings_is_asked_by_default(make: Make, ask: Ask, llm_setting: Any) -> None:
    llm_setting.llm = ScriptedLLM([cell("FINAL(len(context))")])
    assert str(ask(make(None, "four"))) == "4"
    assert len(llm_setting.llm.calls) == 1


def test_sub_calls_go_to_the_recursive_llm(make: Make, ask: Ask) -> None:
    root, below = ScriptedLLM([cell("FINAL(llm_query('p'))")]), ScriptedLLM(["from below"], model_name="small")
    response = ask(make(root, recursive_llm=below))
    assert str(response) == "from below"
    assert response.metadata["usage"]["by_model"].keys() == {"scripted", "small"}


def test_an_answer_streams_as_it_is_written(make: Make, letters: list[Document]) -> None:
    response = make(ScriptedLLM(WRITING), letters, streaming=True).query("What?")
    assert type(response) is StreamingResponse
    pieces = list(response.response_gen)
    assert len(pieces) > 1
    assert "".join(pieces) == "Bo owes twelve."
    assert response.source_nodes[0].node.ref_doc_id == "second"
    assert response.metadata["status"] == "complete"
    assert response.metadata["usage"]["calls"] == 3


def test_an_answer_streams_in_an_event_loop(make: Make, letters: list[Document]) -> None:
    async def read() -> tuple[Any, list[str]]:
        response = await make(ScriptedLLM(WRITING), letters, streaming=True).aquery("What?")
        return response, [piece async for piece in response.async_response_gen()]

    response, pieces = asyncio.run(read())
    assert type(response) is AsyncStreamingResponse
    assert len(pieces) > 1
    assert "".join(pieces) == "Bo owes twelve."
    assert response.source_nodes[0].node.ref_doc_id == "second"
    assert response.metadata["usage"]["calls"] == 3


def test_a_computed_answer_streams_in_one_piece(make: Make) -> None:
    response = make(ScriptedLLM([cell("FINAL(len(context))")]), "four", streaming=True).query("?")
    assert list(response.response_gen) == ["4"]
    assert response.metadata["status"] == "complete"


def test_a_stream_that_fails_before_its_text_fails_at_once(make: Make) -> None:
    with pytest.raises(ModelError, match="no"):
        make(ScriptedLLM([RuntimeError("no")]), streaming=True).query("?")


def test_a_stream_that_is_dropped_unread_ends_its_run(make: Make, letters: list[Document]) -> None:
    ended = threading.Event()
    engine = make(ScriptedLLM(WRITING), letters, streaming=True)
    response = engine.observed_by(lambda e: e.kind in ("run_ended", "run_failed") and ended.set()).query("What?")
    del response
    gc.collect()
    assert ended.wait(10)


def test_an_answer_can_be_an_instance_of_a_class(make: Make, ask: Ask, letters: list[Document]) -> None:
    answer = cell("FINAL({'debtor': 'Bo', 'crowns': 12}, quotes=['Bo owes 12 crowns.'])")
    for settings in ({"output_cls": Debt}, {"output_cls": Debt, "streaming": True}):
        response = ask(make(ScriptedLLM([cell("len(context)"), answer]), letters, **settings))
        assert type(response) is PydanticResponse
        assert response.response == Debt(debtor="Bo", crowns=12)
        assert response.crowns == 12
        assert response.source_nodes[0].node.ref_doc_id == "second"


def test_a_structured_llm_gives_its_class_to_the_answer_alone(make: Make, ask: Ask) -> None:
    llm = ScriptedLLM([cell("len(context)"), cell("FINAL({'debtor': 'Bo', 'crowns': 12})")])
    assert ask(make(llm.as_structured_llm(Debt))).response == Debt(debtor="Bo", crowns=12)


def test_an_rlm_may_take_the_place_of_the_llm(sandbox: ProcessSandbox, ask: Ask) -> None:
    rlm = RLM(ScriptedModel([cell("FINAL(len(context))")]), output_type=int, sandbox=sandbox)
    response = ask(RLMQueryEngine.from_documents("four", llm=rlm))
    assert type(response) is Response
    assert str(response) == "4"


class Finding(BaseRetriever):
    """Finds the nodes whose text has a word of the question."""

    def __init__(self, nodes: list[TextNode]) -> None:
        self.nodes = nodes
        super().__init__()

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        words = query_bundle.query_str.split()
        return [NodeWithScore(node=node, score=1.0) for node in self.nodes if any(word in node.text for word in words)]


def chunks(document: Document) -> list[TextNode]:
    """Two overlapping nodes of a document."""
    middle = len(document.text) // 2
    made = []
    for start, end in ((0, middle + 5), (middle - 5, len(document.text))):
        node = TextNode(text=document.text[start:end], start_char_idx=start, end_char_idx=end)
        node.relationships[NodeRelationship.SOURCE] = document.as_related_node_info()
        made.append(node)
    return made


def test_a_retriever_chooses_the_context_and_can_be_called(sandbox: ProcessSandbox, ask: Ask) -> None:
    letter = Document(text="The bridge opens in May, and it closes in June.", id_="letter")
    nodes = [*chunks(letter), TextNode(text="Ada paid.", id_="bill")]
    docstore = SimpleDocumentStore()
    docstore.add_documents([letter])
    code = "len(context), context[0], context[0].id, [n.id for n in retrieve('Ada', k=1)]"
    llm = ScriptedLLM([cell(code), cell("FINAL('May', quotes=['opens in May'])")])
    engine = RLMQueryEngine.from_retriever(Finding(nodes), llm=llm, docstore=docstore, sandbox=sandbox)
    response = ask(engine, "bridge it")
    shown = llm.calls[1][-1].content
    assert "(1, 'The bridge opens in May, and it closes in June.', 'letter', ['bill'])" in shown
    node = response.source_nodes[0].node
    assert (node.ref_doc_id, letter.text[node.start_char_idx : node.end_char_idx]) == ("letter", "opens in May")


def test_documents_may_be_the_context_beside_a_retriever(sandbox: ProcessSandbox, ask: Ask) -> None:
    llm = ScriptedLLM([cell("FINAL(str(len(context)) + retrieve('Ada')[0])")])
    retriever = Finding([TextNode(text="Ada paid.")])
    engine = RLMQueryEngine.from_retriever(retriever, llm=llm, documents="four", sandbox=sandbox)
    assert str(ask(engine)) == "4Ada paid."


def test_a_question_that_nothing_is_found_for_has_an_empty_response(sandbox: ProcessSandbox, ask: Ask) -> None:
    llm = ScriptedLLM([])
    response = ask(RLMQueryEngine.from_retriever(Finding([]), llm=llm, sandbox=sandbox))
    assert str(response) == "Empty Response"
    assert response.metadata["status"] == "empty"
    assert llm.calls == []


@pytest.mark.parametrize("settings", [{"output_cls": Debt}, {"llm": "typed"}], ids=str)
def test_what_does_not_stream_does_not_stream_that_nothing_is_found(
    sandbox: ProcessSandbox, ask: Ask, settings: dict[str, Any]
) -> None:
    if settings.get("llm"):
        settings = {"llm": RLM(ScriptedModel([]), output_type=int, sandbox=sandbox)}
    else:
        settings = {"llm": ScriptedLLM([]), "sandbox": sandbox, **settings}
    assert type(ask(RLMQueryEngine.from_retriever(Finding([]), streaming=True, **settings))) is Response


def test_an_engine_over_a_retriever_has_tools_and_a_class_for_the_answer(sandbox: ProcessSandbox, ask: Ask) -> None:
    def crowns(name: str) -> int:
        """what someone owes"""
        return 12

    llm = ScriptedLLM([cell("FINAL({'debtor': context[0][:2], 'crowns': crowns('Bo')})")])
    retriever = Finding([TextNode(text="Bo owes.")])
    engine = RLMQueryEngine.from_retriever(retriever, llm=llm, output_cls=Debt, tools=[crowns], sandbox=sandbox)
    assert ask(engine, "Bo").response == Debt(debtor="Bo", crowns=12)


def test_an_engine_over_a_retriever_streams_what_it_says_of_the_context_found(sandbox: ProcessSandbox) -> None:
    retriever = Finding([TextNode(text="Bo owes 12 crowns.", id_="second")])
    engine = RLMQueryEngine.from_retriever(retriever, llm=ScriptedLLM(WRITING), streaming=True, sandbox=sandbox)
    response = engine.query("Bo")
    assert "".join(response.response_gen) == "Bo owes twelve."  # type: ignore[union-attr]
    assert response.source_nodes[0].node.ref_doc_id == "second"


def test_budgets_hold_and_a_failed_query_keeps_what_was_seen(make: Make, ask: Ask) -> None:
    llm = ScriptedLLM([cell("len(context)")] * 5)
    with pytest.raises(BudgetExceeded) as caught:
        ask(make(llm, budget=Budget(max_calls=2), on_exhausted="raise"))
    assert len(llm.calls) == 2
    assert caught.value.partial is not None
    assert caught.value.partial.usage.calls == 2


def test_an_answer_drawn_from_what_was_seen_says_so(make: Make, ask: Ask) -> None:
    llm = ScriptedLLM([cell("len(context)"), "nine"])
    assert ask(make(llm, "some text", max_iterations=1)).metadata["status"] == "extracted"


def test_token_counters_and_callbacks_of_the_llm_are_told(make: Make, ask: Ask, llm_setting: Any) -> None:
    counter = TokenCountingHandler(tokenizer=str.split)
    llm_setting.callback_manager = CallbackManager([counter])
    llm_setting.llm = ScriptedLLM([cell("FINAL(len(context))")])
    ask(make(None))
    assert len(counter.llm_token_counts) == 1
    assert (counter.prompt_llm_token_count, counter.completion_llm_token_count) == (10, 5)


def test_a_callback_manager_of_the_engine_is_told_of_the_models_calls(make: Make, ask: Ask) -> None:
    counter = TokenCountingHandler(tokenizer=str.split)
    ask(make(ScriptedLLM([cell("FINAL(len(context))")]), callback_manager=CallbackManager([counter])))
    assert len(counter.llm_token_counts) == 1


def counter(*managers: CallbackManager) -> TokenCountingHandler:
    """Counts what is told to ``managers``, from now on."""
    made = TokenCountingHandler(tokenizer=str.split)
    for manager in managers:
        manager.add_handler(made)
    return made


@pytest.mark.parametrize("later", [False, True])
def test_all_who_listen_to_the_settings_or_to_an_llm_hear_each_call_once(
    make: Make, ask: Ask, llm_setting: Any, later: bool
) -> None:
    # With one in the settings, managers without handlers would share its list.
    llm_setting.callback_manager = None
    managers = [CallbackManager([]) for _ in range(3)]
    llm_setting.callback_manager = managers[0]

    def listen() -> list[TokenCountingHandler]:
        return [*(counter(manager) for manager in managers), counter(*managers)]

    root, below = ScriptedLLM([cell("FINAL(llm_query('p'))")] * 2), ScriptedLLM(["from below"] * 2)
    root.callback_manager, below.callback_manager = managers[1:]
    counters = [] if later else listen()
    engines = [make(root, recursive_llm=below), make(root, recursive_llm=below)]
    counters = counters or listen()
    for n, engine in enumerate(engines, 1):
        ask(engine)
        assert [len(counter.llm_token_counts) for counter in counters] == [2 * n] * 4


def test_a_handler_that_an_llm_is_given_later_is_told_until_it_is_taken_away(make: Make, llm_setting: Any) -> None:
    llm_setting.callback_manager = None
    llm, own = ScriptedLLM([cell("FINAL(len(context))")] * 3), CallbackManager([])
    llm.callback_manager = own
    engine = make(llm)
    added = counter(llm.callback_manager)
    assert (own.handlers, llm_setting.callback_manager.handlers) == ([added], [])
    engine.query("how?")
    llm.callback_manager.remove_handler(added)
    engine.query("how?")
    assert len(added.llm_token_counts) == 1
    llm.callback_manager.set_handlers([added])
    engine.query("how?")
    assert len(added.llm_token_counts) == 2


def test_the_calls_of_an_rlm_are_counted_in_the_response_alone(sandbox: ProcessSandbox, ask: Ask) -> None:
    manager = CallbackManager([])
    heard = counter(manager)
    rlm = RLM(ScriptedModel([cell("len(context)"), cell("FINAL('four')")]), sandbox=sandbox)
    response = ask(RLMQueryEngine.from_documents("four", llm=rlm, callback_manager=manager))
    assert response.metadata["usage"]["calls"] == 2
    assert heard.llm_token_counts == []


@pytest.mark.parametrize("make", [RLMQueryEngine.from_documents, RLMQueryEngine.from_retriever, RLMSynthesizer])
def test_a_type_checker_knows_what_settings_may_be(make: Any) -> None:
    hints = get_type_hints(make.__init__ if isinstance(make, type) else make)
    assert (hints["llm"], hints["recursive_llm"]) == (LLM | RLM | None, LLM | None)
    assert hints["output_cls"] == type[BaseModel] | None
    assert hints["streaming"] is bool
    assert Any not in (hints["tools"], hints.get("documents"), hints.get("docstore"))


def test_settings_that_are_refused_leave_the_llm_as_it_was(make: Make) -> None:
    llm = ScriptedLLM([])
    own = llm.callback_manager
    with pytest.raises(InvalidInput):
        make(llm, max_depht=5)
    assert llm.callback_manager is own


def test_a_copy_of_an_engine_has_prompts_of_its_own_and_shares_the_rest(make: Make, ask: Ask) -> None:
    engine = make(ScriptedLLM([cell("FINAL(len(context))")]), "four")
    copied = copy.deepcopy(engine)
    copied.update_prompts({"sub_call_prompt": PromptTemplate("New: {query} {text}")})
    assert engine.get_prompts()["sub_call_prompt"].get_template() != "New: {query} {text}"
    assert str(ask(copied)) == "4"


def test_an_rlm_copied_is_the_same_and_can_be_no_pickle(sandbox: ProcessSandbox) -> None:
    rlm = RLM(ScriptedModel([]), sandbox=sandbox)
    assert copy.copy(rlm) is copy.deepcopy(rlm) is rlm
    with pytest.raises(InvalidInput, match="an RLM can't be pickled: make one in each process"):
        pickle.dumps(rlm)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"llm": "gpt-5"}, "LLM"),
        ({"llm": 5}, "int"),
        ({"recursive_llm": "gpt-5"}, "recursive_llm='gpt-5' is a name"),
        ({"recursive_llm": 5}, "recursive_llm is a int"),
        ({"recursive_llm": RLM(ScriptedModel([]))}, "recursive_llm is a RLM"),
        ({"output_cls": int}, "output_cls=<class 'int'>: pass a pydantic class"),
        ({"output_type": int}, "output_cls"),
        ({"tools": [5]}, "tools holds a int"),
        ({"budget": 5}, "pass a Budget"),
        ({"max_depht": 5}, "did you mean max_depth"),
        ({"documents": []}, "the context is empty"),
        ({"documents": 5}, "int"),
        ({"documents": {"a": Document(text="a")}}, "documents is a dict of documents: pass a list"),
        ({"documents": [[Document(text="a")]]}, "documents holds a list of documents: pass one list"),
        ({"callback_manager": "x"}, "callback_manager is a str: pass CallbackManager([handler, ...])"),
        ({"callback_manager": [TokenCountingHandler()]}, "callback_manager is a list: pass CallbackManager("),
        ({"streaming": "yes"}, "streaming='yes': pass True or False"),
        ({"timeout": 5}, "timeout has no meaning for an RLM: set it on the LLM"),
        ({"model": "gpt-5"}, "model has no meaning for an RLM: pass an LLM or an RLM as llm"),
        ({"recursive_model": ScriptedLLM([])}, "pass an LLM as recursive_llm"),
        ({"service_context": 3}, "service_context has no meaning for an RLM: pass llm and callback_manager"),
        ({"context": "x"}, "context has no meaning for an RLM: pass it as documents"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else value,
)
def test_a_setting_that_cannot_be_used_is_refused_at_once(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        RLMQueryEngine.from_documents(**{"documents": "text", "llm": ScriptedLLM([]), **settings})
    assert said in str(caught.value)


def test_what_is_no_retriever_is_refused() -> None:
    with pytest.raises(InvalidInput, match="retriever is a str"):
        RLMQueryEngine.from_retriever("index", llm=ScriptedLLM([]))  # type: ignore[arg-type]


def test_what_is_no_docstore_is_refused() -> None:
    index = VectorStoreIndex([], embed_model=MockEmbedding(2))
    for make in (lambda **given: RLMQueryEngine.from_retriever(Finding([]), **given), RLMSynthesizer):
        with pytest.raises(
            InvalidInput, match=r"docstore is a VectorStoreIndex: pass a docstore, such as index.docstore"
        ):
            make(llm=ScriptedLLM([]), docstore=index)


def test_an_engine_made_without_its_makers_says_how_to_make_it() -> None:
    with pytest.raises(InvalidInput, match=r"from_documents\(documents, ...\) or from_retriever"):
        RLMQueryEngine([Document(text="a")])  # type: ignore[arg-type]


@pytest.mark.parametrize("observer", [5, [print]])
def test_what_cannot_observe_is_refused(make: Make, observer: Any) -> None:
    with pytest.raises(InvalidInput, match=r"observed_by was given .*: pass functions of one Event"):
        make(ScriptedLLM([])).observed_by(observer)


def test_an_rlm_has_its_own_settings(sandbox: ProcessSandbox) -> None:
    rlm = RLM(ScriptedModel([]), sandbox=sandbox)
    with pytest.raises(InvalidInput, match="max_depth"):
        RLMQueryEngine.from_documents("text", llm=rlm, max_depth=2)


def test_observers_of_one_question_are_told_of_its_events(make: Make, ask: Ask) -> None:
    engine = make(ScriptedLLM([cell("FINAL(len(context))")] * 2))
    kinds: list[str] = []
    ask(engine.observed_by(lambda event: kinds.append(event.kind)))
    assert (kinds[0], kinds[-1]) == ("run_started", "run_ended")
    kinds.clear()
    ask(engine)
    assert kinds == []


def test_twenty_questions_at_once_are_all_answered(make: Make) -> None:
    engine = make(ScriptedLLM(lambda messages: cell("FINAL(query + '!')"), latency_s=0.02))

    async def ask_all() -> list[str]:
        return [str(said) for said in await asyncio.gather(*(engine.aquery(f"q{n}") for n in range(20)))]

    assert asyncio.run(ask_all()) == [f"q{n}!" for n in range(20)]
