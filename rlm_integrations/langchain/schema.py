"""Schemas of LangChain's as types for answers, and answers as text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from langchain_core.utils.function_calling import convert_to_json_schema
from pydantic import AfterValidator, BaseModel, WithJsonSchema
from pydantic_core import to_json

from rlm_integrations.errors import InvalidInput

__all__ = ["answer_type", "as_text", "read"]


def answer_type(schema: Any) -> Any:
    """A pydantic class as it is; any other schema as a dict that has the schema's keys."""
    if _is_pydantic(schema):
        return schema
    try:
        described = convert_to_json_schema(schema)
    except (ValueError, TypeError) as error:
        raise InvalidInput(
            f"schema={schema!r}: pass a pydantic class, a TypedDict or a JSON schema with a title ({error})"
        ) from error
    return Annotated[
        dict[str, Any], AfterValidator(lambda value: _checked(value, described)), WithJsonSchema(described)
    ]


def as_text(answer: Any) -> str:
    """An answer as a message or a tool gives it: JSON where it is no ``str``."""
    return answer if isinstance(answer, str) else to_json(answer, serialize_unknown=True).decode()


def read(schema: Any, text: str) -> Any:
    """An answer as ``with_structured_output`` gives it: an instance of a pydantic class, else a dict."""
    if _is_pydantic(schema):
        return schema.model_validate_json(text)
    value = json.loads(text)
    # A class of pydantic 1.
    return schema.parse_obj(value) if isinstance(schema, type) and hasattr(schema, "parse_obj") else value


def _is_pydantic(schema: Any) -> bool:
    return isinstance(schema, type) and issubclass(schema, BaseModel)


def _checked(value: dict[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    lacking = [name for name in schema.get("required", []) if name not in value]
    if lacking:
        raise ValueError(f"the keys {', '.join(lacking)} are missing")
    known = schema.get("properties", {})
    strange = [name for name in value if name not in known]
    if strange and known and not schema.get("additionalProperties"):
        raise ValueError(f"the schema has no keys {', '.join(strange)}")
    return value
