"""Text from documents, models and their code, made fit to be shown: as text, never as orders to a terminal."""

from __future__ import annotations

from datetime import datetime

from rlm_integrations.sandbox.output import clean

__all__ = ["clock", "flat", "head", "shown", "tail"]

# These turn the order of what is shown around, so that it reads as something else than it is.
_BIDI = {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def shown(text: str) -> str:
    """``text`` with tabs as spaces, and everything a terminal would act on written out as escapes."""
    return clean(text).translate(_BIDI).expandtabs(4)


def flat(text: str, chars: int = 120) -> str:
    """``text`` on one line, cut to ``chars``."""
    line = " ".join(shown(text[: 4 * chars]).split())
    return line if len(line) <= chars and len(text) <= 4 * chars else f"{line[:chars]}…"


def head(text: str, lines: int | None, width: int | None = 200) -> str:
    """The first ``lines`` of ``text``, each up to ``width``, with notes of how much more there is; None is no limit."""
    every = shown(text).strip("\n").split("\n")
    kept = [_cut(line, width) for line in every[:lines]]
    if len(every) > len(kept):
        kept.append(f"… {len(every) - len(kept):,} more lines")
    return "\n".join(kept)


def tail(text: str, lines: int | None, width: int | None = 200) -> str:
    """The last ``lines`` of ``text``; None is no limit."""
    if lines is not None and width is not None:
        text = text[-lines * width :]
    every = shown(text).strip("\n").split("\n")
    return "\n".join(line if width is None else line[-width:] for line in every[-(lines or 0) :])


def clock(time: float) -> str:
    """The date and time of day here, of ``time`` in seconds since the epoch."""
    try:
        return f"{datetime.fromtimestamp(time):%Y-%m-%d %H:%M:%S}"
    except (OverflowError, ValueError, OSError):  # a saved run may say anything
        return "at an unknown time"


def _cut(line: str, width: int | None) -> str:
    if width is None or len(line) <= width:
        return line
    return f"{line[:width]}… {len(line) - width:,} more characters"
