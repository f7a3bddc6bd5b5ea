"""Timeouts that do not make LiteLLM open a new connection for each call."""

from rlm_integrations.models import timeouts


def test_a_timeout_is_exact_and_prints_the_same_whatever_its_value():
    short, long = timeouts.for_provider("openai", 3.7), timeouts.for_provider("openai", 500.1)

    assert (short.read, long.read) == (3.7, 500.1)
    assert f"{short}" == f"{long}"


def test_a_plain_number_is_rounded_up_so_that_few_are_in_use():
    assert [timeouts.for_provider("anthropic", s) for s in (0.3, 1.0, 37.2, 63.9, 64.1)] == [
        0.5,
        1.0,
        64.0,
        64.0,
        128.0,
    ]
