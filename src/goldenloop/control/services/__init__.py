"""Services that people write by hand: InferenceService, InferenceGraph and TrainedModel, from their files to the routing table.

`reconciler` looks at all of them, `revisions` decides (pure), `examining` has models fetched and brought into a served form, `settings`
and `publication` make entries of the routing table, `status` says what KServe's clients read.
"""
