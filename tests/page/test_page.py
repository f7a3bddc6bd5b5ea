"""The page in a browser: what one sees, and what mouse and keyboard do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rlm_integrations import Budget, Context, Usage
from rlm_integrations.events import Citation, ReplayParted, RunResumed
from rlm_integrations.page import render_page
from rlm_integrations.run_settings import RunSettings
from rlm_integrations.trajectory import Trajectory
from tests.page.plays import BEGAN, DOCUMENTS, QUOTE, Story, large, told

Open = Callable[..., Any]


def rows(page: Any) -> list[str]:
    """The names of the rows on show."""
    return page.locator("#tree .row .name").all_text_contents()


def row(page: Any, name: str) -> Any:
    return page.locator("#tree .row", has=page.locator(f".name:text-is('{name}')")).first


def chosen(page: Any) -> str:
    return page.locator("#tree [aria-selected=true] .name").text_content()


def test_it_shows_question_answer_and_what_it_took(opened: Open) -> None:
    page = opened(render_page(told()))
    assert page.title() == "Which port? · RLM run"
    assert page.locator("h1").text_content() == "Which port?"
    assert "Port 8443" in page.locator(".answer").text_content()
    assert page.locator("#summary .pill").text_content() == "complete"
    facts = dict(
        zip(page.locator("#facts dt").all_text_contents(), page.locator("#facts dd").all_text_contents(), strict=True)
    )
    assert facts == {
        "time": "7.20 s", "turns": "3", "model calls": "7", "tokens in": "700", "tokens out": "70", "cost": "$0.0700",
    }  # fmt: skip


def test_the_tree_opens_and_closes(opened: Open) -> None:
    page = opened(render_page(told()))
    everything = [
        "Run",
        "Turn 1",
        "Turn 2",
        "Sub-call 1",
        "Sub-call 2",
        "Sub-call 3",
        "Child run 1",
        "Turn 1",
        "Turn 3",
    ]
    assert rows(page) == everything
    row(page, "Turn 2").locator(".twist").click()
    assert rows(page) == ["Run", "Turn 1", "Turn 2", "Turn 3"]
    assert row(page, "Turn 2").get_attribute("aria-expanded") == "false"
    assert row(page, "Turn 1").get_attribute("aria-expanded") is None
    row(page, "Turn 2").locator(".twist").click()
    assert rows(page) == everything
    assert row(page, "Sub-call 2").get_attribute("aria-level") == "3"
    assert row(page, "Sub-call 2").get_attribute("aria-setsize") == "4"
    assert row(page, "Sub-call 2").get_attribute("aria-posinset") == "2"


def test_a_step_shows_code_in_colours_output_error_and_messages(opened: Open) -> None:
    page = opened(render_page(told()))
    row(page, "Turn 2").click()
    detail = page.locator("#detail")
    assert detail.locator(".code pre").text_content() == "for part in parts:\n    print('port', part)  # loop"
    assert detail.locator(".code-keyword").all_text_contents()[0].strip() == "for"
    assert detail.locator(".code-string").text_content().strip() == "'port'"
    assert detail.locator(".code-comment").text_content().strip() == "# loop"
    assert detail.locator(".part.text pre").first.text_content() == "port 8443\n"
    sent = detail.locator("details", has_text="Sent to the model")
    assert sent.locator("pre").count() == 0
    sent.locator("summary").click()
    assert sent.locator("pre").text_content() == "NameError"
    row(page, "Turn 1").click()
    assert "NameError: name 'contxt'" in detail.locator(".error pre").text_content()
    row(page, "Sub-call 3").click()
    assert "small · depth 1" in detail.locator(".facts").text_content()
    assert "100 tokens in (20 cached), 10 out · $0.0100" in detail.locator(".facts").text_content()
    assert detail.locator("pre").all_text_contents() == ["Prompt 2 about zebras", "Reply 2"]


def test_the_keyboard_does_all_of_it(opened: Open) -> None:
    page = opened(render_page(told()))
    press = page.keyboard.press
    page.locator("#tree").focus()
    press("ArrowDown")
    press("ArrowDown")
    assert chosen(page) == "Turn 2"
    assert page.locator("#tree").get_attribute("aria-activedescendant") == page.locator(
        "[aria-selected=true][role=treeitem]"
    ).get_attribute("id")
    press("ArrowLeft")
    assert rows(page) == ["Run", "Turn 1", "Turn 2", "Turn 3"]
    press("ArrowRight")
    press("ArrowRight")
    assert chosen(page) == "Sub-call 1"
    press("ArrowLeft")
    assert chosen(page) == "Turn 2"
    press("End")
    assert chosen(page) == "Turn 3"
    press("Home")
    assert chosen(page) == "Run"
    press("Enter")
    assert page.evaluate("document.activeElement.id") == "detail"
    press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.type("zebras")
    press("Enter")
    assert chosen(page) == "Sub-call 1"
    press("Enter")
    assert chosen(page) == "Sub-call 2"
    press("Shift+Enter")
    assert chosen(page) == "Sub-call 1"
    press("Escape")
    assert page.locator("#search").input_value() == ""
    assert page.evaluate("document.activeElement.id") == "tree"
    page.locator("#tab-steps").focus()
    press("ArrowRight")
    assert page.locator("#evidence").is_visible()
    assert page.evaluate("document.activeElement.id") == "tab-evidence"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_search_looks_through_all_text_and_filters_the_tree(opened: Open) -> None:
    page = opened(render_page(told(), DOCUMENTS))
    page.fill("#search", "REPLY 1")
    assert rows(page) == ["Run", "Turn 2", "Sub-call 2"]
    assert page.locator("#found").text_content() == "1 step, 0 documents"
    row(page, "Sub-call 2").click()
    assert page.evaluate("[...CSS.highlights.get('found')].map(String)") == ["Reply 1"]
    page.fill("#search", "port', part)  #")
    assert rows(page) == ["Run", "Turn 2"]
    row(page, "Turn 2").click()
    # In the reply, and in the code that was run.
    assert page.evaluate("[...CSS.highlights.get('found')].map(String)") == ["port', part)  #"] * 2
    page.fill("#search", "Nobody knows")
    assert "1 document" in page.locator("#found").text_content()
    page.fill("#search", "(.*")
    assert rows(page) == []
    page.fill("#search", "")
    assert len(rows(page)) == 9
    page.select_option("#filter", "failed")
    assert rows(page) == ["Run", "Turn 1"]
    page.select_option("#filter", "call")
    assert rows(page) == ["Run", "Turn 2", "Sub-call 1", "Sub-call 2", "Sub-call 3"]
    page.select_option("#filter", "child")
    assert rows(page) == ["Run", "Turn 2", "Child run 1"]


def test_parallel_sub_calls_stand_side_by_side_on_the_timeline(opened: Open) -> None:
    page = opened(render_page(told()))
    bars = page.evaluate(
        "[...document.querySelectorAll('.bar.call, .bar.run')].map((bar) => "
        "[bar.dataset.step, bar.offsetTop, bar.offsetLeft, bar.offsetWidth])"
    )
    below = [bar for bar in bars if bar[0] != "0"]
    assert len({top for _, top, _, _ in below}) == len(below) == 4
    lefts = [left for _, _, left, _ in below]
    width = page.locator("#lanes").evaluate("(lanes) => lanes.clientWidth")
    assert max(lefts) - min(lefts) < width * 0.03
    first, third = (next(bar for bar in below if bar[0] == step) for step in ("3", "5"))
    assert first[3] == pytest.approx(0.9 / 7.2 * width, abs=3)
    assert third[3] == pytest.approx(2.88 / 7.2 * width, abs=3)
    page.locator(".bar.call").nth(1).click()
    assert chosen(page) == "Sub-call 2"
    page.locator("#zoom-in").click()
    assert page.locator(".bar.call.chosen").evaluate("(bar) => bar.offsetWidth") == pytest.approx(
        2 * 1.89 / 7.2 * width, abs=4
    )
    page.locator("#zoom-fit").click()
    assert page.locator(".bar.call.chosen").evaluate("(bar) => bar.offsetWidth") == pytest.approx(
        1.89 / 7.2 * width, abs=3
    )


def test_citations_show_in_their_documents(opened: Open) -> None:
    page = opened(render_page(told(), DOCUMENTS))
    page.locator(".chips .number").click()
    assert page.locator("#evidence").is_visible()
    assert page.locator("#document h2").text_content() == "servers.txt"
    assert page.locator("#document mark").text_content() == "1" + QUOTE
    assert page.locator("#document mark.chosen").count() == 1
    assert page.locator("#document pre").text_content() == "The staging server 1" + QUOTE + ". Nobody knows why.\n"
    page.locator(".source", has_text="other.txt").click()
    assert page.locator("#document pre").text_content() == "Nothing about it."


def test_a_citation_shows_without_its_document_and_says_so(opened: Open) -> None:
    page = opened(render_page(told()))
    page.locator(".chips .number").click()
    assert page.locator("#document mark").text_content() == "1" + QUOTE
    assert "not at hand" in page.locator("#document .notice").text_content()
    assert "rlm export run.jsonl run.html PATH" in page.locator("#sources").text_content()


def test_of_a_long_document_only_what_is_round_the_citations_is_there(opened: Open) -> None:
    text = "a" * 500_000 + QUOTE + "b" * 300_000 + "second quote" + "c" * 200_000
    second = 800_000 + len(QUOTE)
    story = Story()
    citations = (
        Citation("0", 500_000, 500_000 + len(QUOTE), QUOTE),
        Citation("0", second, second + 12, "second quote"),
    )
    story.end(1.0, "yes", *citations)
    html = render_page(story.trajectory, Context([text]))
    assert len(html) < 120_000
    page = opened(html)
    page.locator(".chips .number").last.click()
    assert page.locator("#document mark").all_text_contents() == ["1" + QUOTE, "2second quote"]
    left_out = page.locator("#document .left-out").all_text_contents()
    assert left_out == [f"{count} characters not shown here" for count in ("498,500", "297,000", "198,500")]
    assert page.locator("#document mark.chosen").is_visible()
    marks = page.locator(".strip button")
    assert marks.evaluate_all("(marks) => marks.map((mark) => Math.round(parseFloat(mark.style.left)))") == [50, 80]


def test_tokens_and_cost_stand_by_depth_and_by_model(opened: Open) -> None:
    page = opened(render_page(told()))
    page.locator("#tab-usage").click()
    cells = page.locator("#usage tr").evaluate_all(
        "(rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    assert cells[1] == ["depth 0, the root", "", "3", "0", "300", "60", "30", "$0.0300"]
    assert cells[2] == ["depth 1", "", "4", "0", "400", "80", "40", "$0.0400"]
    assert cells[3] == ["in all", "", "7", "0", "700", "140", "70", "$0.0700"]
    assert [line[0] for line in cells[5:]] == ["big", "small", "in all"]
    widths = page.locator("#usage .stack").evaluate_all(
        "(bars) => bars.map((bar) => "
        "[...bar.children].reduce((sum, part) => sum + part.offsetWidth, 0) / bar.offsetWidth)"
    )
    assert widths[0] == pytest.approx(330 / 770, abs=0.02)
    assert widths[2] == pytest.approx(1, abs=0.02)


def test_a_reused_answer_costs_nothing_and_says_where_it_is_from(opened: Open) -> None:
    story = Story()
    story.call(story.root, "q", "r", 0.0, 1.0)
    cell = story.cell(story.root, "x", 1.0, 2.0)
    story.sub_call(cell, "p", "r", 1.1, 1.2, source="memo", usage=Usage())
    story.end(2.0)
    page = opened(render_page(story.trajectory))
    assert "from memo" in row(page, "Sub-call 1").text_content()
    assert page.locator("#facts dt").all_text_contents()[2:4] == ["model call", "reused"]
    assert page.locator("#facts dd").all_text_contents()[2:] == ["1", "1", "100", "10", "$0.0100"]
    page.select_option("#filter", "reused")
    assert rows(page) == ["Run", "Turn 1", "Sub-call 1"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_has_the_reader_s_colours_and_can_be_switched(opened: Open, scheme: str) -> None:
    page = opened(render_page(told()), color_scheme=scheme)

    def luminance(of: str) -> float:
        colour = page.evaluate(f"getComputedStyle(document.body).{of}")
        return sum(map(int, colour[4:-1].split(","))) / 3

    is_dark = scheme == "dark"
    assert (luminance("backgroundColor") < 60, luminance("color") > 200) == (is_dark, is_dark)
    page.locator("#theme").click()
    assert (luminance("backgroundColor") < 60, luminance("color") > 200) == (not is_dark, not is_dark)
    assert page.locator("#theme").get_attribute("aria-pressed") == str(not is_dark).lower()


def test_a_run_that_was_killed_shows_what_there_is(opened: Open) -> None:
    story = Story()
    story.call(story.root, "q", "r", 0.0, 1.0)
    cell = story.cell(story.root, "llm_query('x')", 1.0, None)
    story.sub_call(cell, "prompt", None, 1.5, 9.0)
    trajectory = Trajectory(story.trajectory, cut=True)
    page = opened(render_page(trajectory))
    notices = " ".join(page.locator(".notice").all_text_contents())
    assert "cut off in the middle" in notices
    assert "does not tell how this run ended" in notices
    assert page.locator("#tree .row .state").all_text_contents() == ["not ended"] * 3
    assert page.locator(".no-answer").text_content() == "There is no answer."


def test_turns_are_counted_without_the_last_call_and_one_is_one(opened: Open) -> None:
    story = Story()
    story.call(story.root, "q", "r", 0.0, 1.0, usage=Usage(1, 2))
    story.call(story.root, "draw it", "8443", 1.0, 2.0, "extraction")
    story.end(2.0, status="extracted")
    page = opened(render_page(story.trajectory))
    assert page.locator("#detail .facts").text_content().endswith(" · 1 turn")
    row(page, "Turn 1").click()
    assert "1 token in, 2 out" in page.locator("#detail .facts").text_content()


def test_a_failed_run_shows_its_error(opened: Open) -> None:
    story = Story()
    story.fail(1.0, "ModelError: no such model")
    page = opened(render_page(story.trajectory))
    assert page.locator("#summary .pill").text_content() == "failed"
    assert page.locator(".no-answer").text_content() == "ModelError: no such model"
    assert page.locator("#detail .error pre").text_content() == "ModelError: no such model"


def test_a_resumed_run_shows_as_one_without_the_time_between(opened: Open) -> None:
    story = Story()
    story.call(story.root, "q", "r", 0.0, 1.0)
    story.fail(2.0, "BudgetExceeded: used up")
    story.events.append(RunResumed(story.root, None, BEGAN + 90_000.0))
    story.call(story.root, "q2", "r2", 90_000.0, 90_001.0)
    story.end(90_002.0)
    page = opened(render_page(story.trajectory))
    assert page.locator("#summary .pill").text_content() == "complete"
    assert page.locator("#facts dd").first.text_content() == "4.00 s"
    assert rows(page) == ["Run", "Turn 1", "Turn 2"]
    width = page.locator("#lanes").evaluate("(lanes) => lanes.clientWidth")
    left = page.locator(".resumed").evaluate("(mark) => mark.offsetLeft")
    assert left == pytest.approx(width / 2, abs=2)


def test_a_replay_says_where_it_parts(opened: Open) -> None:
    story = Story()
    story.call(story.root, "q", "r", 0.0, 1.0)
    story.cell(story.root, "print(1)", 1.0, 2.0, "2\n")
    story.events.append(ReplayParted("p", story.root, BEGAN + 2.0, 1, "1\n", "2\n"))
    story.end(3.0)
    page = opened(render_page(story.trajectory))
    assert "parts from its record after turn 1" in page.locator(".notice").text_content()
    row(page, "Turn 1").click()
    parted = page.locator("#detail details", has_text="The replay parts here")
    assert parted.locator("pre").text_content() == "1\n"


def test_the_settings_of_the_run_are_listed(opened: Open) -> None:
    settings = RunSettings("big", "small", budget=Budget(max_calls=7), tools=("lookup",))
    page = opened(render_page(Trajectory(told(), settings=settings)))
    page.locator("#tab-usage").click()
    listed = page.locator("#usage dl").evaluate("(list) => [...list.children].map((node) => node.textContent)")
    pairs = dict(zip(listed[::2], listed[1::2], strict=True))
    assert (pairs["model"], pairs["budget.max_calls"], pairs["tools"]) == ("big", "7", "lookup")


def test_a_link_to_a_step_opens_it(opened: Open) -> None:
    page = opened(render_page(told()))
    row(page, "Sub-call 2").click()
    page.wait_for_url("**/*#step-4")
    page.reload()
    assert chosen(page) == "Sub-call 2"


def test_it_fits_a_narrow_screen(opened: Open) -> None:
    page = opened(render_page(told(), DOCUMENTS), viewport={"width": 390, "height": 800})
    for tab in ("steps", "evidence", "usage"):
        page.locator(f"#tab-{tab}").click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, tab


def test_a_run_of_5000_events_opens_within_two_seconds(opened: Open) -> None:
    trajectory = large()
    assert 4_900 <= len(trajectory) <= 5_100
    html = render_page(trajectory)
    page = opened(html)
    session = page.context.new_cdp_session(page)
    # Time of the page's own thread, since this machine may have other things to do.
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def seconds() -> float:
        return next(m["value"] for m in session.send("Performance.getMetrics")["metrics"] if m["name"] == "ThreadTime")

    began_s = seconds()
    page.reload()
    opened_s = seconds()
    assert 0 < opened_s - began_s < 2
    assert page.locator("#tree .row").count() < 60
    page.locator("#tree").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("*")
    page.keyboard.press("End")
    assert chosen(page).startswith("Sub-call")
    assert page.locator("#tree .row").count() < 60
    before_s = seconds()
    page.fill("#search", "Prompt 24.90")
    page.locator("#found", has_text="1 step").wait_for()
    assert seconds() - before_s < 2
