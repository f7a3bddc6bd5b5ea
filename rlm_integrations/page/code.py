"""Python in colours: a text's pieces with their kinds."""

from __future__ import annotations

from functools import cache
from typing import Any

__all__ = ["Tokens", "highlighted"]

Tokens = list[str]
"""Kind, text, kind, text, ...; the texts joined are the code. Kinds are classes of the page's style sheet."""


def highlighted(code: str) -> Tokens:
    """The pieces of ``code``, neighbours of one kind joined; whatever it is, nothing of it gets lost."""
    pieces: Tokens = []
    for token, text in _lexer().get_tokens(code):
        kind = _kind(token)
        # White space looks the same in any colour, and joins what stands around it.
        if pieces and (pieces[-2] == kind or not text.strip()):
            pieces[-1] += text
        else:
            pieces += [kind, text]
    return pieces


@cache
def _lexer() -> Any:
    from pygments.lexers import PythonLexer

    return PythonLexer(stripnl=False, ensurenl=False)


@cache
def _kind(token: Any) -> str:
    from pygments.token import Comment, Keyword, Name, Number, Operator, String

    if token in Name.Function or token in Name.Class:
        return "name"
    if token in Name.Builtin or token in Name.Exception or token in Name.Decorator:
        return "builtin"
    kinds = {Comment: "comment", Keyword: "keyword", String: "string", Number: "number", Operator.Word: "keyword"}
    return next((kind for of, kind in kinds.items() if token in of), "")
