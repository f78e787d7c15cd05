//! What decoding keeps, and what it shares with the buffer.

use onnx_dcomp_proto::bytes::Bytes;
use onnx_dcomp_proto::{AttributeProto, GraphProto, Message, ModelProto, NodeProto, TensorProto, ValueInfoProto};

fn model() -> ModelProto {
    let tensor = TensorProto { raw_data: Some(vec![3; 1000].into()), ..Default::default() };
    let attribute = AttributeProto { t: Some(tensor.clone()), s: Some("text".into()), ..Default::default() };
    let node = NodeProto { attribute: vec![attribute], ..Default::default() };
    let graph = GraphProto { node: vec![node], initializer: vec![tensor], ..Default::default() };
    ModelProto { graph: Some(graph), ..Default::default() }
}

#[test]
fn payloads_are_slices_of_the_decoded_buffer() {
    let buffer = Bytes::from(model().encode_to_vec());
    let model = ModelProto::decode(buffer.clone()).expect("well formed");
    let graph = model.graph.expect("a graph");
    let attribute = &graph.node[0].attribute[0];
    let inner = attribute.t.as_ref().and_then(|tensor| tensor.raw_data.clone()).expect("elements");
    let initializer = graph.initializer[0].raw_data.clone().expect("elements");
    let text = attribute.s.clone().expect("a string");
    for payload in [inner, initializer, text] {
        assert!(buffer.as_ptr_range().contains(&payload.as_ptr()), "a payload was copied");
    }
}

#[test]
fn explicit_defaults_and_unknown_enum_numbers_survive() {
    let attribute = AttributeProto { r#type: Some(99), f: Some(0.0), name: Some(String::new()), ..Default::default() };
    let bytes = attribute.encode_to_vec();
    let decoded = AttributeProto::decode(&*bytes).expect("well formed");
    assert_eq!(decoded, attribute);
    assert_ne!(decoded, AttributeProto { r#type: Some(99), ..Default::default() });
}

#[test]
fn truncated_messages_and_text_that_is_no_utf8_are_errors() {
    let bytes = model().encode_to_vec();
    for length in 1..bytes.len() {
        assert!(ModelProto::decode(&bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
    }
    assert!(ValueInfoProto::decode(&[0x0a, 1, 0xff][..]).is_err());
}
