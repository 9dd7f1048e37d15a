"""How documents are written: camelCase outside, snake_case inside, unknown fields refused."""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel


def _clip(limit: int) -> Callable[[Any], Any]:
    return lambda value: value[: limit - 1] + "…" if isinstance(value, str) and len(value) > limit else value


Line = Annotated[str, BeforeValidator(_clip(256)), Field(max_length=256)]
"""What a machine or a library says of itself. Clipped, not refused: a long name must not fail a trial."""
Sentence = Annotated[str, BeforeValidator(_clip(2048)), Field(max_length=2048)]
"""A sentence for people; clipped as well."""


class Document(BaseModel):
    """Base of everything that crosses a process boundary."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        ser_json_inf_nan="null",
        allow_inf_nan=False,
    )


class TolerantDocument(Document):
    """A document that a newer writer may have extended: unknown fields are left unread."""

    model_config = ConfigDict(extra="ignore")
