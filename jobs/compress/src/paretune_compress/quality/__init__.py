"""How good a finished .tflite is: metrics, and the evaluation that feeds them."""
