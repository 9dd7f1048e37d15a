"""Intake: any source model becomes one float .tflite, any data set a folder of arrays; hostile files end here."""

from .stage import intake

__all__ = ["intake"]
