"""``check_sandbox``: whether a sandbox keeps what the engine relies on."""

from __future__ import annotations

import traceback
from collections.abc import Collection

from rlm_integrations.ports import Sandbox
from rlm_integrations.testing.host import Broken, Host
from rlm_integrations.testing.promises import PROMISES

__all__ = ["SANDBOX_CHECKS", "check_sandbox"]

SANDBOX_CHECKS: tuple[str, ...] = tuple(PROMISES)
"""The names of all checks, for a test of each: ``parametrize("name", SANDBOX_CHECKS)``."""


def check_sandbox(
    sandbox: Sandbox,
    *,
    only: Collection[str] = SANDBOX_CHECKS,
    skip: Collection[str] = (),
    patience_s: float = 30,
) -> tuple[str, ...]:
    """The names of the checks that ``sandbox`` passed; all of them are run, blocking and in an event loop.

    Raises ``AssertionError`` naming every promise that is broken, with what was expected and what was seen. ``only``
    and ``skip`` are names out of ``SANDBOX_CHECKS``. A step that takes longer than ``patience_s`` is taken to hang.
    The sandbox should allow cells of 10 seconds, and is not closed.

    >>> def test_my_sandbox_keeps_its_promises():
    ...     check_sandbox(MySandbox())
    """
    if unknown := {*only, *skip} - {*SANDBOX_CHECKS}:
        raise ValueError(f"there are no checks {sorted(unknown)}: the checks are {', '.join(SANDBOX_CHECKS)}")
    names = [name for name in SANDBOX_CHECKS if name in only and name not in skip]
    broken = []
    for name in names:
        check, modes = PROMISES[name]
        for mode in modes:
            try:
                with Host(sandbox, mode, patience_s) as host:
                    check(host)
            except Broken as seen:
                broken.append(f"{name} ({mode}): {seen}")
            except Exception as error:
                at = traceback.extract_tb(error.__traceback__)[-1]
                broken.append(
                    f"{name} ({mode}): raised {type(error).__name__}: {error} (at {at.name}, line {at.lineno})"
                )
    if broken:
        raise AssertionError(
            f"{type(sandbox).__name__} breaks {len(broken)} promises of a sandbox:\n- " + "\n- ".join(broken)
        )
    return tuple(names)
