"""The intermediate representation of Kubeflow Pipelines (`PipelineSpec`, schema 2.1.0), read into frozen records.

A pipeline is a tree of scopes: a `Scope` holds tasks, a task names a `Component`, and a component is a container to
run, an artifact to import, or a scope of its own. A `Binding` says where the value of an input comes from, seen from
the scope in which the task stands. What is wrong is refused while reading, with its place, so that nothing starts that
could not end.
"""

from goldenloop.standards.pipeline_ir.checking import in_order, waits_for
from goldenloop.standards.pipeline_ir.reading import Documents, read_documents, read_pipeline
from goldenloop.standards.pipeline_ir.records import (
    FINAL_STATUS,
    TASK_CONFIG,
    ArtifactBinding,
    ArtifactSpec,
    Component,
    Constant,
    Container,
    FinalStatusOf,
    FromScope,
    FromTask,
    Importer,
    Loop,
    OneOf,
    Output,
    ParameterBinding,
    ParameterSpec,
    ParameterType,
    Pipeline,
    ResourceSpec,
    RetryPolicy,
    Scope,
    Task,
)
from goldenloop.standards.pipeline_ir.values import as_kind, exact, fits

__all__ = [
    "FINAL_STATUS",
    "TASK_CONFIG",
    "ArtifactBinding",
    "ArtifactSpec",
    "Component",
    "Constant",
    "Container",
    "Documents",
    "FinalStatusOf",
    "FromScope",
    "FromTask",
    "Importer",
    "Loop",
    "OneOf",
    "Output",
    "ParameterBinding",
    "ParameterSpec",
    "ParameterType",
    "Pipeline",
    "ResourceSpec",
    "RetryPolicy",
    "Scope",
    "Task",
    "as_kind",
    "exact",
    "fits",
    "in_order",
    "read_documents",
    "read_pipeline",
    "waits_for",
]
