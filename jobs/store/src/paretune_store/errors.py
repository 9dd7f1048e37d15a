"""What can go wrong while reading, before a URI is put to it."""


class Unreadable(Exception):
    """The owner of the URI has to cure it; another attempt would end alike."""


class NetworkFault(Exception):
    """Another attempt may work."""
