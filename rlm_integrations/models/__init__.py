"""Models for those who bring no framework of their own: any provider, through LiteLLM."""

from rlm_integrations.models.litellm import LiteLLMModel

__all__ = ["LiteLLMModel"]
