"""The messages of two services that gRPC servers have beside their own: health, and reflection (which says what is served)."""

from __future__ import annotations

from goldenloop.standards.protobuf import Messages, Rpc

HEALTH = Messages(
    "grpc/health/v1/health.proto",
    "grpc.health.v1",
    messages={
        "HealthCheckRequest": ("1 service string",),
        "HealthCheckResponse": ("1 status ServingStatus",),
    },
    enums={"ServingStatus": ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")},
    services={
        "Health": (
            Rpc("Check", "HealthCheckRequest", "HealthCheckResponse"),
            Rpc("Watch", "HealthCheckRequest", "HealthCheckResponse", server_streams=True),
        )
    },
)

_REFLECTION_MESSAGES = {
    "ServerReflectionRequest": (
        "1 host string",
        "3 file_by_filename|message_request string",
        "4 file_containing_symbol|message_request string",
        "5 file_containing_extension|message_request ExtensionRequest",
        "6 all_extension_numbers_of_type|message_request string",
        "7 list_services|message_request string",
    ),
    "ExtensionRequest": ("1 containing_type string", "2 extension_number int32"),
    "ServerReflectionResponse": (
        "1 valid_host string",
        "2 original_request ServerReflectionRequest",
        "4 file_descriptor_response|message_response FileDescriptorResponse",
        "5 all_extension_numbers_response|message_response ExtensionNumberResponse",
        "6 list_services_response|message_response ListServiceResponse",
        "7 error_response|message_response ErrorResponse",
    ),
    "FileDescriptorResponse": ("1 file_descriptor_proto bytes*",),
    "ExtensionNumberResponse": ("1 base_type_name string", "2 extension_number int32*"),
    "ListServiceResponse": ("1 service ServiceResponse*",),
    "ServiceResponse": ("1 name string",),
    "ErrorResponse": ("1 error_code int32", "2 error_message string"),
}


def _reflection(version: str) -> Messages:
    return Messages(
        f"grpc/reflection/{version}/reflection.proto",
        f"grpc.reflection.{version}",
        messages=_REFLECTION_MESSAGES,
        enums={},
        services={
            "ServerReflection": (
                Rpc(
                    "ServerReflectionInfo",
                    "ServerReflectionRequest",
                    "ServerReflectionResponse",
                    client_streams=True,
                    server_streams=True,
                ),
            )
        },
    )


REFLECTIONS = (_reflection("v1"), _reflection("v1alpha"))
