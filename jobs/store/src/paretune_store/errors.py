"""What can go wrong while reading and writing, named after what cures it."""


class Unreadable(Exception):
    """The owner of the URI has to cure it; another attempt would end alike."""


class NetworkFault(Exception):
    """Another attempt may work."""


class NotThere(Exception):
    """The store has no such object.

    Attributes:
        name: of the object.
    """

    def __init__(self, name: str, uri: str = "") -> None:
        super().__init__(f"{uri}: there is no object {name!r}" if uri else f"there is no object {name!r}")
        self.name = name


class TooLarge(Exception):
    """The object has more bytes than the caller takes.

    Attributes:
        name: of the object.
    """

    def __init__(self, name: str, limit_bytes: int, size: int | None = None) -> None:
        found = f"{size:,} bytes" if size is not None else "more bytes"
        super().__init__(f"the object {name!r} has {found}; the limit is {limit_bytes:,}")
        self.name = name


class BadName(ValueError):
    """No name of an object; a fault of the caller."""


class Refused(Exception):
    """Access is denied or something is set wrong; another attempt would end alike.

    Attributes:
        uri: of the store or Secret.
        cure: what the owner can do about it.
    """

    def __init__(self, uri: str, cause: str, cure: str) -> None:
        super().__init__(f"{uri}: {cause}; {cure}")
        self.uri = uri
        self.cure = cure
