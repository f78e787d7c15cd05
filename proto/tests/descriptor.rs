//! `onnx.proto` is complete and right: its descriptor equals the one in the `onnx` Python package.

use onnx_dcomp_proto::{IR_VERSION, ONNX_RELEASE, OPSET_VERSION};
use protox::prost_reflect::prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

type Descriptor = BTreeMap<String, Vec<String>>;

fn enum_text(enumeration: &EnumDescriptorProto) -> Vec<String> {
    let mut values: Vec<_> = enumeration.value.iter().map(|value| (value.number(), value.name())).collect();
    values.sort_unstable();
    values.iter().map(|(number, name)| format!("{number} {name}")).collect()
}

fn field_text(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let mut parts = vec![field.number().to_string(), field.name().to_owned()];
    parts.push(format!("label {}", field.label() as i32));
    parts.push(format!("type {} {}", field.r#type() as i32, field.type_name()).trim_end().to_owned());
    if let Some(index) = field.oneof_index {
        parts.push(format!("oneof {}", message.oneof_decl[index as usize].name()));
    }
    if field.options.as_ref().is_some_and(|options| options.packed()) {
        parts.push("packed".to_owned());
    }
    if let Some(value) = &field.default_value {
        parts.push(format!("default {value}"));
    }
    parts.join(" ")
}

fn add_message(scope: &str, message: &DescriptorProto, found: &mut Descriptor) {
    let name = format!("{scope}.{}", message.name());
    let mut fields: Vec<_> = message.field.iter().map(|field| (field.number(), field_text(message, field))).collect();
    fields.sort();
    let mut texts: Vec<String> = fields.into_iter().map(|(_, text)| text).collect();
    let mut ranges: Vec<_> = message.reserved_range.iter().map(|range| (range.start(), range.end())).collect();
    ranges.sort_unstable();
    texts.extend(ranges.iter().map(|(start, end)| format!("reserved {start} to {}", end - 1)));
    let mut names = message.reserved_name.clone();
    names.sort();
    texts.extend(names.iter().map(|name| format!("reserved {name}")));
    for enumeration in &message.enum_type {
        found.insert(format!("{name}.{}", enumeration.name()), enum_text(enumeration));
    }
    for nested in &message.nested_type {
        add_message(&name, nested, found);
    }
    found.insert(name, texts);
}

fn ours() -> Descriptor {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let set = protox::compile([folder.join("onnx.proto")], [folder]).expect("onnx.proto is valid");
    let mut found = Descriptor::new();
    for file in &set.file {
        for enumeration in &file.enum_type {
            found.insert(format!("{}.{}", file.package(), enumeration.name()), enum_text(enumeration));
        }
        for message in &file.message_type {
            add_message(file.package(), message, &mut found);
        }
    }
    found
}

/// What the package says, or why it cannot be asked.
///
/// The repository's own environment, or the one that `DCOMP_PYTHON` names, must have the right release; a Python that
/// happens to be there need not.
fn theirs() -> Result<Value, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let own = std::env::var_os("DCOMP_PYTHON").map_or_else(|| folder.join("../.venv/bin/python"), PathBuf::from);
    let (python, must_work) = if own.exists() { (own, true) } else { (PathBuf::from("python3"), false) };
    let asked = Command::new(&python).arg(folder.join("tests/descriptor.py")).output();
    let answer = asked.map_err(|error| error.to_string()).and_then(|output| {
        let json = serde_json::from_slice::<Value>(&output.stdout);
        let answer = json.map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())?;
        match answer["versions"]["release"].as_str() {
            Some(ONNX_RELEASE) => Ok(answer),
            other => Err(format!("it has onnx {other:?}, onnx.proto describes {ONNX_RELEASE}")),
        }
    });
    assert!(answer.is_ok() || !must_work, "{} cannot be asked: {answer:?}", python.display());
    answer
}

#[test]
fn our_descriptor_is_that_of_the_onnx_package() {
    let theirs = match theirs() {
        Ok(answer) => answer,
        Err(reason) => {
            println!("skipped: python3 has no onnx {ONNX_RELEASE}: {reason}");
            return;
        }
    };
    let expected: Descriptor = serde_json::from_value(theirs["descriptor"].clone()).expect("a map of lists");
    let found = ours();
    assert!(expected.contains_key("onnx.ModelProto"), "the package's descriptor has no ModelProto");
    for (name, fields) in &expected {
        assert_eq!(found.get(name), Some(fields), "{name}");
    }
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    assert_eq!(theirs["versions"]["ir"], IR_VERSION);
    assert_eq!(theirs["versions"]["opset"], OPSET_VERSION);
}
