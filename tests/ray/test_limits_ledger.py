"""Which calls of a job may start, decided without Ray or time."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("ray", reason="Ray is not installed")

from rlm_integrations import Usage
from rlm_integrations.ray.ledger import REPLY_TOKENS, Ask, Ledger, Limits, Refusal

USED = Usage(100, 20, 0, 1.0)


class Job:
    """A ledger with a clock that is set by hand."""

    def __init__(self, **limits: Any) -> None:
        self.now = 0.0
        self.ledger = Ledger(Limits(**{"lease_s": 1e9, **limits}), lambda: self.now)

    def ask(self, *ids: str, process: str = "a", model: str = "m", tokens: int = 100, **settings: Any) -> list[str]:
        """Ask for calls; those that start."""
        for id in ids:
            self.ledger.ask(Ask(id, process, model, tokens, **settings))
        return self.started()

    def started(self) -> list[str]:
        decided = list(self.ledger.decide())
        assert not [refusal for _, refusal in decided if refusal]
        return [id for id, _ in decided]

    def refusals(self) -> dict[str, Refusal | None]:
        return dict(self.ledger.decide())

    def end(self, *ids: str, usage: Usage | None = USED) -> list[str]:
        """End calls; those that start then."""
        for id in ids:
            self.ledger.settle(id, usage)
        return self.started()


def test_no_more_calls_of_one_provider_are_in_flight_than_allowed_and_those_that_wait_start_in_order() -> None:
    job = Job(max_in_flight=2)
    assert job.ask("1", "2", "3", "4", model="openai/a") == ["1", "2"]
    assert job.ask("5", model="openai/b") == []
    assert job.ask("6", model="anthropic/c") == ["6"]
    assert job.end("2") == ["3"]
    assert job.end("1", "3") == ["4", "5"]


def test_a_call_that_is_not_wanted_any_more_holds_nothing_up() -> None:
    job = Job(max_in_flight=1)
    assert job.ask("1", "2", "3") == ["1"]
    assert job.end("2", usage=None) == []
    assert job.end("1") == ["3"]
    assert job.end("3") == []
    assert (job.ledger.in_flight, job.ledger.waiting) == (0, 0)


def test_a_call_whose_end_is_told_before_its_beginning_holds_nothing_up() -> None:
    job = Job(max_in_flight=1)
    assert job.end("1", usage=None) == []
    assert job.ask("1", "2") == ["2"]
    assert job.ledger.waiting == 0


def test_the_tokens_of_any_minute_are_held() -> None:
    job = Job(tokens_per_minute=1_000)
    assert job.ask("1", tokens=500, max_reply=100) == ["1"]
    assert job.ask("2", tokens=500, max_reply=100) == []
    job.now = 10
    assert job.end("1", usage=Usage(500, 100)) == []
    job.now = 59.9
    assert job.started() == []
    job.now += job.ledger.next_s() or 0
    assert job.started() == ["2"]
    assert job.ask("3", tokens=300, max_reply=50) == []  # the reply of the first counts from its end
    job.now = 70
    assert job.started() == ["3"]


def test_a_call_larger_than_a_minutes_tokens_has_a_minute_for_itself() -> None:
    job = Job(tokens_per_minute=100)
    assert job.ask("1", tokens=500) == ["1"]
    assert job.ask("2", tokens=1) == []
    job.now = 60
    assert job.end("1", usage=Usage(500, 0)) == ["2"]


@pytest.mark.parametrize("reply", [20, REPLY_TOKENS])
@pytest.mark.parametrize("width", [1, 7, 100])
def test_the_cost_is_never_passed_however_many_calls_are_wanted_at_once(reply: int, width: int) -> None:
    job = Job(max_cost_usd=10.0)
    usage = Usage(100, reply, 0, (100 + reply) / 1000)
    job.ledger.ask(Ask("first", "a", "m", 100))
    flying = job.started()
    refused = 0
    for number in range(1, 300):
        job.ledger.ask(Ask(str(number), "a", "m", 100))
        while job.ledger.in_flight + job.ledger.waiting >= width or number == 299:
            for id, refusal in job.ledger.decide():
                refused += refusal is not None
                flying += [] if refusal else [id]
            if not flying:
                break
            job.ledger.settle(flying.pop(0), usage)
    assert job.ledger.in_flight == job.ledger.waiting == 0
    assert 10.0 - 2 * (100 + REPLY_TOKENS) / 1000 <= job.ledger.cost_usd <= 10.0
    assert job.ledger.calls + refused == 300


def test_until_a_price_is_known_calls_go_one_by_one() -> None:
    job = Job(max_cost_usd=10.0)
    assert job.ask("1", "2", "3") == ["1"]
    assert job.end("1", usage=None) == ["2"]
    assert job.end("2", usage=Usage(100, 20, 0, 0.01)) == ["3"]
    assert job.ask("4") == ["4"]
    # Another model does not wait for all of these to end.
    assert job.ask("5", "6", model="other/n") == ["5"]


def test_a_call_past_a_limit_is_refused_with_its_numbers() -> None:
    job = Job(max_calls=2)
    assert job.ask("1", "2") == ["1", "2"]
    job.ledger.ask(Ask("3", "a", "m", 1))
    assert job.refusals() == {"3": Refusal("max_calls", 2, 2)}


def test_a_call_waits_for_those_in_flight_before_it_is_refused_for_what_they_may_take() -> None:
    job = Job(max_tokens=1_000)
    assert job.ask("1", tokens=500, max_reply=100) == ["1"]
    assert job.ask("2", tokens=500, max_reply=100) == []
    assert job.end("1", usage=Usage(300, 50)) == ["2"]
    job.end("2", usage=Usage(300, 50))
    job.ledger.ask(Ask("3", "a", "m", 500, 100))
    assert job.refusals() == {"3": Refusal("max_tokens", 700, 1_000)}


def test_a_model_without_a_price_is_refused_where_cost_is_limited() -> None:
    job = Job(max_cost_usd=1.0)
    assert job.ask("1") == ["1"]
    job.ledger.settle("1", Usage(1, 1))
    job.ledger.ask(Ask("2", "a", "m", 1))
    (refusal,) = job.refusals().values()
    assert refusal is not None
    assert "reports no price" in refusal.reason
    assert not job.ledger.is_priced


def test_what_a_dead_process_held_comes_back_and_counts_as_it_was_foreseen() -> None:
    job = Job(max_in_flight=1, lease_s=30.0)
    assert job.ask("1", process="dead", tokens=100, max_reply=50) == ["1"]
    assert job.ask("2", process="dead") == []
    assert job.ask("3", process="alive") == []
    job.now = 29
    job.ledger.hear("alive")
    assert job.started() == []
    assert job.ledger.next_s() == 1
    job.now = 30
    assert job.started() == ["3"]
    assert job.ledger.tokens == 150
    assert job.ledger.waiting == 0


def test_a_process_that_was_only_stopped_gets_what_it_waited_for() -> None:
    job = Job(max_in_flight=1, lease_s=30.0)
    assert job.ask("1", process="alive") == ["1"]
    assert job.ask("2", "3", process="stopped") == []
    job.now = 29
    job.ledger.hear("alive")
    job.now = 31
    assert job.end("1") == []
    job.ledger.settle("2", None)
    job.ledger.hear("stopped")
    assert job.started() == ["3"]
