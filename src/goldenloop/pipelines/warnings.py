"""What a pipeline asks for that has no counterpart on one machine, said once for each run before it starts."""

from __future__ import annotations

from goldenloop.standards.kubernetes_platform import KubernetesPlatform
from goldenloop.standards.pipeline_ir import Pipeline


def warnings_of(pipeline: Pipeline, platform: KubernetesPlatform) -> list[str]:
    """Sentences for a person, each with the component that it is about."""
    said = [f"the settings for the platform {name!r} are not read" for name in platform.others]
    for component in pipeline.components.values():
        settings = platform.executors.get(component.executor)
        if settings is None:
            continue
        said += [
            f"{component.name}: {feature} are for a cluster and have no effect here"
            for feature in settings.not_honoured
        ]
        if settings.fields:
            said.append(
                f"{component.name}: of what a pod can tell, its name, namespace, labels and annotations are given here"
            )
    return said
