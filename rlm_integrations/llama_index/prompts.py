"""The engine's prompts as LlamaIndex's templates, to be read and replaced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from string import Template
from typing import Any

from llama_index.core.prompts import BasePromptTemplate, PromptTemplate, RichPromptTemplate
from llama_index.core.prompts.utils import get_template_vars

from rlm_integrations.errors import InvalidInput
from rlm_integrations.prompts import Prompts

__all__ = ["templates", "with_templates"]

# Each template's field in ``Prompts``, and the variables that it can't do without.
TEMPLATES: Mapping[str, tuple[str, frozenset[str]]] = {
    "system_prompt": ("system", frozenset({"tools"})),
    "question_prompt": ("question", frozenset({"query", "shape", "view"})),
    "sub_call_prompt": ("sub_call", frozenset({"query", "text"})),
}


def templates(prompts: Prompts) -> dict[str, BasePromptTemplate]:
    """``prompts`` by name, with ``{variable}`` where they have ``$variable``."""
    shown: dict[str, BasePromptTemplate] = {}
    for name, (field, variables) in TEMPLATES.items():
        text = Template(getattr(prompts, field)).safe_substitute(_braced(variables))
        # What else stands in braces is text: filled in with itself.
        shown[name] = PromptTemplate(text).partial_format(**_braced(set(get_template_vars(text)) - variables))
    return shown


def with_templates(prompts: Prompts, given: Mapping[str, Any]) -> Prompts:
    """``prompts`` with those ``given``, formatted with all but the variables that each question brings.

    Raises ``InvalidInput`` for an unknown name, for a template that is no single text, or that has too few or unknown
    variables.
    """
    fields: dict[str, str] = {}
    for name, template in given.items():
        if name not in TEMPLATES:
            raise InvalidInput(f"there is no prompt {name}: there are {', '.join(TEMPLATES)}")
        field, variables = TEMPLATES[name]
        _check(name, template, variables)
        fields[field] = _dollars(name, template, variables)
    return replace(prompts, **fields) if fields else prompts  # type: ignore[arg-type]


def _check(name: str, template: Any, variables: frozenset[str]) -> None:
    """That ``template`` says the same whatever the values of ``variables``."""
    if not isinstance(template, PromptTemplate | RichPromptTemplate):
        raise InvalidInput(f"{name} is a {type(template).__name__}, and must be one text: pass a PromptTemplate")
    if isinstance(template, RichPromptTemplate) and "{%" in template.template_str:
        raise InvalidInput(f"{name} has a block {{% %}}, and must be one text: write it with {{{{ variables }}}} alone")
    if template.function_mappings:
        raise InvalidInput(f"{name} has function_mappings: call them, and give their values to partial_format")
    mapped = template.template_var_mappings or {}
    known = {mapped.get(variable, variable) for variable in (*variables, *template.kwargs)}
    if unknown := sorted(set(template.template_vars) - known):
        raise InvalidInput(
            f"{name} has unknown variables: {_listed(unknown)}. Those of a question are {_listed(sorted(variables))}; "
            f"fill in others first: template.partial_format({unknown[0]}=...)"
        )


def _dollars(name: str, template: BasePromptTemplate, variables: frozenset[str]) -> str:
    # Between characters of private use, which no text of a user's holds.
    marks: dict[str, Any] = {variable: f"\ue000{variable}\ue001" for variable in variables}
    text = template.format(**marks)
    if lacking := sorted(variable for variable, mark in marks.items() if mark not in text):
        raise InvalidInput(f"{name} lacks {_listed(lacking)}")
    text = text.replace("$", "$$")
    for variable, mark in marks.items():
        text = text.replace(mark, f"${{{variable}}}")
    return text


def _braced(variables: set[str] | frozenset[str]) -> dict[str, str]:
    return {variable: f"{{{variable}}}" for variable in variables}


def _listed(variables: list[str]) -> str:
    return ", ".join(f"{{{variable}}}" for variable in variables)
