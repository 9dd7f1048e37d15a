"""Model and settings in, .tflite and metrics out."""
