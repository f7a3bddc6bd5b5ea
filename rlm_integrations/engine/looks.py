"""Looks into the context that the engine takes of its own accord, for models that don't look, or look past it."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator

from rlm_integrations.context import Context
from rlm_integrations.engine.conversation import Conversation
from rlm_integrations.engine.effects import Advance, Branch
from rlm_integrations.engine.reply import parsed
from rlm_integrations.errors import SandboxError
from rlm_integrations.ports import CellOutput, Run, Session

__all__ = ["Looks", "first_look", "found_nothing", "loosened", "words_of"]

# A first look takes 0.2 s for the longest; in the shortest the excerpts show as much.
MIN_SEARCHED_CHARS, MAX_SEARCHED_CHARS = 1_500, 1_000_000
FIRST_LOOK = "search(query, 5, True)"
FIRST_LOOK_S = 5.0
MAX_FOUND_CHARS = 6_000
LOOK = "search(query)"
MAX_WORDS = 12
MAX_WORD_CHARS = 200
MAX_CONDITIONS = 3
MAX_CONDITION_CHARS = 300
MIN_NUMBER = 100
NOTHING = {"", "0", "0.0", "None", "False", "[]", "{}", "()", "set()", "''", '""', "Counter()", "(nothing found)"}

_WORD = re.compile(r"\w[\w-]+")

RunCell = Callable[[str], Branch[CellOutput]]


def first_look(session: Session, context: Context, seconds_left: float | None) -> Branch[str]:
    """What a search for the question finds, for the first message; "" where it fails or would take its time.

    It is no cell of the run: the model has run nothing yet, and has no variables to lose.
    """
    is_text = isinstance(context.value, str) or context.is_documents
    if not is_text or not MIN_SEARCHED_CHARS <= context.chars <= MAX_SEARCHED_CHARS:
        return ""
    limit_s = FIRST_LOOK_S if seconds_left is None else min(FIRST_LOOK_S, seconds_left)
    try:
        output = yield Advance(session, Run(FIRST_LOOK, limit_s))
    except SandboxError:
        return ""  # A session that is of no use fails in the first cell too, and says so there.
    if not isinstance(output, CellOutput) or output.error:
        return ""
    return output.stdout.strip()[:MAX_FOUND_CHARS]


class Looks:
    """The looks of one run, each a cell that ``run_cell`` runs. ``found`` is what the first look brought."""

    def __init__(self, talk: Conversation, found: str) -> None:
        self._talk = talk
        self._has_searched = bool(found)
        self._words: set[str] = set()

    def search(self, run_cell: RunCell, turns_left: int) -> Branch[bool]:
        """Show a model that would answer without a look what a search for the question finds.

        Once a run, and not where the first message showed it; returns whether it did.
        """
        if self._has_searched:
            return False
        self._has_searched = True
        output = yield from run_cell(LOOK)
        self._talk.say("looked")
        self._talk.show(LOOK, output, turns_left)
        return True

    def words(self, run_cell: RunCell, code: str, told: CellOutput, turns_left: int) -> Branch[None]:
        """Show a model whose ``code`` finds nothing, or goes in circles, how the words in it stand in the context."""
        words = words_of(code)
        if not words or words in self._words:
            return
        self._words.add(words)
        look = f"search({words!r}, 3, brief=True)"
        output = yield from run_cell(look)
        if output.restarted:
            self._talk.say("restarted")
        elif output.stdout.strip() and not output.error:
            self._talk.say_words(look, output, loosened(code) if found_nothing(told) else "", turns_left)


def found_nothing(output: CellOutput) -> bool:
    """Whether all that a cell brought is that there is nothing."""
    if output.error:
        return False
    if output.final is not None:
        return not output.final.value and output.stdout.strip() in NOTHING
    return all(line.strip() in NOTHING for line in output.stdout.split("\n"))


def words_of(code: str) -> str:
    """Up to ``MAX_WORDS`` words in the texts of ``code``, each once, and its larger numbers: what it looks for."""
    tree = parsed(code)
    if tree is None:
        return ""
    words: dict[str, None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str):
                words.update(dict.fromkeys(_WORD.findall(node.value)))
            elif isinstance(node.value, int) and MIN_NUMBER <= node.value < 10**MAX_WORD_CHARS:
                words[str(node.value)] = None
    return " ".join([word for word in words if len(word) <= MAX_WORD_CHARS][:MAX_WORDS])


def loosened(code: str) -> str:
    """What to try in place of conditions in ``code`` that are often too strict; nothing where there are none.

    It is said outside of the marks of data: texts of the model's own code, and no more than ``MAX_CONDITIONS`` of at
    most ``MAX_CONDITION_CHARS``.
    """
    tree = parsed(code)
    tips = dict.fromkeys(tip for tip in _tips(tree) if len(tip) <= MAX_CONDITION_CHARS) if tree else {}
    told = "; ".join(list(tips)[:MAX_CONDITIONS])
    return f"{told[0].upper()}{told[1:]}.\n" if told else ""


def _tips(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Compare(left, [ast.Eq()], [ast.Constant(str(text))]) if text and (condition := _written(node)):
                yield f"in place of {condition} try {text!r} in {_written(left)}"
            case ast.BoolOp(ast.And(), conditions) if len(texts := list(filter(None, map(_sought, conditions)))) > 1:
                yield f"nothing has {' and '.join(texts)} in one place: look for one of them at a time"


def _written(node: ast.expr) -> str:
    """``node`` as code; nothing where it is too deep or holds a number too long to be written."""
    try:
        return ast.unparse(node)
    except (RecursionError, ValueError):
        return ""


def _sought(condition: ast.expr) -> str:
    match condition:
        case ast.Compare(ast.Constant(str(text)), [ast.In()], [_]):
            return repr(text)
        case _:
            return ""
