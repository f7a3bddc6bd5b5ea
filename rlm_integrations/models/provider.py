"""What LiteLLM knows of a model's provider without asking it: its keys, prices, window and prompt cache."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from rlm_integrations.errors import MissingKey, ModelNotFound

__all__ = ["NAMING", "Provider"]

logger = logging.getLogger(__name__)

NAMING = (
    "name the provider and the model: 'openai/gpt-5-mini', 'anthropic/claude-sonnet-4-5', 'ollama/llama3'; "
    "for a server that speaks OpenAI's protocol, 'openai/' and its own name for the model, with api_base="
)

# Sent to servers that ask for no key: the openai client does not start without one.
NO_KEY = "no-key"

# The environment variables LiteLLM reads a key from, the usual one first. Only providers where one of these must be
# set: others also sign in by profiles, roles and tokens, so that a missing variable proves nothing.
KEY_VARIABLES = {
    "anthropic": (
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "ANTHROPIC_IDENTITY_TOKEN",
        "ANTHROPIC_IDENTITY_TOKEN_FILE",
    ),
    "cerebras": ("CEREBRAS_API_KEY",),
    "cohere": ("COHERE_API_KEY", "CO_API_KEY"),
    "cohere_chat": ("COHERE_API_KEY", "CO_API_KEY"),
    "deepseek": ("DEEPSEEK_API_KEY",),
    "fireworks_ai": ("FIREWORKS_API_KEY", "FIREWORKS_AI_API_KEY", "FIREWORKSAI_API_KEY", "FIREWORKS_AI_TOKEN"),
    "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    "groq": ("GROQ_API_KEY",),
    "mistral": ("MISTRAL_API_KEY", "MISTRAL_AZURE_API_KEY"),
    "openai": ("OPENAI_API_KEY",),
    "openrouter": ("OPENROUTER_API_KEY", "OR_API_KEY"),
    "perplexity": ("PERPLEXITY_API_KEY", "PERPLEXITYAI_API_KEY"),
    "together_ai": ("TOGETHERAI_API_KEY", "TOGETHER_API_KEY", "TOGETHER_AI_API_KEY", "TOGETHER_AI_TOKEN"),
}


class Provider:
    """The provider LiteLLM will turn to for ``model``; ``ModelNotFound`` where it knows none."""

    def __init__(self, litellm: Any, model: str, options: Mapping[str, Any]) -> None:
        try:
            _, name, _, _ = litellm.get_llm_provider(
                model, custom_llm_provider=options.get("custom_llm_provider"), api_base=options.get("api_base")
            )
        except litellm.exceptions.BadRequestError as error:
            raise ModelNotFound(f"{model}: LiteLLM knows no provider for this name ({NAMING})", model=model) from error
        self.name = str(name)
        self.key_variables = KEY_VARIABLES.get(self.name, ())
        self._litellm, self._model = litellm, model
        self._info = _info(litellm, model, self.name)

    @property
    def key_variable(self) -> str:
        """The environment variable the key is usually kept in."""
        return self.key_variables[0] if self.key_variables else f"{self.name.upper()}_API_KEY"

    @property
    def window_tokens(self) -> int | None:
        """The size of the model's context window, where the price map says it."""
        return self._info.get("max_input_tokens") or self._info.get("max_tokens")

    @property
    def has_price(self) -> bool:
        """Whether a call's price can be told: from the price map, or by a provider that bills it itself."""
        return bool(self._info) or self.name == "openrouter"

    @property
    def wants_cache_marks(self) -> bool:
        """Whether the model keeps in its prompt cache only what is marked, as Anthropic's do."""
        return self.name == "anthropic" or (
            "claude" in self._model.lower() and bool(self._info.get("supports_prompt_caching"))
        )

    def key(self, api_base: str | None) -> str | None:
        """The key to send where the caller gave none; None: LiteLLM finds it by itself. ``MissingKey`` if it can't."""
        litellm, prefix = self._litellm, self.name.upper()
        set_in_code = litellm.api_key or getattr(litellm, f"{self.name}_key", None) or litellm.secret_manager_client
        if not self.key_variables or set_in_code or any(os.environ.get(name) for name in self.key_variables):
            return None
        if api_base or litellm.api_base or any(os.environ.get(f"{prefix}_{end}") for end in ("API_BASE", "BASE_URL")):
            return NO_KEY
        raise MissingKey(
            f"{self._model}: no API key for {self.name}: set {self.key_variable} or pass api_key=", model=self._model
        )

    def cost_usd(self, usage: Any) -> float | None:
        """The price of a call; None where neither the provider nor the price map says it."""
        billed = getattr(usage, "cost", None)  # OpenRouter says it itself
        if isinstance(billed, int | float):
            return float(billed)
        if not self._info:
            return None
        try:
            parts = self._litellm.cost_per_token(self._model, custom_llm_provider=self.name, usage_object=usage)
        except self._litellm.exceptions.ModelNotMappedError:
            return None
        except Exception:
            # A reply already paid for is not lost to a gap in the price map.
            logger.warning("no cost could be worked out for %s", self._model, exc_info=True)
            return None
        entry = self._litellm.model_cost.get(self._info.get("key"), {})
        # LiteLLM takes a price it does not know for 0.
        return float(sum(parts)) if any(parts) or "input_cost_per_token" in entry else None


def _info(litellm: Any, model: str, provider: str) -> Mapping[str, Any]:
    if provider in ("ollama", "ollama_chat") and model not in litellm.model_cost:
        return {}  # LiteLLM would ask the Ollama server.
    try:
        info: Mapping[str, Any] = litellm.get_model_info(model, custom_llm_provider=provider)
    except litellm.exceptions.ModelNotMappedError:
        return {}
    return info
