"""Text from documents, models and their code, made fit to be shown: as text, never as orders to a terminal."""

from __future__ import annotations

from rlm_integrations.sandbox.output import clean

__all__ = ["flat", "head", "shown", "tail"]

# These turn the order of what is shown around, so that it reads as something else than it is.
_BIDI = {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def shown(text: str) -> str:
    """``text`` with tabs as spaces, and everything a terminal would act on written out as escapes."""
    return clean(text).translate(_BIDI).expandtabs(4)


def flat(text: str, chars: int = 120) -> str:
    """``text`` on one line, cut to ``chars``."""
    line = " ".join(shown(text[: 4 * chars]).split())
    return line if len(line) <= chars and len(text) <= 4 * chars else f"{line[:chars]}…"


def head(text: str, lines: int, width: int = 200) -> str:
    """The first ``lines`` of ``text``, with a note of how many more there are."""
    every = shown(text).strip("\n").split("\n")
    kept = [line if len(line) <= width else f"{line[:width]}…" for line in every[:lines]]
    if len(every) > lines:
        kept.append(f"… {len(every) - lines:,} more lines")
    return "\n".join(kept)


def tail(text: str, lines: int, width: int = 200) -> str:
    """The last ``lines`` of ``text``."""
    every = shown(text[-lines * width :]).strip("\n").split("\n")
    return "\n".join(line[-width:] for line in every[-lines:])
