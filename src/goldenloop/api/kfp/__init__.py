"""The Kubeflow Pipelines API, `v2beta1`: what an unmodified `kfp.Client` speaks."""
