"""What the exit code of a command says."""

from __future__ import annotations

import signal
from enum import IntEnum

from rlm_integrations.errors import (
    BudgetExceeded,
    InvalidInput,
    MissingExtra,
    MissingKey,
    ModelError,
    ReplayError,
    SandboxError,
    TurnsExhausted,
)

__all__ = ["Exit", "advice"]


class Exit(IntEnum):
    """The exit codes; ``meaning`` is how ``--help`` puts them."""

    COMPLETE = 0, "a complete answer"
    UNEXPECTED = 1, "an unexpected failure"
    USAGE = 2, "bad usage or input"
    EXTRACTED = 3, "turns or budget ran out; the answer was drawn from what had been seen"
    MODEL = 4, "the model or its provider failed (no key, no such model, no connection, ...)"
    EXHAUSTED = 5, "turns or budget ran out, and there is no answer"
    SANDBOX = 6, "the sandbox failed"
    INTERRUPTED = 128 + signal.SIGINT, "interrupted (Ctrl-C)"
    TERMINATED = 128 + signal.SIGTERM, "terminated"

    meaning: str

    def __new__(cls, code: int, meaning: str) -> Exit:
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    @classmethod
    def of(cls, error: BaseException) -> Exit:
        """The code for a command that ``error`` ended."""
        match error:
            case InvalidInput() | MissingExtra() | ReplayError():
                return cls.USAGE
            case ModelError():
                return cls.MODEL
            case BudgetExceeded() | TurnsExhausted():
                return cls.EXHAUSTED
            case SandboxError():
                return cls.SANDBOX
            case KeyboardInterrupt():
                return cls.TERMINATED if signal.SIGTERM in error.args else cls.INTERRUPTED
            case _:
                return cls.UNEXPECTED


def advice(error: BaseException) -> str:
    """What went wrong and what to do, in the words of the command line's options."""
    match error:
        case BudgetExceeded(limit=limit, used=used, allowed=allowed):
            option = f"--{limit.replace('_', '-')}"
            return f"the budget is used up: {used:g} of {option} {allowed:g} used; raise {option}"
        case TurnsExhausted():
            return str(error).replace("max_iterations", "--max-iterations")
        case MissingKey():
            return str(error).replace(" or pass api_key=", "")
        case KeyboardInterrupt():
            return Exit.of(error).meaning
        case _ if Exit.of(error) is Exit.UNEXPECTED:
            return f"unexpected failure: {type(error).__name__}: {error} (RLM_DEBUG=1 shows where)"
        case _:
            return str(error)
