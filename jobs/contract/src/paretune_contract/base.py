"""How documents are written: camelCase outside, snake_case inside, unknown fields refused."""

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


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
