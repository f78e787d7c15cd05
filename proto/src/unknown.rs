//! Which fields of a serialized model this crate's schema does not know.

use std::collections::BTreeMap;
use std::fmt;

/// A field that decoding drops, because `onnx.proto` does not know it.
///
/// Occurrences of the same field in messages of the same type are counted together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownField {
    /// The type of the message that holds the field, such as `NodeProto`.
    pub message: &'static str,
    /// The field's number.
    pub number: u32,
    /// The place of the first occurrence, such as `graph.node[3]`; empty for the model itself.
    pub path: String,
    /// The number of occurrences.
    pub count: u64,
    /// The size of all occurrences with their keys, in bytes.
    pub bytes: u64,
}

impl fmt::Display for UnknownField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.path.is_empty() { "the model" } else { &self.path };
        write!(
            f,
            "field {} of {} (first in {place}; {} occurrences, {} bytes)",
            self.number, self.message, self.count, self.bytes
        )
    }
}

/// At most this many different unknown fields are listed; hostile input could hold millions.
const MAX_LISTED: usize = 64;

/// Deeper messages are not looked into; decoding refuses them.
const MAX_DEPTH: usize = 100;

struct MessageSchema {
    name: &'static str,
    fields: &'static [FieldSchema],
}

struct FieldSchema {
    number: u32,
    name: &'static str,
    /// The place in [`SCHEMA`] of the message type that the field holds.
    message: Option<usize>,
}

/// All message types, generated from `onnx.proto`.
static SCHEMA: &[MessageSchema] = include!(concat!(env!("OUT_DIR"), "/schema.rs"));

/// Lists the fields of a serialized [`ModelProto`](crate::ModelProto) that this crate's schema does not know, by message
/// type and number, at most 64 of them.
///
/// Only keys and lengths are read, so that tensor payloads of a mapped file stay on disk. Bytes that are no well-formed
/// message end the scan where they stand: decoding the model reports them.
pub fn unknown_fields(model: &[u8]) -> Vec<UnknownField> {
    let root = SCHEMA.iter().position(|message| message.name == "ModelProto");
    let mut scan = Scan { path: Vec::new(), found: BTreeMap::new() };
    if let Some(root) = root {
        scan.message(root, &mut { model });
    }
    scan.found.into_values().collect()
}

struct Scan {
    /// Names of the fields from the model to the current message, each with its place among its like.
    path: Vec<(&'static str, usize)>,
    found: BTreeMap<(&'static str, u32), UnknownField>,
}

impl Scan {
    /// Looks through one message; `None` where it is not well formed.
    fn message(&mut self, index: usize, input: &mut &[u8]) -> Option<()> {
        let schema = SCHEMA.get(index)?;
        let mut occurrences = vec![0usize; schema.fields.len()];
        while !input.is_empty() {
            let before = input.len();
            let (number, wire) = key(input)?;
            let known = schema.fields.iter().zip(&mut occurrences).find(|(field, _)| field.number == number);
            match known {
                Some((FieldSchema { name, message: Some(child), .. }, seen)) if wire == LENGTH_DELIMITED => {
                    let mut content = take_delimited(input)?;
                    if self.path.len() < MAX_DEPTH {
                        self.path.push((name, *seen));
                        self.message(*child, &mut content)?;
                        self.path.pop();
                    }
                    *seen += 1;
                }
                Some(_) => skip(input, wire, number, 0)?,
                None => {
                    skip(input, wire, number, 0)?;
                    self.note(schema.name, number, before - input.len());
                }
            }
        }
        Some(())
    }

    fn note(&mut self, message: &'static str, number: u32, bytes: usize) {
        let full = self.found.len() >= MAX_LISTED;
        if let Some(field) = self.found.get_mut(&(message, number)) {
            field.count += 1;
            field.bytes += bytes as u64;
        } else if !full {
            let path = self.path_text();
            self.found.insert((message, number), UnknownField { message, number, path, count: 1, bytes: bytes as u64 });
        }
    }

    fn path_text(&self) -> String {
        let steps: Vec<String> = self
            .path
            .iter()
            .map(|(name, place)| match *name {
                "graph" | "type" | "shape" | "t" | "g" => (*name).to_owned(),
                _ => format!("{name}[{place}]"),
            })
            .collect();
        steps.join(".")
    }
}

const LENGTH_DELIMITED: u8 = 2;

fn varint(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = input.split_first()?;
        *input = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn key(input: &mut &[u8]) -> Option<(u32, u8)> {
    let key = u32::try_from(varint(input)?).ok()?;
    (key >> 3 != 0).then_some((key >> 3, (key & 7) as u8))
}

fn take<'a>(input: &mut &'a [u8], length: u64) -> Option<&'a [u8]> {
    let (taken, rest) = input.split_at_checked(usize::try_from(length).ok()?)?;
    *input = rest;
    Some(taken)
}

fn take_delimited<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = varint(input)?;
    take(input, length)
}

fn skip(input: &mut &[u8], wire: u8, number: u32, depth: usize) -> Option<()> {
    match wire {
        0 => varint(input).map(drop),
        1 => take(input, 8).map(drop),
        LENGTH_DELIMITED => take_delimited(input).map(drop),
        3 if depth < MAX_DEPTH => loop {
            match key(input)? {
                (end, 4) => return (end == number).then_some(()),
                (inner, wire) => skip(input, wire, inner, depth + 1)?,
            }
        },
        5 => take(input, 4).map(drop),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random_model::RandomModel;
    use crate::{GraphProto, Message, ModelProto, NodeProto, TensorProto};

    fn model_of(graph: Vec<u8>) -> Vec<u8> {
        [vec![0x3a, u8::try_from(graph.len()).expect("a small graph")], graph].concat()
    }

    #[test]
    fn a_model_of_known_fields_has_no_unknown_ones() {
        let tensor = TensorProto { dims: vec![2], raw_data: Some(vec![0xff; 8].into()), ..Default::default() };
        let graph = GraphProto { node: vec![NodeProto::default()], initializer: vec![tensor], ..Default::default() };
        let model = ModelProto { ir_version: Some(8), graph: Some(graph), ..Default::default() };
        assert_eq!(unknown_fields(&model.encode_to_vec()), []);
        let mut source = RandomModel::new(2);
        for _ in 0..300 {
            assert_eq!(unknown_fields(&source.next_model()), []);
        }
    }

    #[test]
    fn unknown_fields_are_listed_with_their_place_and_size() {
        let node = [0x0a, 6, 0x1a, 1, b'n', 0xf8, 0x07, 5];
        let bytes = [model_of([node, node].concat()), vec![0xfa, 0x07, 3, 1, 2, 3]].concat();
        assert_eq!(
            unknown_fields(&bytes),
            [
                UnknownField { message: "ModelProto", number: 127, path: String::new(), count: 1, bytes: 6 },
                UnknownField { message: "NodeProto", number: 127, path: "graph.node[0]".into(), count: 2, bytes: 6 },
            ]
        );
    }

    #[test]
    fn an_unknown_group_is_one_field() {
        let group = [0xfb, 0x07, 0x08, 1, 0x13, 0x14, 0xfc, 0x07];
        let found = unknown_fields(&group);
        assert_eq!(found.iter().map(|f| (f.number, f.count, f.bytes)).collect::<Vec<_>>(), [(127, 1, 8)]);
    }

    #[test]
    fn what_is_listed_is_what_decoding_drops() {
        let bytes = [vec![0x08, 8], vec![0xf8, 0x07, 5]].concat();
        let dropped = bytes.len() - ModelProto::decode(&*bytes).expect("well formed").encoded_len();
        assert_eq!(unknown_fields(&bytes).iter().map(|f| f.bytes).sum::<u64>(), dropped as u64);
    }

    #[test]
    fn any_bytes_end_the_scan_without_a_panic() {
        let model = model_of(vec![0x0a, 6, 0x1a, 1, b'n', 0xf8, 0x07, 5]);
        for place in 0..model.len() {
            for value in 0..=255 {
                let mut bytes = model.clone();
                bytes[place] = value;
                unknown_fields(&bytes);
                unknown_fields(&bytes[..place]);
            }
        }
        let nested = (0..50_000).fold(Vec::new(), |mut bytes, _| {
            bytes.extend([0x0b, 0x0b]);
            bytes
        });
        assert_eq!(unknown_fields(&nested), []);
    }

    #[test]
    fn the_list_is_bounded() {
        let bytes: Vec<u8> = (200..2000u64)
            .flat_map(|number| {
                let mut key = Vec::new();
                prost::encode_length_delimiter((number << 3) as usize, &mut key).expect("room");
                key.push(1);
                key
            })
            .collect();
        assert_eq!(unknown_fields(&bytes).len(), MAX_LISTED);
    }
}
