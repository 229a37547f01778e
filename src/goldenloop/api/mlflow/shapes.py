"""Runs, metrics and logged models as MLflow's messages have them."""

from __future__ import annotations

from goldenloop.api.mlflow.calls import Answer, key_values
from goldenloop.standards.mlflow.limits import write_number
from goldenloop.tracking.experiments import Experiment
from goldenloop.tracking.inputs import INPUT, DatasetInput, RunModel
from goldenloop.tracking.logged import LoggedModel
from goldenloop.tracking.runs import Run, RunInfo
from goldenloop.tracking.values import Metric


def experiment_shape(experiment: Experiment) -> Answer:
    """An experiment."""
    return {
        "experiment_id": str(experiment.id),
        "name": experiment.name,
        "artifact_location": experiment.artifact_location,
        "lifecycle_stage": experiment.lifecycle,
        "creation_time": experiment.created_ms,
        "last_update_time": experiment.updated_ms,
        "tags": key_values(experiment.tags),
    }


def info_shape(info: RunInfo) -> Answer:
    """A run without its values."""
    shown: Answer = {
        "run_id": info.id,
        "run_uuid": info.id,
        "run_name": info.name,
        "experiment_id": str(info.experiment_id),
        "user_id": info.user,
        "status": info.status,
        "start_time": info.start_ms,
        "artifact_uri": info.artifact_uri,
        "lifecycle_stage": info.lifecycle,
    }
    if info.end_ms is not None:
        shown["end_time"] = info.end_ms
    return shown


def metric_shape(metric: Metric) -> Answer:
    """One value of a metric."""
    return {
        "key": metric.key,
        "value": write_number(metric.value),
        "timestamp": metric.timestamp_ms,
        "step": metric.step,
    }


def run_shape(run: Run, inputs: list[DatasetInput], models: list[RunModel]) -> Answer:
    """A run with its values, and what it read and made."""
    read = [{"model_id": each.model_id} for each in models if each.direction == INPUT]
    made = [{"model_id": each.model_id, "step": each.step} for each in models if each.direction != INPUT]
    shown: Answer = {
        "info": info_shape(run.info),
        "data": {
            "metrics": [metric_shape(metric) for metric in run.metrics],
            "params": key_values(run.params),
            "tags": key_values(run.tags),
        },
        "inputs": {"dataset_inputs": [_input_shape(each) for each in inputs], "model_inputs": read},
    }
    if made:
        shown["outputs"] = {"model_outputs": made}
    return shown


def logged_model_shape(model: LoggedModel) -> Answer:
    """A logged model."""
    info = model.info
    return {
        "info": {
            "model_id": info.id,
            "experiment_id": str(info.experiment_id),
            "name": info.name,
            "creation_timestamp_ms": info.created_ms,
            "last_updated_timestamp_ms": info.updated_ms,
            "artifact_uri": info.artifact_uri,
            "status": info.status,
            "status_message": info.status_message,
            "model_type": info.model_type,
            "source_run_id": info.source_run_id or "",
            "tags": key_values(model.tags),
            "registrations": [{"name": name, "version": str(number)} for name, number in model.registrations],
        },
        "data": {
            "params": key_values(model.params),
            "metrics": [
                {
                    **metric_shape(each.metric),
                    "model_id": info.id,
                    "run_id": each.run_id,
                    "dataset_name": each.metric.dataset_name,
                    "dataset_digest": each.metric.dataset_digest,
                }
                for each in model.metrics
            ],
        },
    }


def _input_shape(given: DatasetInput) -> Answer:
    dataset = given.dataset
    return {
        "dataset": {
            "name": dataset.name,
            "digest": dataset.digest,
            "source_type": dataset.source_type,
            "source": dataset.source,
            "schema": dataset.schema,
            "profile": dataset.profile,
        },
        "tags": key_values(given.tags),
    }
