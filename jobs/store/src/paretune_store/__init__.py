"""Artifacts by digest, and reading from URIs."""
