"""The engine's prompts are LlamaIndex's templates: they can be read, and replaced."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from llama_index.core.prompts import BasePromptTemplate, ChatPromptTemplate, PromptTemplate, RichPromptTemplate
from llama_index.core.prompts.base import SelectorPromptTemplate
from llama_index.core.types import BaseOutputParser

from rlm_integrations import Context, InvalidInput
from rlm_integrations.llama_index import RLMQueryEngine, RLMSynthesizer
from rlm_integrations.llama_index.prompts import templates, with_templates
from rlm_integrations.prompts import Prompts
from tests.llama_index.conftest import Ask
from tests.llama_index.scripted import ScriptedLLM
from tests.scripts import cell

Make = Callable[..., RLMQueryEngine]
MAPPINGS = {"query": "query_str", "text": "context_str"}
TEXT = "About $5: {query}s\n{text}"


class Briefly(BaseOutputParser):
    """Adds to a prompt what form the answer should have."""

    def parse(self, output: str) -> str:
        return output

    def format(self, query: str) -> str:
        return f"{query}\nBriefly, as {{json}}."


def told(template: BasePromptTemplate) -> str:
    """What a model is told by a template for sub-calls."""
    return with_templates(Prompts(), {"sub_call_prompt": template}).render_sub_call("why $text {text}?", "it {query}")


def test_prompts_that_are_put_back_as_they_were_read_say_the_same() -> None:
    again, context = with_templates(Prompts(), templates(Prompts())), Context.of("text of $5 {query}")
    assert again.render_system({"print": print}) == Prompts().render_system({"print": print})
    asked = ("why $tools {shape}?", context, "tag", "")
    assert again.render_question(*asked) == Prompts().render_question(*asked)
    assert again.render_sub_call("why?", "text") == Prompts().render_sub_call("why?", "text")


def test_text_in_braces_and_behind_dollars_is_put_back_as_it_was() -> None:
    prompts = Prompts(sub_call='print(f"{line}, {template}") {"a": 1} {{x}} $$5 $other ${query}s $text')
    again = with_templates(prompts, templates(prompts))
    assert again.render_sub_call("why?", "text") == prompts.render_sub_call("why?", "text")
    assert '{line}, {template}") {"a": 1} {{x}} $5' in again.render_sub_call("why?", "text")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (PromptTemplate(TEXT), "About $5: why $text {text}?s\nit {query}"),
        (PromptTemplate("As {tone}: " + TEXT, tone="friends"), "As friends: About $5: why $text {text}?s\nit {query}"),
        (PromptTemplate("{n}. {query} {text}").partial_format(n=3), "3. why $text {text}? it {query}"),
        (PromptTemplate("{x} {query} {text}").partial_format(x="{x} $1"), "{x} $1 why $text {text}? it {query}"),
        (
            PromptTemplate("{query_str}: {context_str}", template_var_mappings=MAPPINGS),
            "why $text {text}?: it {query}",
        ),
        (
            PromptTemplate("{query} {text}", output_parser=Briefly()),
            "why $text {text}? it {query}\nBriefly, as {json}.",
        ),
        (RichPromptTemplate("{{ query }}, {$5}: {{text}}"), "why $text {text}?, {$5}: it {query}"),
        (RichPromptTemplate("{{ tone }}: {{ query }} {{ text }}", tone="Hi"), "Hi: why $text {text}? it {query}"),
    ],
    ids=["plain", "values", "partial", "braces", "mappings", "parser", "jinja", "jinja with values"],
)
def test_a_template_says_what_it_says_elsewhere(template: BasePromptTemplate, said: str) -> None:
    assert told(template) == said
    assert template.format(query="why $text {text}?", text="it {query}") == said


@pytest.mark.parametrize(
    ("template", "advice"),
    [
        ("{query} {text}", "is a str, and must be one text: pass a PromptTemplate"),
        (ChatPromptTemplate.from_messages([("user", "{query} {text}")]), "is a ChatPromptTemplate, and must be one"),
        (SelectorPromptTemplate(PromptTemplate("{query} {text}")), "is a SelectorPromptTemplate, and must be one text"),
        (
            RichPromptTemplate('{% chat role="user" %}{{ query }} {{ text }}{% endchat %}'),
            r"has a block \{% %\}, and must be one text: write it with \{\{ variables \}\} alone",
        ),
        (RichPromptTemplate("{% if query %}{{ query }}{% endif %} {{ text }}"), r"has a block \{% %\}"),
        (RichPromptTemplate("{query} {text}"), r"lacks \{query\}, \{text\}"),
        (RichPromptTemplate("{{ query | upper }} {{ text }}"), r"lacks \{query\}$"),
        (RichPromptTemplate("{{ query }} {{ text }} {{ tone }}"), r"has unknown variables: \{tone\}"),
        (
            PromptTemplate("{query_str} {query} {text} {tone}"),
            r"unknown variables: \{query_str\}, \{tone\}\. Those of a question are \{query\}, \{text\}; "
            r"fill in others first: template\.partial_format\(query_str=\.\.\.\)",
        ),
        (
            PromptTemplate("{query} {text}", function_mappings={"text": lambda **values: values["text"].upper()}),
            "has function_mappings: call them, and give their values to partial_format",
        ),
        (PromptTemplate("{query} {text}", template_var_mappings={"text": "other"}), r"unknown variables: \{text\}"),
    ],
    ids=["str", "chat", "selector", "rich chat", "block", "no jinja", "filter", "jinja", "unknown", "functions", "map"],
)
def test_a_template_that_would_say_something_else_is_refused(template: object, advice: str) -> None:
    with pytest.raises(InvalidInput, match=f"sub_call_prompt {advice}" if advice[0] != "u" else advice):
        with_templates(Prompts(), {"sub_call_prompt": template})


def test_a_new_prompt_is_what_the_model_is_told(make: Make, ask: Ask) -> None:
    llm = ScriptedLLM([cell("FINAL(len(context))")])
    engine = make(llm)
    assert "{query}" in engine.get_prompts()["question_prompt"].get_template()
    new = PromptTemplate("It costs $5, {query} {{or not}}\n{shape}\n{view}")
    engine.update_prompts({"question_prompt": new})
    assert engine.get_prompts()["question_prompt"].get_template() == new.get_template()
    ask(engine, "why?")
    system, question = llm.calls[0]
    assert question.content.startswith("It costs $5, why? {{or not}}\n`context` is one str")
    assert "FINAL(value" in system.content


def test_a_prompt_without_what_it_must_say_is_refused(make: Make) -> None:
    engine = make(ScriptedLLM([]))
    with pytest.raises(InvalidInput, match=r"sub_call_prompt lacks \{text\}"):
        engine.update_prompts({"sub_call_prompt": PromptTemplate("{query}")})


def test_an_unknown_prompt_is_refused(make: Make) -> None:
    with pytest.raises(InvalidInput, match=r"there is no prompt text_qa_template: there are system_prompt"):
        make(ScriptedLLM([])).update_prompts({"text_qa_template": PromptTemplate("{query}")})


def test_a_synthesizer_has_the_same_prompts() -> None:
    synthesizer = RLMSynthesizer(ScriptedLLM([]))
    assert synthesizer.get_prompts().keys() == {"system_prompt", "question_prompt", "sub_call_prompt"}
    synthesizer.update_prompts({"system_prompt": PromptTemplate("Answer. {tools}")})
    assert synthesizer.get_prompts()["system_prompt"].get_template() == "Answer. {tools}"
