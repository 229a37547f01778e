"""The messages of the Open Inference Protocol's gRPC form, with the extensions of Triton Inference Server.

Two dialects share the package `inference` and most of its numbers. Where they differ, a message here has the fields of both: KServe's
`RepositoryModelLoadRequest` has the model's name where Triton's has the repository's, and its answers say something. Of the model
configuration the part that we have something to say about is here; a client's own description reads the rest as not set.
"""

from __future__ import annotations

from goldenloop.standards.protobuf import Messages, Rpc

_SETTINGS = (
    "1 bool_param|parameter_choice bool",
    "2 uint32_param|parameter_choice uint32",
    "3 string_param|parameter_choice string",
)
_CHOICES = (
    "1 bool_param|parameter_choice bool",
    "2 int64_param|parameter_choice int64",
    "3 string_param|parameter_choice string",
)
_NAME_AND_VERSION = ("1 name string", "2 version string")
_TENSOR = (
    "1 name string",
    "2 datatype string",
    "3 shape int64*",
    "4 parameters <InferParameter>",
    "5 contents InferTensorContents",
)

_MESSAGES: dict[str, tuple[str, ...]] = {
    "ServerLiveRequest": (),
    "ServerLiveResponse": ("1 live bool",),
    "ServerReadyRequest": (),
    "ServerReadyResponse": ("1 ready bool",),
    "ModelReadyRequest": _NAME_AND_VERSION,
    "ModelReadyResponse": ("1 ready bool",),
    "ServerMetadataRequest": (),
    "ServerMetadataResponse": ("1 name string", "2 version string", "3 extensions string*"),
    "ModelMetadataRequest": _NAME_AND_VERSION,
    "ModelMetadataResponse": (
        "1 name string",
        "2 versions string*",
        "3 platform string",
        "4 inputs ModelMetadataResponse.TensorMetadata*",
        "5 outputs ModelMetadataResponse.TensorMetadata*",
    ),
    "ModelMetadataResponse.TensorMetadata": ("1 name string", "2 datatype string", "3 shape int64*"),
    "InferParameter": (*_CHOICES, "4 double_param|parameter_choice double", "5 uint64_param|parameter_choice uint64"),
    "InferTensorContents": (
        "1 bool_contents bool*",
        "2 int_contents int32*",
        "3 int64_contents int64*",
        "4 uint_contents uint32*",
        "5 uint64_contents uint64*",
        "6 fp32_contents float*",
        "7 fp64_contents double*",
        "8 bytes_contents bytes*",
    ),
    "ModelInferRequest": (
        "1 model_name string",
        "2 model_version string",
        "3 id string",
        "4 parameters <InferParameter>",
        "5 inputs ModelInferRequest.InferInputTensor*",
        "6 outputs ModelInferRequest.InferRequestedOutputTensor*",
        "7 raw_input_contents bytes*",
    ),
    "ModelInferRequest.InferInputTensor": _TENSOR,
    "ModelInferRequest.InferRequestedOutputTensor": ("1 name string", "2 parameters <InferParameter>"),
    "ModelInferResponse": (
        "1 model_name string",
        "2 model_version string",
        "3 id string",
        "4 parameters <InferParameter>",
        "5 outputs ModelInferResponse.InferOutputTensor*",
        "6 raw_output_contents bytes*",
    ),
    "ModelInferResponse.InferOutputTensor": _TENSOR,
    "ModelStreamInferResponse": ("1 error_message string", "2 infer_response ModelInferResponse"),
    "ModelConfigRequest": _NAME_AND_VERSION,
    "ModelConfigResponse": ("1 config ModelConfig",),
    "ModelConfig": (
        "1 name string",
        "2 platform string",
        "3 version_policy ModelVersionPolicy",
        "4 max_batch_size int32",
        "5 input ModelInput*",
        "6 output ModelOutput*",
        "7 instance_group ModelInstanceGroup*",
        "8 default_model_filename string",
        "11 dynamic_batching|scheduling_choice ModelDynamicBatching",
        "14 parameters <ModelParameter>",
        "17 backend string",
    ),
    "ModelVersionPolicy": ("3 specific|policy_choice ModelVersionPolicy.Specific",),
    "ModelVersionPolicy.Specific": ("1 versions int64*",),
    "ModelInput": ("1 name string", "2 data_type DataType", "4 dims int64*", "8 optional bool"),
    "ModelOutput": ("1 name string", "2 data_type DataType", "3 dims int64*", "4 label_filename string"),
    "ModelInstanceGroup": ("1 name string", "2 count int32", "4 kind ModelInstanceGroupKind"),
    "ModelDynamicBatching": ("1 preferred_batch_size int32*", "2 max_queue_delay_microseconds uint64"),
    "ModelParameter": ("1 string_value string",),
    "ModelStatisticsRequest": _NAME_AND_VERSION,
    "ModelStatisticsResponse": ("1 model_stats ModelStatistics*",),
    "ModelStatistics": (
        "1 name string",
        "2 version string",
        "3 last_inference uint64",
        "4 inference_count uint64",
        "5 execution_count uint64",
        "6 inference_stats InferStatistics",
        "7 batch_stats InferBatchStatistics*",
    ),
    "InferStatistics": (
        "1 success StatisticDuration",
        "2 fail StatisticDuration",
        "3 queue StatisticDuration",
        "4 compute_input StatisticDuration",
        "5 compute_infer StatisticDuration",
        "6 compute_output StatisticDuration",
        "7 cache_hit StatisticDuration",
        "8 cache_miss StatisticDuration",
    ),
    "InferBatchStatistics": (
        "1 batch_size uint64",
        "2 compute_input StatisticDuration",
        "3 compute_infer StatisticDuration",
        "4 compute_output StatisticDuration",
    ),
    "StatisticDuration": ("1 count uint64", "2 ns uint64"),
    "RepositoryIndexRequest": ("1 repository_name string", "2 ready bool"),
    "RepositoryIndexResponse": ("1 models RepositoryIndexResponse.ModelIndex*",),
    "RepositoryIndexResponse.ModelIndex": ("1 name string", "2 version string", "3 state string", "4 reason string"),
    "ModelRepositoryParameter": (*_CHOICES, "4 bytes_param|parameter_choice bytes"),
    "RepositoryModelLoadRequest": (
        "1 repository_name string",
        "2 model_name string",
        "3 parameters <ModelRepositoryParameter>",
    ),
    "RepositoryModelLoadResponse": ("1 model_name string", "2 isLoaded bool"),
    "RepositoryModelUnloadRequest": (
        "1 repository_name string",
        "2 model_name string",
        "3 parameters <ModelRepositoryParameter>",
    ),
    "RepositoryModelUnloadResponse": ("1 model_name string", "2 isUnloaded bool"),
    "LogSettingsRequest": ("1 settings <LogSettingsRequest.SettingValue>",),
    "LogSettingsRequest.SettingValue": _SETTINGS,
    "LogSettingsResponse": ("1 settings <LogSettingsResponse.SettingValue>",),
    "LogSettingsResponse.SettingValue": _SETTINGS,
}

_ENUMS = {
    "DataType": (
        "TYPE_INVALID", "TYPE_BOOL", "TYPE_UINT8", "TYPE_UINT16", "TYPE_UINT32", "TYPE_UINT64", "TYPE_INT8", "TYPE_INT16", "TYPE_INT32",
        "TYPE_INT64", "TYPE_FP16", "TYPE_FP32", "TYPE_FP64", "TYPE_STRING", "TYPE_BF16",
    ),
    "ModelInstanceGroupKind": ("KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL"),
}  # fmt: skip

UNARY = (
    "ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer", "ModelConfig", "ModelStatistics",
    "RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload", "LogSettings",
)  # fmt: skip
# What is not served, and has no messages here: shared memory between a client and a server, and traces of the server's inside.
REFUSED = (
    "SystemSharedMemoryStatus", "SystemSharedMemoryRegister", "SystemSharedMemoryUnregister", "CudaSharedMemoryStatus",
    "CudaSharedMemoryRegister", "CudaSharedMemoryUnregister", "TraceSetting",
)  # fmt: skip
SERVICE = "inference.GRPCInferenceService"

MESSAGES = Messages(
    "grpc_service.proto",
    "inference",
    messages=_MESSAGES,
    enums=_ENUMS,
    services={
        "GRPCInferenceService": (
            *(Rpc(name, f"{name}Request", f"{name}Response") for name in UNARY),
            Rpc(
                "ModelStreamInfer",
                "ModelInferRequest",
                "ModelStreamInferResponse",
                client_streams=True,
                server_streams=True,
            ),
        )
    },
)
