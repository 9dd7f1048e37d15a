"""The entropy-coded container .ptz for .tflite files: `pack` makes one, `unpack` gives the very file back."""

from paretune_codec.container import EFFORT, MAX_BYTES, MAX_DECISIONS, VERSION, pack, unpack
from paretune_codec.errors import CorruptPtz, NotPtz

__all__ = ["EFFORT", "MAX_BYTES", "MAX_DECISIONS", "VERSION", "CorruptPtz", "NotPtz", "pack", "unpack"]
