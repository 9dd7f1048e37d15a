"""Types shared by the custom resources, and marks for what only the cluster's schema says."""

import math
import re
from collections.abc import Callable
from typing import Annotated, Any

from paretune_contract import quantity
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

CRD = "x-crd"
"""Key in `json_schema_extra` whose entries overwrite the generated schema."""
NO_DEFAULTS = "x-no-defaults"
"""Entry of `CRD`: the cluster fills in no default here or below, so that what was said stays visible."""
RULES = "x-kubernetes-validations"

NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
OBJECT_NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
SECRET_PATTERN = r"^paretune-[a-z0-9]([-a-z0-9]*[a-z0-9])?$"  # noqa: S105 - a pattern, no secret
METRIC_PATTERN = r"^[A-Za-z][A-Za-z0-9_.-]*$"
RESOURCE_PATTERN = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"
TARGET_PATTERN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"

PATTERN_WORDS = {
    NAME_PATTERN: "lower-case letters, digits and '-', a letter or digit at both ends",
    OBJECT_NAME_PATTERN: "lower-case letters, digits, '-' and '.', a letter or digit at both ends",
    SECRET_PATTERN: "a name that begins with 'paretune-': a study can use no other Secret",
    METRIC_PATTERN: "a letter, then letters, digits, '_', '.' or '-'",
    TARGET_PATTERN: "lower-case letters, digits, '-' and '.', such as ethos-u55-128",
}
"""Patterns in plain words, for people."""

Name = Annotated[str, Field(min_length=1, max_length=63, pattern=NAME_PATTERN)]
ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=OBJECT_NAME_PATTERN)]
SecretName = Annotated[str, Field(min_length=1, max_length=253, pattern=SECRET_PATTERN)]
MetricName = Annotated[str, Field(min_length=1, max_length=63, pattern=METRIC_PATTERN)]
Target = Annotated[str, Field(min_length=1, max_length=63, pattern=TARGET_PATTERN)]


def rule(expression: str, message: str, field: str | None = None) -> dict[str, Any]:
    """A CEL rule as it stands in `x-kubernetes-validations`; `field` is where its fault is reported."""
    found = {"rule": expression, "message": message}
    return {**found, "fieldPath": field} if field else found


def rules(*found: dict[str, Any]) -> dict[str, Any]:
    """CEL rules of a model or field, as `json_schema_extra`."""
    return {RULES: list(found)}


def complaint(message: str) -> PydanticCustomError:
    """An error whose text is for people as it stands."""
    return PydanticCustomError("plain_words", "{message}", {"message": message})


def _quantity(parse: Callable[[int | str], float], example: str) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if isinstance(value, float):
            raise complaint(f'a number with a fraction is written as text here: "{value}" or {example}')
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise complaint(f"expected a whole number or text such as {example}")
        try:
            number = parse(value)
        except ValueError as error:
            raise complaint(f"expected {str(error).partition(' is not ')[2]}") from None
        if number <= 0:
            raise complaint("must be more than 0")
        return value

    return check


def _any_quantity(value: int | str) -> float:
    for parse in (quantity.seconds, quantity.size_bytes):
        try:
            return parse(value)
        except ValueError:
            continue
    raise ValueError(f'{value!r} is not a quantity: a whole number or a string such as 20ms, 64KiB, "0.02"')


def _resource_quantity(value: Any) -> Any:
    if isinstance(value, float):
        raise complaint(f'a number with a fraction is written as text here: "{value}" or 500m')
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise complaint("expected a whole number or text such as 500m, 2, 1Gi")
    if not re.fullmatch(RESOURCE_PATTERN, str(value)) or len(str(value)) > quantity.MAX_LENGTH:
        raise complaint("expected a Kubernetes quantity such as 500m, 2, 1Gi")
    return value


_MORE_THAN_0 = rule("type(self) == int || string(self).matches('[1-9]')", "must be more than 0")


def _int_or_string(pattern: str, minimum: int) -> WithJsonSchema:
    return WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "minimum": minimum,
            "maxLength": quantity.MAX_LENGTH,
            "pattern": pattern,
            **(rules(_MORE_THAN_0) if minimum > 0 else {}),
        }
    )


Duration = Annotated[
    int | str,
    BeforeValidator(_quantity(quantity.seconds, "20ms, 90s, 6h")),
    _int_or_string(quantity.DURATION_PATTERN, 1),
]
"""Whole seconds, or text such as `20ms` or `6h`; more than 0."""
Bound = Annotated[
    int | str,
    BeforeValidator(_quantity(_any_quantity, "20ms, 64KiB")),
    _int_or_string(quantity.QUANTITY_PATTERN, 1),
]
"""A bound on a metric in its unit: whole seconds or bytes, or text such as `20ms`, `64KiB`, `"0.02"`."""
ResourceQuantity = Annotated[
    int | str, BeforeValidator(_resource_quantity), _int_or_string(RESOURCE_PATTERN, 0)
]
"""A Kubernetes quantity: an integer or text such as `500m` or `1Gi`."""


def _number_or_list(value: Any) -> Any:
    numbers = list(value) if isinstance(value, list | tuple) else [value]
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            raise complaint("expected a number, or a list of numbers, one per channel")
    if not 1 <= len(numbers) <= 1024:
        raise complaint(f"expected 1 to 1024 numbers, one per channel; found {len(numbers)}")
    return tuple(float(n) for n in numbers) if isinstance(value, list | tuple) else float(value)


PerChannelNumber = Annotated[
    float | tuple[float, ...],
    BeforeValidator(_number_or_list),
    # A structural schema has no "number or list". Without a type, lengths that nothing has keep text and
    # maps out; what is in a list is checked when the data are read.
    WithJsonSchema(
        {
            "x-kubernetes-preserve-unknown-fields": True,
            "minItems": 1,
            "maxItems": 1024,
            "minLength": 1,
            "maxLength": 0,
            "minProperties": 1,
            "maxProperties": 0,
            "not": {"enum": [True, False]},
        }
    ),
]
"""A number, or one per channel."""


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    twice = sorted({str(v) for v in values if values.count(v) > 1})
    if twice:
        raise complaint(f"{', '.join(twice)} given twice")
    return values


Distinct = AfterValidator(_distinct)
"""Refuses a list that holds a value twice."""
