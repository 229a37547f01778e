"""What MLflow's REST API speaks, without I/O: its filter language, its limits, its numbers, its description of a model."""
