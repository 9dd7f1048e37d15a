"""Training with the TensorFlow Model Optimization toolkit (tfmot), on a Keras model made from the file."""
