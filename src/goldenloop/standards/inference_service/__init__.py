"""KServe's resources, group `serving.kserve.io`: InferenceService (v1beta1), InferenceGraph and TrainedModel (v1alpha1).

A cluster's file is accepted as it is. `records` has what is acted on, `fields` names everything else that KServe knows, `sources` says
where a component's model comes from, `graph` and `trained_model` are the other two kinds.
"""
