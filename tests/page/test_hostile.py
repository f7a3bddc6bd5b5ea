"""Text of documents, models and their code is shown as text in the page, and never run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from rlm_integrations import RLM, Context, Document, Usage
from rlm_integrations.events import Citation, ModelCallFailed, ReplayParted, RunStarted
from rlm_integrations.page import render_page
from rlm_integrations.run_settings import RunSettings
from rlm_integrations.testing import ScriptedModel
from rlm_integrations.trajectory import Trajectory
from tests.page.plays import BEGAN, Story, told
from tests.scripts import cell as fenced

ATTACKS = (
    "<script>window.hacked = 1</script>",
    "</script><script>window.hacked = 2</script>",
    "<!--<script>",
    '<img src=x onerror="window.hacked = 3">',
    "\"'><svg onload=window.hacked=4>",
    "<a href='javascript:window.hacked=5'>x</a>",
    "<style>* { display: none }</style></style></title></textarea></noscript>",
    "${window.hacked = 6}`); window.hacked = 7; //",
    "\u2028window.hacked = 8\u2029window.hacked = 9",
    "{{script}}{{data}}{{style}}{{policy}}",
    "&lt;b&gt;&#60;&amp;",
    "<meta http-equiv=refresh content='0;url=http://127.0.0.1:1/'><base href='http://127.0.0.1:1/'>",
    "__proto__ constructor \\u003cscript\\u003e \\",
)
# As they are shown: what can't be seen, or turns the text round, as escapes.
ESCAPED = {
    "\u2028": "\\u2028", "\u2029": "\\u2029", "\u202e": "\\u202e", "\u2066": "\\u2066", "\u200f": "\\u200f",
    "\x00": "\\x00", "\x1b": "\\x1b", "\x9b": "\\x9b", "\ud800": "\\ud800", "\r": "\\x0d",
}  # fmt: skip
HOSTILE = " | ".join(ATTACKS) + " | " + "".join(ESCAPED) + "|"


def as_shown(text: str) -> str:
    return text.translate({ord(mark): escape for mark, escape in ESCAPED.items()})


SHOWN = as_shown(HOSTILE)


def hostile(place: str) -> str:
    return f"{place} {HOSTILE}"


def everywhere() -> tuple[Trajectory, Context]:
    """A run that has it in all of its texts, ids and names."""
    context = Context([Document(hostile("text"), id=hostile("document"), metadata={hostile("key"): hostile("value")})])
    summary = replace(context.summary, type=hostile("type"), sha256=hostile("hash"), head=hostile("head"))
    story = Story(hostile("question"), summary, model=hostile("model"), id=hostile("run"))
    call = story.call(story.root, hostile("message"), hostile("reply"), 0.0, 1.0, model=hostile("turn's model"))
    cell = story.cell(story.root, hostile("code"), 1.0, 5.0, hostile("output"), hostile("raised"))
    story.sub_call(cell, hostile("prompt"), hostile("answered"), 2.0, 3.0, model=hostile("sub-model"))
    failed = story.sub_call(cell, hostile("second prompt"), None, 2.0, 3.0)
    story.events.append(ModelCallFailed(failed, cell, BEGAN + 4.0, hostile("error")))
    story.events.append(
        ReplayParted(hostile("parted"), story.root, BEGAN + 4.5, 1, hostile("recorded"), hostile("found"))
    )
    child = story.run(cell, hostile("child's question"), 3.0, 1)
    story.end(4.0, {hostile("a key"): [hostile("a value")]}, run=child, parent_id=cell)
    quotes = (Citation(hostile("document"), 0, len(hostile("text")), hostile("text")),)
    story.end(6.0, hostile("answer"), *quotes, Citation(hostile("no document"), 5, 9, hostile("quote")))
    settings = RunSettings(
        hostile("model"), hostile("small"), instructions=hostile("instructions"), tools=(hostile("tool"),)
    )
    assert call
    return Trajectory(story.trajectory, settings=settings), context


def assert_harmless_window(page: Any) -> None:
    assert page.evaluate("'hacked' in window") is False


def assert_harmless(page: Any) -> None:
    assert_harmless_window(page)
    assert page.evaluate("document.scripts.length") == 2
    assert page.locator("img, svg, iframe, object, embed, base, link, form, body style, body meta").count() == 0
    names = page.evaluate("[...document.querySelectorAll('*')].flatMap((node) => node.getAttributeNames())")
    assert not [name for name in names if name.startswith("on") or name in ("src", "href", "srcdoc", "action")]


def test_hostile_text_is_shown_as_text_wherever_it_stands(opened: Callable[..., Any]) -> None:
    from playwright.sync_api import expect

    page = opened(render_page(*everywhere()))
    assert page.locator("h1").text_content() == f"question {SHOWN}"
    assert page.locator(".answer .searched").text_content() == f"answer {SHOWN}"
    seen = ""
    for number in range(page.locator("#tree .row").count()):
        page.locator("#tree .row").nth(number).click()
        while page.locator("#detail details:not([open])").count():
            page.locator("#detail details:not([open]) > summary").first.click()
        expect(page.locator("#detail details:not(:has(pre))")).to_have_count(0)
        seen += page.locator("#detail").text_content()
    places = (
        "question", "answer", "type", "hash", "head", "message", "reply", "code", "output", "raised", "prompt",
        "answered", "second prompt", "error", "recorded", "found", "child's question", "model", "turn's model",
        "sub-model", "text", "quote",
    )  # fmt: skip
    assert [place for place in places if f"{place} {SHOWN}" not in seen] == []
    assert as_shown(json.dumps({hostile("a key"): [hostile("a value")]}, indent=2, ensure_ascii=False)) in seen
    assert_harmless(page)
    page.locator("#tab-evidence").click()
    assert page.locator("#document mark").text_content() == f"1text {SHOWN}"
    assert "document <script>" in page.locator("#document h2").text_content()
    page.locator(".source.quote").nth(1).click()
    assert page.locator("#document mark").text_content() == f"2quote {SHOWN}"
    page.locator("#tab-usage").click()
    assert f"instructions {SHOWN}" in page.locator("#usage").text_content()
    for attack in ATTACKS[:4]:
        page.fill("#search", attack)
        assert page.locator("#found").text_content().startswith("5 steps, 1 document")
    assert_harmless(page)


TRIES = {
    "markup": "document.body.innerHTML = '<img src=x onerror=window.hacked=1>'",
    "a script": "let x = document.createElement('script'); x.text = 'window.hacked=1'; document.body.append(x)",
    "a handler": "document.body.setAttribute('onclick', 'window.hacked = 1'); document.body.click()",
    "a link": "const node = document.createElement('a'); node.href = 'javascript:window.hacked=1'; node.click()",
    "an image": "const made = new Image(); made.src = 'http://127.0.0.1:1/x.png'; document.body.append(made)",
    "a request": "fetch('http://127.0.0.1:1/').catch(() => {})",
    "a style": "let x = document.createElement('style'); x.textContent = 'p {top: 0}'; document.body.append(x)",
}


@pytest.mark.parametrize("what", TRIES)
def test_the_policy_of_the_page_stops_what_would_get_past_the_rest(opened: Callable[..., Any], what: str) -> None:
    page = opened(render_page(told()), checked=False)
    page.evaluate(
        f"""() => new Promise((refused) => {{
            document.addEventListener('securitypolicyviolation', refused, {{ once: true }});
            try {{ {TRIES[what]} }} catch {{}}
        }}).then(() => true)"""
    )
    assert_harmless_window(page)


def test_what_a_model_really_made_of_hostile_documents_is_shown(
    make_rlm: Callable[..., RLM], opened: Callable[..., Any]
) -> None:
    replies = [fenced("print(context)\nraise ValueError(context)"), fenced("FINAL(context, quotes=[context[:60]])")]
    text = HOSTILE.replace("\r", "").replace("\ud800", "")  # which no worker is sent
    result = make_rlm(ScriptedModel(replies)).run(text, text)
    page = opened(render_page(result.trajectory, Context(text)))
    assert page.locator(".answer .searched").text_content() == SHOWN.replace("\\x0d", "").replace("\\ud800", "")
    page.locator("#tree .row").nth(1).click()
    assert "<script>window.hacked = 1</script>" in page.locator("#detail .error pre").text_content()
    assert_harmless(page)


def test_the_page_is_ascii_safe_and_its_data_ends_where_it_should() -> None:
    html = render_page(*everywhere())
    assert html.encode("utf-8")
    data = html.split('<script id="data" type="application/json">')[1].split("</script>")[0]
    assert not set("<>&\u2028\u2029") & set(data)
    assert json.loads(data)["question"] == f"question {SHOWN}"
    assert html.count("</script>") == 2


@pytest.mark.parametrize("time", [float("nan"), float("inf"), -1e300, 1e300])
def test_times_and_numbers_that_make_no_sense_do_no_harm(time: float) -> None:
    story = Story()
    started = story.events[0]
    assert isinstance(started, RunStarted)
    usage = Usage(-5, 10**400, 0, float("nan"))
    story.call(story.root, "q", "r", time, time, usage=usage)
    story.end(1.0, {"a": float("nan")})
    data = render_page(Trajectory([*story.events, replace(started, time=time)])).split('"application/json">')[1]
    plain = json.loads(data.split("</script>")[0], parse_constant=lambda name: pytest.fail(name))
    assert plain["totals"]["all"]["output"] == 2**53
    assert plain["totals"]["all"]["cost"] is None
