"""What can be wrong with a container, and the one reason why a file is not taken apart."""


class CorruptPtz(ValueError):
    """The container cannot be unpacked: damaged, truncated, or beyond the limits that the caller set."""


class NotPtz(CorruptPtz):
    """The bytes are no container at all, or one of a version that this software does not know."""


class Unmodelled(Exception):
    """The .tflite is built in a way that the native method does not describe; it is stored with zstd."""
