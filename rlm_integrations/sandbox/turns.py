"""One step at a time: what the sessions of both sandboxes share."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from rlm_integrations.errors import SandboxError

__all__ = ["OneAtATime"]


class OneAtATime:
    """A session that takes a step from any thread, but one at a time, and none once it is closed."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._busy = self._closed = False

    def _drop(self) -> None:
        """Let go of the worker."""
        raise NotImplementedError

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise SandboxError("the session is closed")
            if self._busy:
                raise SandboxError("the session is busy with another step")
            self._busy = True
        try:
            yield
        except BaseException:
            # A cancelled or failed step leaves a worker in the middle of something.
            self._closed = True
            raise
        finally:
            with self._lock:
                self._busy = False
                if self._closed:
                    self._drop()
