"""Keeps keys out of what is told: of error texts, in which providers echo them, and of addresses."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

__all__ = ["keys_in", "without_credentials", "without_keys"]

ENDINGS = ("_KEY", "_TOKEN", "_SECRET", "_PASSWORD")
# In names of settings and headers.
WORDS = ("key", "token", "secret", "password", "credential", "authorization", "cookie")
# Shorter ones are stand-ins ("x", "any"), and words of the text may hold them.
MIN_CHARS = 8


def without_keys(text: str, keys: Iterable[str | None] = ()) -> str:
    """``text`` with ``[key]`` for each of ``keys``, and for each that the environment holds (``*_API_KEY``, ...)."""
    known = {value for name, value in os.environ.items() if name.upper().endswith(ENDINGS)}
    # Longest first, since one may stand in another.
    for key in sorted(known.union(key for key in keys if key), key=len, reverse=True):
        if len(key) >= MIN_CHARS:
            text = text.replace(key, "[key]")
    return text


def keys_in(settings: Mapping[str, Any]) -> Iterator[str]:
    """The values in a model's settings and headers that are keys by their names, and what addresses hold of keys."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from keys_in(value)
        elif isinstance(value, str) and "://" in value:
            yield from _keys_of(value)
        elif isinstance(value, str) and any(word in name.lower() for word in WORDS):
            yield value
            yield value.rpartition(" ")[2]  # "Bearer KEY"


def _keys_of(url: str) -> Iterator[str]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return
    for found in (parts.username, parts.password, *(value for _, value in parse_qsl(parts.query))):
        if found:
            yield found
            yield unquote(found)


def without_credentials(url: str) -> str:
    """``url`` without user, password, query and fragment, any of which may be a key."""
    try:
        parts = urlsplit(url)
    except ValueError:  # what can't be read can't be cleaned
        return ""
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
