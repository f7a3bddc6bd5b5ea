"""What a terminal is sent: a live view, and never an order that stood in a document, in code or in an answer."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

LOOK = "```python\nprint(context[0])\n```"
ANSWER = "```python\nFINAL('8443', quotes=['The staging server listens on port 8443.'])\n```"

# What rich itself sends: colours, and moves of the cursor.
_OURS = re.compile(r"\x1b\[[0-9;?]*[mAKhl]")


def test_a_terminal_sees_the_run_live_and_then_the_answer(on_terminal: Callable[..., Any], docs: Path) -> None:
    script = {"script": [LOOK, ANSWER], "latency_s": 0.3}
    code, sent = on_terminal("ask", "Which port does it use?", docs, script=script)
    assert code == 0
    assert "\x1b[?25l" in sent, "the cursor is hidden while the view changes"
    assert sent.rindex("\x1b[?25h") > sent.rindex("\x1b[?25l"), "and comes back"
    text = _OURS.sub("", sent)
    assert "turn 1: asking scripted  0 calls, 0 tokens in, 0 out, 0 s" in text
    for earlier, later in [
        ("turn 1  the model wrote (", "print(context[0])"),
        ("print(context[0])", "the code printed"),
        ("the code printed", "The staging server listens on port 8443."),
        ("The staging server listens on port 8443.", "│ 8443 "),
        ("│ 8443 ", "evidence servers.txt, characters 9 to 49"),
        ("evidence servers.txt, characters 9 to 49", "in all      2"),
    ]:
        assert text.index(earlier) < text.rindex(later)


def test_a_terminal_sees_what_the_model_writes_while_it_writes(on_terminal: Callable[..., Any], docs: Path) -> None:
    script = {"script": [f"{LOOK}\n{'and so on ' * 50}", ANSWER], "latency_s": 0.3}
    code, sent = on_terminal("ask", "Which port?", docs, script=script, before=SLOW_WRITER)
    assert code == 0
    assert "and so on" in sent


# Its replies come in pieces, with time for the view to show them.
SLOW_WRITER = """
import asyncio
from rlm_integrations import testing
class SlowWriter(testing.ScriptedModel):
    async def acomplete(self, messages, **options):
        on_text = options.pop("on_text")
        reply = await super().acomplete(messages, **options)
        on_text(reply.text)
        await asyncio.sleep(0.5)
        return reply
testing.ScriptedModel = SlowWriter
"""


def test_a_terminal_is_sent_no_orders_from_documents_code_or_answers(
    on_terminal: Callable[..., Any], docs: Path
) -> None:
    hostile = "\x1b]0;owned\x07\x1b[2J[bold red]:smile:[link=http://x]\x9b31m\u202egnp"
    (docs / "servers.txt").write_text(hostile)
    code = f"# {hostile}\nprint(context[0])\nFINAL(context[0], quotes=[context[0]])"
    code_, sent = on_terminal("ask", "q", docs, script={"script": [f"```python\n{code}\n```"]})
    assert code_ == 0
    left = _OURS.sub("", sent).replace("\r\n", "\n").replace("\r", "")
    assert not {character for character in left if character != "\n" and not character.isprintable()}
    assert left.count("[bold red]:smile:[link=http://x]") >= 3
    assert "\x1b[2J" not in sent


def test_a_dumb_terminal_gets_plain_lines(start: Callable[..., Any], docs: Path) -> None:
    process = start("ask", "q", docs, script={"script": [LOOK, ANSWER]})
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "\x1b" not in out + err
