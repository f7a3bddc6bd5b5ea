"""Writes a run to a file while it goes on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TextIO

from rlm_integrations.context import Context
from rlm_integrations.errors import InvalidInput
from rlm_integrations.events import Event, TextDelta
from rlm_integrations.trajectory import event_json, write_header

__all__ = ["Saver"]


class Saver:
    """An observer that writes each event to ``path`` at once, as ``Trajectory.save`` does.

    What ``path`` held before is kept until the first event. ``error`` is what stopped the writing, if anything did.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.error: OSError | None = None
        self._file: TextIO | None = None

    def check(self, context: Context) -> None:
        """Raise ``InvalidInput`` where the file can't be written, or is one of the documents in ``context``."""
        try:
            Path(self.path).open("a").close()
        except OSError as error:
            raise InvalidInput(f"--save {self.path!r} can't be written: {error.strerror or error}") from error
        for document in context.value:
            source = getattr(document, "metadata", {}).get("path")
            if source and os.path.samefile(self.path, source):
                raise InvalidInput(f"--save {self.path!r} would overwrite one of the documents: name another file")

    def __call__(self, event: Event) -> None:
        if isinstance(event, TextDelta) or self.error:
            return
        try:
            if self._file is None:
                self._file = Path(self.path).open("w", encoding="utf-8")  # noqa: SIM115 (closed by __exit__)
                write_header(self._file)
            self._file.write(event_json(event) + "\n")
            self._file.flush()
        except OSError as error:
            self.error = error

    def __enter__(self) -> Saver:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if self._file:
                self._file.close()
        except OSError as failure:  # what could not be written before
            self.error = self.error or failure
