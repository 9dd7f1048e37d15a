"""What can go wrong while reading, before a URI is put to it."""


class Unreadable(Exception):  # noqa: N818 - reads as a sentence: the URI is unreadable
    """The owner of the URI has to cure it; another attempt would end alike."""


class NetworkFault(Exception):  # noqa: N818
    """Another attempt may work."""
