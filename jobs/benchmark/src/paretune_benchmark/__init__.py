"""LiteRT alone: a .tflite in, its measurements out."""
