"""MLflow's REST API: what unmodified MLflow clients speak to a tracking server and a model registry."""
