//! Random models in wire format, for tests: every field of the schema occurs, with random values, in random messages.

use protox::prost_reflect::prost_types::field_descriptor_proto::{Label, Type};
use protox::prost_reflect::prost_types::{DescriptorProto, FieldDescriptorProto};

/// A source of serialized models that depends on its seed only.
pub(crate) struct RandomModel {
    messages: Vec<(String, DescriptorProto)>,
    state: u64,
}

impl RandomModel {
    pub(crate) fn new(seed: u64) -> Self {
        let descriptors = protox::compile(["onnx.proto"], ["."]).expect("onnx.proto is valid");
        let mut messages = Vec::new();
        for message in &descriptors.file[0].message_type {
            collect(".onnx.", message, &mut messages);
        }
        Self { messages, state: seed }
    }

    /// A number below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % bound
    }

    pub(crate) fn next_model(&mut self) -> Vec<u8> {
        self.message(".onnx.ModelProto", 7)
    }

    fn message(&mut self, name: &str, depth: u32) -> Vec<u8> {
        let found = self.messages.iter().find(|(other, _)| other == name);
        let fields = found.expect("a message of the schema").1.field.clone();
        let mut oneof_taken = false;
        let mut bytes = Vec::new();
        for field in fields {
            let chosen =
                self.below(if depth > 4 { 2 } else { 4 }) == 0 && (depth > 0 || field.r#type() != Type::Message);
            if !chosen || (oneof_taken && field.oneof_index.is_some()) {
                continue;
            }
            oneof_taken |= field.oneof_index.is_some();
            let occurrences = if field.label() == Label::Repeated { 1 + self.below(3) } else { 1 };
            for _ in 0..occurrences {
                self.value(&field, depth, &mut bytes);
            }
        }
        bytes
    }

    fn value(&mut self, field: &FieldDescriptorProto, depth: u32, bytes: &mut Vec<u8>) {
        let (wire, value) = match field.r#type() {
            Type::Message => (2, self.message(field.type_name(), depth.saturating_sub(1))),
            Type::String | Type::Bytes => (2, (0..self.below(12)).map(|_| b'a' + self.below(26) as u8).collect()),
            Type::Double => (1, (self.below(1000) as f64 / 8.0).to_le_bytes().to_vec()),
            Type::Float => (5, (self.below(1000) as f32 / 8.0).to_le_bytes().to_vec()),
            Type::Int32 | Type::Enum => (0, varint(self.below(1 << 31))),
            Type::Int64 | Type::Uint64 => (0, varint(self.below(1 << 31) << self.below(33))),
            other => panic!("onnx.proto has a field of type {other:?}, which this generator does not know"),
        };
        bytes.extend(varint((field.number() as u64) << 3 | wire));
        if wire == 2 {
            bytes.extend(varint(value.len() as u64));
        }
        bytes.extend(value);
    }
}

fn collect(scope: &str, message: &DescriptorProto, messages: &mut Vec<(String, DescriptorProto)>) {
    let name = format!("{scope}{}", message.name());
    messages.push((name.clone(), message.clone()));
    for nested in &message.nested_type {
        collect(&format!("{name}."), nested, messages);
    }
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}
