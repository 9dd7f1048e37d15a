"""MLflow, figures and the report."""
