"""Kubeflow's Model Registry API, `v1alpha3` and `v1`: what its unmodified Python client speaks.

Registered models and versions are those of MLflow's registry: what one client registers, the other finds.
"""
