"""LiteLLM itself: imported when first used (it costs seconds), kept quiet and off the network."""

from __future__ import annotations

import asyncio
import importlib
import os
import threading
from concurrent.futures import Future
from typing import Any

__all__ = ["aload", "load"]

_lock = threading.Lock()
_loaded: Any = None
_loading: Future[Any] | None = None


def load() -> Any:
    """The ``litellm`` module; blocks for the import when it is the first to ask."""
    global _loaded
    if _loaded is None:
        # Without this, importing LiteLLM fetches a price map.
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        litellm = importlib.import_module("litellm")
        litellm.suppress_debug_info = True  # type: ignore[attr-defined]
        # Counting the tokens of a stream without usage would fetch a tokenizer for some models.
        litellm.disable_hf_tokenizer_download = True  # type: ignore[attr-defined]
        _loaded = litellm
    return _loaded


async def aload() -> Any:
    """The same, with the first import in a thread of its own, so that the event loop goes on."""
    global _loading
    if _loaded is not None:
        return _loaded
    with _lock:
        if _loading is None:
            _loading = Future()
            threading.Thread(target=_load_into, args=(_loading,), daemon=True, name="import-litellm").start()
    return await asyncio.shield(asyncio.wrap_future(_loading))


def _load_into(future: Future[Any]) -> None:
    try:
        future.set_result(load())
    except BaseException as error:
        future.set_exception(error)
