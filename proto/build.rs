//! Generates, without `protoc`, the Rust types from `onnx.proto`, and the table of its fields that `src/unknown.rs` reads.

use prost_build::Config;
use protox::prost_reflect::prost_types::field_descriptor_proto::Type;
use protox::prost_reflect::prost_types::{DescriptorProto, FileDescriptorSet};
use std::error::Error;
use std::fmt::Write;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=onnx.proto");
    let descriptors = protox::compile(["onnx.proto"], ["."])?;
    std::fs::write(Path::new(&std::env::var("OUT_DIR")?).join("schema.rs"), schema(&descriptors)?)?;
    // Bytes are slices of the buffer that was decoded, so that a mapped model is not copied.
    Config::new().bytes(["."]).compile_fds(descriptors)?;
    Ok(())
}

/// The messages and their fields as the items of one Rust slice expression, sorted by the messages' full names.
fn schema(descriptors: &FileDescriptorSet) -> Result<String, Box<dyn Error>> {
    let mut messages = Vec::new();
    for file in &descriptors.file {
        for message in &file.message_type {
            collect(&format!(".{}.{}", file.package(), message.name()), message, &mut messages);
        }
    }
    messages.sort_by(|a, b| a.0.cmp(&b.0));
    let index_of = |name: &str| messages.binary_search_by(|(other, _)| other.as_str().cmp(name));
    let mut text = String::from("&[\n");
    for (name, message) in &messages {
        writeln!(text, "MessageSchema {{ name: {:?}, fields: &[", name.rsplit('.').next().unwrap_or(name))?;
        for field in &message.field {
            let child = match field.r#type() {
                Type::Message => format!("Some({})", index_of(field.type_name()).map_err(|_| field.type_name())?),
                _ => String::from("None"),
            };
            writeln!(
                text,
                "FieldSchema {{ number: {}, name: {:?}, message: {child} }},",
                field.number(),
                field.name()
            )?;
        }
        text.push_str("] },\n");
    }
    text.push(']');
    Ok(text)
}

fn collect<'a>(name: &str, message: &'a DescriptorProto, messages: &mut Vec<(String, &'a DescriptorProto)>) {
    messages.push((name.to_owned(), message));
    for nested in &message.nested_type {
        collect(&format!("{name}.{}", nested.name()), nested, messages);
    }
}
