"""What went wrong with a call to LiteLLM, in this package's types and the provider's own words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from rlm_integrations.engine.secrets import without_credentials, without_keys
from rlm_integrations.errors import (
    MissingKey,
    ModelError,
    ModelNotFound,
    ModelTimeout,
    ModelUnavailable,
    RateLimited,
    WindowExceeded,
)
from rlm_integrations.models.provider import NAMING

__all__ = ["headers_of", "is_foreign", "kind_of", "may_pass", "refused_parameter", "translate"]

# By name, so that no provider's package needs to be there; the first that an error's classes match tells its kind.
KINDS: Sequence[tuple[str, type[ModelError]]] = (
    ("ContextOverflowError", WindowExceeded),
    ("RateLimitError", RateLimited),
    ("AuthenticationError", MissingKey),
    ("PermissionDeniedError", MissingKey),
    ("NotFoundError", ModelNotFound),
    ("TimeoutError", ModelTimeout),
    ("Timeout", ModelTimeout),
    ("ConnectionError", ModelUnavailable),
    ("ConnectError", ModelUnavailable),
    ("InternalServerError", ModelUnavailable),
)

# What LiteLLM puts before the provider's words: "litellm.BadRequestError: OpenAIException - ".
_PREFIX = re.compile(r"\A(?:(?:litellm\.)?\w*(?:Error|Timeout)(?: Error)?: )*(?:\w+(?:Exception|Error) - )?")
_SUFFIX = re.compile(r"\.? (?:Error_str: |- timeout value=).*\Z", re.DOTALL)

_WINDOW = re.compile(r"context.{0,12}(length|window|size)|(prompt|input) is too long|too many tokens", re.IGNORECASE)
_KEY = re.compile(
    r"api[ _-]?key.{0,20}(invalid|not valid|expired|missing)|(invalid|incorrect|no) api[ _-]?key", re.IGNORECASE
)
_MODEL = re.compile(r"model_not_found|LLM Provider NOT provided|model.{0,60}(not found|not exist)", re.IGNORECASE)
_NOT_TAKEN = re.compile(r"unsupported|(not|n't) support|unrecognized|unknown|deprecated|not permitted", re.IGNORECASE)
_NO_QUOTA = re.compile(r"insufficient_quota|current quota", re.IGNORECASE)


def is_foreign(error: Exception) -> bool:
    """Whether ``error`` came out of LiteLLM or what it stands on, so that it is to be translated."""
    roots = {type_.__module__.partition(".")[0] for type_ in type(error).__mro__}
    return bool(roots & {"openai", "litellm", "httpx", "aiohttp"}) or isinstance(error, OSError | ImportError)


def translate(
    error: Exception, model: str, *, key_variable: str, api_base: str | None, secrets: Iterable[str | None]
) -> ModelError:
    """The ``ModelError`` that says what the provider said and what to do about it, with ``secrets`` blotted out."""
    said = _said(error)
    kind, advice = _judge(_innermost(error), said, key_variable, api_base)
    text = f"{model}: {said}" + (f" ({advice})" if advice else "")
    return kind(without_keys(text, secrets), model=model)


def kind_of(error: Exception) -> type[ModelError] | None:
    """What went wrong with a call through any library, by its error's classes and status; None where nothing tells."""
    names = [type_.__name__ for type_ in type(error).__mro__]
    named = next((kind for suffix, kind in KINDS if any(name.endswith(suffix) for name in names)), None)
    if named:
        return named
    judged = type(translate(error, "", key_variable="", api_base=None, secrets=()))
    return None if judged is ModelError else judged


def may_pass(failure: ModelError) -> bool:
    """Whether the same call may succeed a little later."""
    if isinstance(failure, RateLimited):
        return not _NO_QUOTA.search(str(failure))
    return isinstance(failure, ModelTimeout | ModelUnavailable)


def headers_of(error: Exception) -> Mapping[str, str]:
    """The headers of the response behind ``error``, names in lower case; empty where there was no response."""
    error = _innermost(error)
    found: dict[str, str] = {}
    for headers in (
        getattr(error, "litellm_response_headers", None),
        getattr(getattr(error, "response", None), "headers", None),
    ):
        found |= {name.lower(): value for name, value in (headers or {}).items()}
    return found


def refused_parameter(error: Exception, sent: Iterable[str]) -> str | None:
    """The one of the parameters ``sent`` which the provider says, with a 400, that this model does not take.

    Or which a client says that its function has no argument for.
    """
    said = _said(error)
    if isinstance(error, TypeError):
        return next((name for name in sent if f"keyword argument '{name}'" in said), None)
    if getattr(error, "status_code", None) != 400 or not _NOT_TAKEN.search(said):
        return None
    return next((name for name in sent if re.search(rf"\b{name}\b", said)), None)


def _judge(error: Exception, said: str, key_variable: str, api_base: str | None) -> tuple[type[ModelError], str]:
    status = getattr(error, "status_code", None) or 0
    kinds = {type_.__name__ for type_ in type(error).__mro__}
    if "ContextWindowExceededError" in kinds or (status in (400, 413) and _WINDOW.search(said)):
        return WindowExceeded, "send less text in one call"
    if status in (401, 403) or (status == 400 and _KEY.search(said)):
        return MissingKey, f"set {key_variable} or pass api_key="
    if status == 404 or (status == 400 and _MODEL.search(said)):
        return (
            ModelNotFound,
            NAMING if api_base is None else f"check the model's name, and api_base={without_credentials(api_base)}",
        )
    if status == 429:
        return RateLimited, "wait, ask the provider for a higher limit, or make fewer calls at once"
    if status in (408, 504) or isinstance(error, TimeoutError) or kinds & {"APITimeoutError", "TimeoutException"}:
        return ModelTimeout, "raise timeout= if the model needs longer"
    if isinstance(error, ImportError):
        return ModelError, "install what LiteLLM needs for this provider"
    if status >= 500 or isinstance(error, OSError) or kinds & {"APIConnectionError", "HTTPError", "ClientError"}:
        where = "the provider" if api_base is None else f"the server at {without_credentials(api_base)}"
        return ModelUnavailable, f"see whether {where} is up and can be reached"
    return ModelError, ""


def _said(error: Exception) -> str:
    error = _innermost(error)
    text = str(getattr(error, "message", None) or error)
    text = _SUFFIX.sub("", _PREFIX.sub("", text)).strip()
    if not text:
        return "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
    return _message_in_json(text) or text


def _message_in_json(text: str) -> str | None:
    """The provider's message, where LiteLLM hands on the whole body of its response."""
    try:
        body, _ = json.JSONDecoder().raw_decode(text[text.index("{") :])
        message = body["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return None
    return str(message)


def _innermost(error: Exception) -> Exception:
    # An error in the middle of a stream comes wrapped for LiteLLM's router.
    inner = getattr(error, "original_exception", None)
    return inner if isinstance(inner, Exception) else error
