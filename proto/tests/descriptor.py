"""Prints what the `onnx` Python package says of the format, as JSON; `descriptor.rs` compares it with `onnx.proto`."""

import json

import onnx
from google.protobuf import descriptor_pb2

file = descriptor_pb2.FileDescriptorProto()
onnx.ModelProto.DESCRIPTOR.file.CopyToProto(file)


def enum_text(enum):
    values = sorted((value.number, value.name) for value in enum.value)
    return [f"{number} {name}" for number, name in values]


def field_text(message, field):
    parts = [str(field.number), field.name, f"label {field.label}", f"type {field.type} {field.type_name}".rstrip()]
    if field.HasField("oneof_index"):
        parts.append(f"oneof {message.oneof_decl[field.oneof_index].name}")
    if field.options.packed:
        parts.append("packed")
    if field.HasField("default_value"):
        parts.append(f"default {field.default_value}")
    return field.number, " ".join(parts)


def add_message(scope, message, found):
    name = f"{scope}.{message.name}"
    fields = [text for _, text in sorted(field_text(message, field) for field in message.field)]
    reserved = [f"reserved {r.start} to {r.end - 1}" for r in sorted(message.reserved_range, key=lambda r: r.start)]
    found[name] = fields + reserved + [f"reserved {name}" for name in sorted(message.reserved_name)]
    for enum in message.enum_type:
        found[f"{name}.{enum.name}"] = enum_text(enum)
    for nested in message.nested_type:
        add_message(name, nested, found)


found = {}
for enum in file.enum_type:
    found[f"{file.package}.{enum.name}"] = enum_text(enum)
for message in file.message_type:
    add_message(file.package, message, found)
versions = {"release": onnx.__version__, "ir": onnx.IR_VERSION, "opset": onnx.defs.onnx_opset_version()}
print(json.dumps({"versions": versions, "descriptor": found}))
