"""Many runs of one RLM at once: at most ``max_runs`` are under way, and none leaves anything behind."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from rlm_integrations import RLM, Budget, InvalidInput, Message, ModelError, Reply, RLMError, WindowExceeded
from rlm_integrations.engine.conversation import Conversation
from rlm_integrations.engine.room import Room
from rlm_integrations.engine.tree import Tree
from rlm_integrations.events import RunStarted
from rlm_integrations.models import LiteLLMModel
from rlm_integrations.sandbox.session import ProcessSession
from rlm_integrations.testing import ScriptedCall, ScriptedModel
from tests.openai_server import OpenAIServer
from tests.scripts import cell

MakeRLM = Callable[..., RLM]
ANSWER = cell("FINAL(len(context))")


class Crowd:
    """Answers at once, and keeps nothing but ``most``, the number of calls that were under way together."""

    name = "crowd"

    def __init__(self, say: Callable[[Sequence[Message]], str] = lambda messages: ANSWER) -> None:
        self._say = say
        self._now = self.most = 0

    def complete(self, messages: Sequence[Message], **options: Any) -> Reply:
        return Reply(self._say(messages))

    async def acomplete(self, messages: Sequence[Message], **options: Any) -> Reply:
        self._now += 1
        self.most = max(self.most, self._now)
        await asyncio.sleep(0.01)
        self._now -= 1
        return Reply(self._say(messages))


def left(*kinds: type) -> list[str]:
    """The kinds of all such objects that are still there."""
    gc.collect()
    return [type(one).__name__ for one in gc.get_objects() if isinstance(one, kinds)]


async def of_all(rlm: RLM, count: int, **settings: Any) -> list[Any]:
    return await asyncio.gather(*(rlm.acompletion("how long?", "x" * (i + 1)) for i in range(count)), **settings)


@pytest.mark.parametrize("max_runs", [1, 3])
def test_no_more_than_max_runs_are_under_way_and_all_are_answered(make_rlm: MakeRLM, max_runs: int) -> None:
    model = Crowd()
    answers = asyncio.run(of_all(make_rlm(model, max_runs=max_runs), 20))
    assert answers == [str(i + 1) for i in range(20)]
    assert model.most == max_runs


@pytest.mark.parametrize("max_runs", [0, -1, 1.5, True, "many", None])
def test_max_runs_is_a_whole_number_of_at_least_one(make_rlm: MakeRLM, max_runs: Any) -> None:
    with pytest.raises(InvalidInput, match=r"max_runs=.*: pass a whole number of at least 1"):
        make_rlm(Crowd(), max_runs=max_runs)


def test_an_rlm_with_other_settings_counts_its_runs_with_those_of_the_first(make_rlm: MakeRLM) -> None:
    def look() -> str:
        return "nothing"

    model = Crowd()
    rlm = make_rlm(model, max_runs=2)
    others = [rlm, rlm.with_tools([look]), rlm.replace(instructions="Be brief."), rlm.replace(budget=Budget())]

    async def ask() -> None:
        await asyncio.gather(*(other.arun("q", "text") for other in others * 2))

    asyncio.run(ask())
    assert model.most == 2


def test_those_that_wait_begin_in_the_order_they_came(make_rlm: MakeRLM) -> None:
    begun: list[str] = []
    rlm = make_rlm(Crowd(), max_runs=1, observers=[lambda e: isinstance(e, RunStarted) and begun.append(e.query)])

    async def ask() -> None:
        await asyncio.gather(*(rlm.arun(f"q{i}", "text") for i in range(8)))

    asyncio.run(ask())
    assert begun == [f"q{i}" for i in range(8)]


@pytest.mark.parametrize("way", ["awaited", "in a thread", "in a thread of another loop", "as a stream", "as a task"])
def test_a_run_that_a_tool_begins_does_not_wait_for_the_run_it_is_part_of(make_rlm: MakeRLM, way: str) -> None:
    async def awaited() -> Any:
        return await inner.acompletion("inner", "four")

    async def as_a_stream() -> Any:
        return [event async for event in inner.astream("inner", "four")][-1].answer  # type: ignore[union-attr]

    async def as_a_task() -> Any:
        return await asyncio.create_task(inner.acompletion("inner", "four"))

    def in_a_thread() -> Any:
        return inner.completion("inner", "four")

    def in_a_thread_of_another_loop() -> Any:
        return asyncio.run(inner.acompletion("inner", "four"))

    tool: Any = locals()[way.replace(" ", "_")]
    tool.__name__ = "ask"

    def say(messages: Sequence[Message]) -> str:
        return ANSWER if "inner" in messages[1].content else cell("FINAL(ask())")

    rlm = make_rlm(Crowd(say), max_runs=1, tools=[tool])
    inner = rlm.replace(tools={})
    assert asyncio.run(of_all(rlm, 3)) == ["4"] * 3


def test_two_rlms_that_ask_each_other_do_not_wait_for_each_other(make_rlm: MakeRLM) -> None:
    async def ask_left() -> Any:
        return await left_rlm.acompletion("inner", "four")

    async def ask_right() -> Any:
        return await right_rlm.acompletion("inner", "four")

    def say(messages: Sequence[Message]) -> str:
        if "inner" in messages[1].content:
            return ANSWER
        return cell("FINAL(ask_left())" if "ask_left" in messages[0].content else "FINAL(ask_right())")

    left_rlm = make_rlm(Crowd(say), max_runs=1, tools=[ask_right])
    right_rlm = make_rlm(Crowd(say), max_runs=1, tools=[ask_left])

    async def ask() -> list[Any]:
        return await asyncio.gather(left_rlm.acompletion("q", "text"), right_rlm.acompletion("q", "text"))

    assert asyncio.run(asyncio.wait_for(ask(), 20)) == ["4", "4"]


def test_what_a_run_did_before_does_not_let_later_ones_pass(make_rlm: MakeRLM) -> None:
    model = Crowd()
    rlm = make_rlm(model, max_runs=1)

    async def ask() -> None:
        await rlm.arun("q", "text")
        await of_all(rlm, 4)

    asyncio.run(ask())
    assert model.most == 1


def test_one_that_is_cancelled_while_it_waits_or_runs_gives_its_place_to_the_next(make_rlm: MakeRLM) -> None:
    class Held(Crowd):
        async def acomplete(self, messages: Sequence[Message], **options: Any) -> Reply:
            if "stay" in messages[1].content:
                reached.set()
                await asyncio.Event().wait()
            return await super().acomplete(messages)

    async def ask() -> str:
        runs = [asyncio.create_task(rlm.acompletion(query, "text")) for query in ("stay", "waits", "goes on")]
        await reached.wait()
        runs[1].cancel()
        runs[0].cancel()
        return str(await runs[2])

    reached = asyncio.Event()
    rlm = make_rlm(Held(), max_runs=1)
    assert asyncio.run(ask()) == "4"


def test_a_stream_that_nobody_reads_on_keeps_no_place(make_rlm: MakeRLM) -> None:
    rlm = make_rlm(Crowd(), max_runs=1)

    async def ask() -> tuple[str, str]:
        stream = rlm.astream("unread", "text")
        await anext(stream)
        answer = await rlm.acompletion("q", "text")
        rest = [event async for event in stream]
        return answer, rest[-1].answer  # type: ignore[union-attr]

    assert asyncio.run(ask()) == ("4", "4")


def test_streams_wait_their_turn_too_and_waiting_takes_no_seconds_of_the_budget(make_rlm: MakeRLM) -> None:
    model = Crowd()
    rlm = make_rlm(model, max_runs=1)
    hurried = make_rlm(ScriptedModel(lambda _: ANSWER, latency_s=0.3)).replace(
        budget=Budget(max_seconds=0.6), room=rlm.settings.room
    )

    async def read() -> str:
        return [event async for event in hurried.astream("q", "text")][-1].answer  # type: ignore[union-attr]

    async def ask() -> list[str]:
        return await asyncio.gather(*(read() for _ in range(4)))

    assert asyncio.run(ask()) == ["4"] * 4


def test_blocking_runs_take_no_place(make_rlm: MakeRLM) -> None:
    both = threading.Barrier(2, timeout=20)

    class Together(Crowd):
        def complete(self, messages: Sequence[Message], **options: Any) -> Reply:
            both.wait()
            return Reply(ANSWER)

    rlm = make_rlm(Together(), max_runs=1)
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(rlm.completion("q", "text"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["4", "4"]


def test_each_event_loop_has_its_own_places_and_none_is_kept() -> None:
    room = Room(1)

    async def two() -> weakref.ref[asyncio.AbstractEventLoop]:
        async def one() -> None:
            async with room.place():
                await asyncio.sleep(0)

        await asyncio.gather(one(), one())
        return weakref.ref(asyncio.get_running_loop())

    loops = [asyncio.run(two()) for _ in range(2)]
    gc.collect()
    assert [loop() for loop in loops] == [None, None]


def test_a_bad_question_is_refused_without_waiting(make_rlm: MakeRLM) -> None:
    rlm = make_rlm(Crowd(), max_runs=1)

    async def ask() -> None:
        async with rlm.settings.room.place():
            # A task that was begun elsewhere, so that it has no place.
            loop = asyncio.get_running_loop()
            for query, context in (("", "text"), ("q", ""), ("q", 7)):
                with pytest.raises(InvalidInput):
                    await outside(loop, rlm.arun(query, context))

    asyncio.run(asyncio.wait_for(ask(), 20))


def outside(loop: asyncio.AbstractEventLoop, awaited: Any) -> asyncio.Task[Any]:
    import contextvars

    return loop.create_task(awaited, context=contextvars.Context())


@pytest.mark.parametrize("way", ["acomplete", "complete"])
def test_calls_that_are_refused_a_parameter_together_are_all_made_again_without_it(
    socket_enabled: None, way: str
) -> None:
    server = OpenAIServer(lambda messages: "yes")
    model = LiteLLMModel("openai/gpt-5-mini", api_base=server.url, api_key="none", max_retries=0)

    async def ask() -> list[Reply]:
        asked = [[Message("user", "is it?")]] * 8
        if way == "acomplete":
            return await asyncio.gather(*(model.acomplete(messages, stop=["x"]) for messages in asked))
        complete = partial(model.complete, stop=["x"])
        return await asyncio.gather(*(asyncio.to_thread(complete, messages) for messages in asked))

    try:
        assert [reply.text for reply in asyncio.run(ask())] == ["yes"] * 8
    finally:
        server.close()
    assert not any("stop" in body for body in server.bodies)


def failing(messages: Sequence[Message]) -> str:
    turn = sum(message.role == "assistant" for message in messages)
    if turn == 0:
        return cell("print(len(context))")
    if "fails" in messages[1].content:
        raise ModelError("the provider said no", model="crowd")
    return ANSWER


def test_many_runs_leave_nothing_behind_but_what_their_answers_hold(make_rlm: MakeRLM) -> None:
    assert left(Tree, Conversation) == []  # of tests before this one
    rlm = make_rlm(Crowd(failing), max_runs=8)

    async def ask(i: int) -> Any:
        return await rlm.acompletion(f"{'fails' if i % 10 == 0 else 'q'} {i}", f"{i:06}" * 1000)

    async def ask_all() -> list[Any]:
        return await asyncio.gather(*(ask(i) for i in range(120)), return_exceptions=True)

    rows = asyncio.run(ask_all())
    failures = [row for row in rows if not isinstance(row, str)]
    assert [rows.index(row) for row in failures] == list(range(0, 120, 10))
    # A failure has its record, but none of what the engine worked with.
    assert all(isinstance(row, ModelError) and row.partial and len(row.partial.trajectory) > 5 for row in failures)
    assert left(Tree, Conversation, ProcessSession) == []


def test_an_error_that_a_model_raises_in_two_runs_ends_only_the_one_that_it_leaves(make_rlm: MakeRLM) -> None:
    too_long = WindowExceeded("too long", model="shared")
    fails, goes_on = asyncio.Event(), asyncio.Event()

    class Shared(ScriptedModel):
        async def acomplete(self, messages: Sequence[Message], **options: Any) -> Reply:
            self.calls.append(ScriptedCall(tuple(messages), options))
            match len(self.calls):
                case 1:
                    return Reply(cell("print(len(context))"))
                case 3:
                    # The survivor is asked once more, with less.
                    fails.set()
                    await goes_on.wait()
                    return Reply(cell("FINAL(len(context) * 2)"))
            raise too_long

    rlm = make_rlm(Shared([]))

    async def both() -> Any:
        survivor = asyncio.ensure_future(rlm.acompletion("survivor", "text"))
        await fails.wait()
        with pytest.raises(WindowExceeded, match="too long"):
            await rlm.acompletion("victim", "text")
        goes_on.set()
        return await survivor

    assert asyncio.run(both()) == "8"


@pytest.mark.parametrize("ask", [RLM.run, lambda *asked: list(RLM.stream(*asked))], ids=["run", "stream"])
def test_a_kept_error_keeps_its_traceback_but_not_what_the_engine_had_in_its_frames(
    make_rlm: MakeRLM, ask: Callable[[RLM, str, str], Any]
) -> None:
    rlm = make_rlm(Crowd(failing))
    with pytest.raises(RLMError) as caught:
        ask(rlm, "fails", "text")
    frames = [entry.frame.f_locals for entry in caught.traceback if "/engine/" in str(entry.path)]
    assert len(frames) > 3
    assert frames == [{}] * len(frames)
