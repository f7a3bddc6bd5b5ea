"""The kind of answer a run is asked for, and the check of values against it."""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import TypeAdapter

from rlm_integrations.engine.reply import spoken
from rlm_integrations.errors import InvalidInput

__all__ = ["AnswerType"]

MAX_SCHEMA_CHARS = 2_000


class AnswerType:
    """``str``, or any type pydantic can validate. ``Any`` takes whatever JSON value model code gave."""

    def __init__(self, type: Any = str) -> None:
        self.type = type
        # At once, so that a type that can't be validated or described is refused before any model call.
        self.description = "" if type is str else self._described()

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        # pydantic takes longer to import than all of this package, and most runs ask for text.
        from pydantic import TypeAdapter

        return TypeAdapter(self.type)

    def _described(self) -> str:
        """The type in words for the model; empty where any value will do."""
        from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError

        try:
            schema = json.dumps(self._adapter.json_schema())
        except (PydanticUserError, PydanticUndefinedAnnotation) as error:
            message = f"output_type={self.type!r} is not a type pydantic can validate: {error}"
            raise InvalidInput(message) from error
        if self.type is Any:
            return ""
        if len(schema) <= MAX_SCHEMA_CHARS:
            return f"a value (number, str, list, dict) of this JSON schema: {schema}"
        return f"a value (number, str, list, dict) of the type {self.type}"

    def validate(self, value: Any) -> Any:
        """``value`` as an answer; ``ValueError`` with a reason the model can act on."""
        if self.type is not str:
            return self._validated(value)
        if value is None or value == "" or (isinstance(value, str) and not value.strip()):
            raise ValueError("the value is empty")
        if isinstance(value, str):
            return str(value)
        return json.dumps(value, ensure_ascii=False)

    def parse(self, text: str) -> Any:
        """An answer given as text instead of as a value; ``ValueError`` where it is not one."""
        text = spoken(text).strip()
        if text.startswith("```"):
            text = text.partition("\n")[2].removesuffix("```").strip()
        if self.type is str:
            return self.validate(text)
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        return self._validated(value)

    def _validated(self, value: Any) -> Any:
        from pydantic import ValidationError

        try:
            # As JSON, so that a strict model too takes dates as text and tuples as lists.
            return self._adapter.validate_json(json.dumps(value))
        except ValidationError as error:
            problems = [
                f"{'.'.join(map(str, item['loc'])) or 'value'}: {item['msg']}"
                for item in error.errors(include_url=False, include_context=False, include_input=False)
            ]
            raise ValueError("; ".join(problems[:10])) from error
