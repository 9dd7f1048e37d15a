"""Names of objects: deterministic, and never longer than the API server takes."""

import hashlib

OBJECT_LIMIT = 253
"""Characters of an object's name (DNS-1123 subdomain)."""
_DIGITS = 8


def fitting(name: str, limit: int) -> str:
    """The name, or its beginning and eight digits of its sha256 where it is too long."""
    if len(name) <= limit:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGITS]
    return f"{name[: limit - _DIGITS - 1].rstrip('-.')}-{digest}"


def trial_name(study: str, number: int) -> str:
    """Name of a trial's record."""
    return fitting(f"{study}-{number:04d}", OBJECT_LIMIT)
