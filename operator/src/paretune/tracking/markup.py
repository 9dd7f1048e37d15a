"""HTML in which every text is escaped unless it was made here: names of models and studies are strangers'."""

from html import escape

VOID = frozenset({"meta", "img", "br", "hr", "link", "source", "input"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Content = Markup | str | int | None


def tag(name: str, /, *children: Content, **attributes: str | int | None) -> Markup:
    """An element; children that are plain text are escaped, attributes always are.

    A trailing underscore is dropped from attribute names (`class_`), other underscores become hyphens;
    attributes that are None are left out.
    """
    attrs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Markup(f"<{name}{attrs}>")
    return Markup(f"<{name}{attrs}>{join(*children)}</{name}>")


def join(*children: Content) -> Markup:
    """Children one after another."""
    return Markup(
        "".join(
            child if isinstance(child, Markup) else escape(str(child))
            for child in children
            if child is not None
        )
    )


def raw(text: str) -> Markup:
    """Vouch for text that is markup, style or script of our own."""
    return Markup(text)
