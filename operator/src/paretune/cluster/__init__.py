"""Kubernetes as the place where stages run: the only API calls."""
