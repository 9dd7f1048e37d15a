"""The computation inside a float .tflite: what it is made of, and as a TensorFlow function."""

from .description import GraphDescription, describe

__all__ = ["GraphDescription", "describe"]
