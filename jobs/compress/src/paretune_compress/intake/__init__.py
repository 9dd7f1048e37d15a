"""Intake: any source model becomes one float .tflite, any data set a folder of arrays.

Hostile files end here, with an error that names the URI and the cause. Parsers and converters are native code
that may crash, so intake runs in a process of its own.
"""

from .stage import intake_stage as intake

__all__ = ["intake"]
