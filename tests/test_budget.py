"""Limits hold before a call starts."""

from __future__ import annotations

import threading

import pytest

from rlm_integrations import Budget, BudgetExceeded, InvalidInput, Usage
from rlm_integrations.budget import Meter, Tally


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_calls_are_reserved_so_that_threads_can_not_overshoot() -> None:
    meter = Meter(Budget(max_calls=50))
    passed: list[int] = []

    def claim() -> None:
        for _ in range(20):
            try:
                meter.claim("m", 1, root=True)
            except BudgetExceeded:
                continue
            passed.append(1)

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(passed) == 50


def test_one_call_is_kept_for_the_root() -> None:
    meter = Meter(Budget(max_calls=3))
    meter.claim("m", 1, root=True)
    meter.claim("m", 1)
    with pytest.raises(BudgetExceeded, match="max_calls is 3, 2 used"):
        meter.claim("m", 1)
    meter.claim("m", 1, root=True)


def test_tokens_in_flight_count_before_they_are_used() -> None:
    meter = Meter(Budget(max_tokens=1000))
    claims = [meter.claim("m", 400), meter.claim("m", 400)]
    with pytest.raises(BudgetExceeded, match="max_tokens"):
        meter.claim("m", 400)
    meter.settle(claims[0], Usage(100, 50))
    meter.claim("m", 400)
    assert meter.tokens_left() == 1000 - 150 - 400 - 400


def test_a_call_without_a_reply_gives_its_tokens_back() -> None:
    meter = Meter(Budget(max_tokens=1000))
    meter.settle(meter.claim("m", 900), None)
    assert meter.tokens_left() == 1000


def test_cost_is_foreseen_from_what_the_model_has_cost_so_far() -> None:
    meter = Meter(Budget(max_cost_usd=1.0))
    meter.settle(meter.claim("dear", 1000), Usage(1000, 0, 0, 0.4))
    meter.claim("dear", 1000)
    with pytest.raises(BudgetExceeded, match=r"max_cost_usd is 1, 0\.8 used"):
        meter.claim("dear", 1000)


def test_a_limit_of_cost_can_not_be_held_without_prices_and_says_so() -> None:
    meter = Meter(Budget(max_cost_usd=1.0))
    meter.settle(meter.claim("local", 10), Usage(10, 10))
    with pytest.raises(InvalidInput, match="local reports no price"):
        meter.claim("local", 10)


def test_no_call_starts_after_max_seconds() -> None:
    clock = Clock()
    meter = Meter(Budget(max_seconds=10), clock)
    clock.now = 9.0
    meter.claim("m", 1)
    assert meter.seconds_left() == 1.0
    clock.now = 10.0
    with pytest.raises(BudgetExceeded, match="max_seconds is 10, 10 used"):
        meter.claim("m", 1)


def test_the_seconds_left_are_never_none_or_less_however_late_the_clock_is_looked_at() -> None:
    times = iter([0.0, 9.9, 10.1])
    assert Meter(Budget(max_seconds=10), lambda: next(times)).seconds_left() == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("budget", "last"),
    [
        (Budget(max_calls=2), True),
        (Budget(max_calls=3), False),
        (Budget(max_tokens=3000), True),
        (Budget(max_tokens=5000), False),
        (Budget(max_cost_usd=0.3), True),
        (Budget(max_cost_usd=0.5), False),
        (Budget(max_calls=None), False),
    ],
)
def test_the_last_call_that_is_covered_is_known_before_it_is_made(budget: Budget, last: bool) -> None:
    meter = Meter(budget)
    meter.settle(meter.claim("m", 1000, root=True), Usage(1000, 0, 0, 0.1))
    assert (meter.last_call("m", 1000) is not None) is last


def test_usage_adds_up_by_model_and_by_depth_for_a_run_and_all_above_it() -> None:
    root = Tally()
    child = Tally(root)
    root.add("big", 0, Usage(10, 1, 5, 0.2))
    child.add("small", 1, Usage(20, 2, 0, 0.1))
    assert child.report().calls == 1
    report = root.report()
    assert (report.calls, report.input_tokens, report.output_tokens, report.cached_tokens) == (2, 30, 3, 5)
    assert report.cost_usd == pytest.approx(0.3)
    assert report.by_model["small"].input_tokens == 20
    assert {depth: part.calls for depth, part in report.by_depth.items()} == {0: 1, 1: 1}


def test_a_sum_that_would_leave_an_unknown_price_out_is_unknown() -> None:
    tally = Tally()
    tally.add("a", 0, Usage(1, 1, 0, 0.5))
    tally.add("b", 0, Usage(1, 1))
    assert tally.report().cost_usd is None
    assert tally.report().by_model["a"].cost_usd == 0.5
