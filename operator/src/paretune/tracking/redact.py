"""URIs as they may be shown: without user, password or signed query."""

import re

_AUTHORITY = re.compile(r"[^/?#]*")
_URI_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")
_QUERY_IN_TEXT = re.compile(r"(/[^\s?'\"<>]*)\?[^\s'\"<>]+")


def redact(uri: str) -> str:
    """`https://user:password@host/path?token=x` as `https://***@host/path?***`."""
    scheme, mark, rest = uri.partition("://")
    if not mark:
        return uri
    authority = _AUTHORITY.match(rest)
    host = authority[0] if authority else ""
    shown = f"***@{host.rpartition('@')[2]}" if "@" in host else host
    path, query, _ = rest[len(host) :].partition("?")
    return f"{scheme}{mark}{shown}{path}" + ("?***" if query else "")


def redact_text(text: str) -> str:
    """A sentence, such as an error message, with every URI in it redacted."""
    return _QUERY_IN_TEXT.sub(r"\1?***", _URI_IN_TEXT.sub(lambda match: redact(match[0]), text))
