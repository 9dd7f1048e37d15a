"""Pareto-optimal compression of TensorFlow models."""
