"""The steps of the chain: each turns one .tflite into another and knows nothing of the rest."""
