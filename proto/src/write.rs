//! Serializing a model without a second copy of its tensors in memory.

use crate::{AttributeProto, FunctionProto, GraphProto, Message, ModelProto, NodeProto, TensorProto};
use std::io::{self, Write};

/// Messages shorter than this are serialized in memory, and written together.
const STREAMED_BYTES: usize = 64 * 1024;

/// Writes `model` to `out`: the same bytes as [`Message::encode_to_vec`], returns their number.
///
/// Each `raw_data` of at least 64 KiB, in an initializer, in an attribute, in a subgraph or in a function, goes straight
/// from its buffer to `out`. The rest is gathered in pieces of about 64 KiB, so that `out` need not be buffered. The
/// largest piece in memory is the largest tensor that keeps its elements in a typed field such as `float_data`.
///
/// Most readers of ONNX refuse messages of 2 GiB and more; that is for the caller to look after.
///
/// # Errors
/// Those of `out`; a part of the model may have been written then.
pub fn write_model<W: Write>(model: &ModelProto, out: &mut W) -> io::Result<u64> {
    write_streaming(model, out, STREAMED_BYTES)
}

fn write_streaming<W: Write>(model: &ModelProto, out: &mut W, streamed_bytes: usize) -> io::Result<u64> {
    let mut stream = Stream { out, pending: Vec::new(), written: 0, streamed_bytes };
    stream.model(model)?;
    stream.flush()?;
    Ok(stream.written)
}

struct Stream<'a, W> {
    out: &'a mut W,
    pending: Vec<u8>,
    written: u64,
    streamed_bytes: usize,
}

/// In every message the fields go out by ascending number, as `prost` does it. The messages are taken apart field by
/// field, so that a field added to `onnx.proto` cannot be forgotten here.
impl<W: Write> Stream<'_, W> {
    fn model(&mut self, model: &ModelProto) -> io::Result<()> {
        let ModelProto {
            ir_version,
            producer_name,
            producer_version,
            domain,
            model_version,
            doc_string,
            graph,
            opset_import,
            metadata_props,
            training_info,
            functions,
            configuration,
        } = model;
        self.fields(&ModelProto {
            ir_version: *ir_version,
            producer_name: producer_name.clone(),
            producer_version: producer_version.clone(),
            domain: domain.clone(),
            model_version: *model_version,
            doc_string: doc_string.clone(),
            ..Default::default()
        })?;
        self.each(7, graph, Self::graph)?;
        self.each(8, opset_import, Self::fields)?;
        self.each(14, metadata_props, Self::fields)?;
        self.each(20, training_info, Self::fields)?;
        self.each(25, functions, Self::function)?;
        self.each(26, configuration, Self::fields)
    }

    fn graph(&mut self, graph: &GraphProto) -> io::Result<()> {
        let GraphProto {
            node,
            name,
            initializer,
            doc_string,
            input,
            output,
            value_info,
            quantization_annotation,
            sparse_initializer,
            metadata_props,
        } = graph;
        self.each(1, node, Self::node)?;
        self.fields(&GraphProto { name: name.clone(), ..Default::default() })?;
        self.each(5, initializer, Self::tensor)?;
        self.fields(&GraphProto { doc_string: doc_string.clone(), ..Default::default() })?;
        self.each(11, input, Self::fields)?;
        self.each(12, output, Self::fields)?;
        self.each(13, value_info, Self::fields)?;
        self.each(14, quantization_annotation, Self::fields)?;
        self.each(15, sparse_initializer, Self::fields)?;
        self.each(16, metadata_props, Self::fields)
    }

    fn function(&mut self, function: &FunctionProto) -> io::Result<()> {
        let FunctionProto {
            name,
            input,
            output,
            attribute,
            node,
            doc_string,
            opset_import,
            domain,
            attribute_proto,
            value_info,
            overload,
            metadata_props,
        } = function;
        self.fields(&FunctionProto {
            name: name.clone(),
            input: input.clone(),
            output: output.clone(),
            attribute: attribute.clone(),
            ..Default::default()
        })?;
        self.each(7, node, Self::node)?;
        self.fields(&FunctionProto {
            doc_string: doc_string.clone(),
            opset_import: opset_import.clone(),
            domain: domain.clone(),
            ..Default::default()
        })?;
        self.each(11, attribute_proto, Self::attribute)?;
        self.fields(&FunctionProto {
            value_info: value_info.clone(),
            overload: overload.clone(),
            metadata_props: metadata_props.clone(),
            ..Default::default()
        })
    }

    fn node(&mut self, node: &NodeProto) -> io::Result<()> {
        let NodeProto {
            input,
            output,
            name,
            op_type,
            attribute,
            doc_string,
            domain,
            overload,
            metadata_props,
            device_configurations,
        } = node;
        self.fields(&NodeProto {
            input: input.clone(),
            output: output.clone(),
            name: name.clone(),
            op_type: op_type.clone(),
            ..Default::default()
        })?;
        self.each(5, attribute, Self::attribute)?;
        self.fields(&NodeProto {
            doc_string: doc_string.clone(),
            domain: domain.clone(),
            overload: overload.clone(),
            metadata_props: metadata_props.clone(),
            device_configurations: device_configurations.clone(),
            ..Default::default()
        })
    }

    /// Streams the tensor and the subgraph of an attribute; lists of them, which no standard operator has, are gathered
    /// like everything else.
    fn attribute(&mut self, attribute: &AttributeProto) -> io::Result<()> {
        let AttributeProto { name, f, i, s, t, g, .. } = attribute;
        if t.is_none() && g.is_none() {
            return self.fields(attribute);
        }
        self.fields(&AttributeProto { name: name.clone(), f: *f, i: *i, s: s.clone(), ..Default::default() })?;
        self.each(5, t, Self::tensor)?;
        self.each(6, g, Self::graph)?;
        self.fields(&AttributeProto {
            name: None,
            f: None,
            i: None,
            s: None,
            t: None,
            g: None,
            floats: attribute.floats.clone(),
            ints: attribute.ints.clone(),
            strings: attribute.strings.clone(),
            tensors: attribute.tensors.clone(),
            graphs: attribute.graphs.clone(),
            doc_string: attribute.doc_string.clone(),
            tp: attribute.tp.clone(),
            type_protos: attribute.type_protos.clone(),
            r#type: attribute.r#type,
            ref_attr_name: attribute.ref_attr_name.clone(),
            sparse_tensor: attribute.sparse_tensor.clone(),
            sparse_tensors: attribute.sparse_tensors.clone(),
        })
    }

    fn tensor(&mut self, tensor: &TensorProto) -> io::Result<()> {
        let Some(raw_data) = &tensor.raw_data else {
            return self.fields(tensor);
        };
        let TensorProto { dims, data_type, segment, float_data, int32_data, string_data, int64_data, name, .. } =
            tensor;
        self.fields(&TensorProto {
            dims: dims.clone(),
            data_type: *data_type,
            segment: *segment,
            float_data: float_data.clone(),
            int32_data: int32_data.clone(),
            string_data: string_data.clone(),
            int64_data: int64_data.clone(),
            name: name.clone(),
            ..Default::default()
        })?;
        self.header(9, raw_data.len())?;
        self.payload(raw_data)?;
        self.fields(&TensorProto {
            dims: Vec::new(),
            data_type: None,
            segment: None,
            float_data: Vec::new(),
            int32_data: Vec::new(),
            string_data: Vec::new(),
            int64_data: Vec::new(),
            name: None,
            raw_data: None,
            double_data: tensor.double_data.clone(),
            uint64_data: tensor.uint64_data.clone(),
            doc_string: tensor.doc_string.clone(),
            external_data: tensor.external_data.clone(),
            data_location: tensor.data_location,
            metadata_props: tensor.metadata_props.clone(),
        })
    }

    /// Writes messages as field `number`; long ones by means of `content`.
    fn each<'m, M: Message + 'm>(
        &mut self,
        number: u32,
        messages: impl IntoIterator<Item = &'m M>,
        content: fn(&mut Self, &M) -> io::Result<()>,
    ) -> io::Result<()> {
        for message in messages {
            let length = message.encoded_len();
            self.header(number, length)?;
            if length < self.streamed_bytes {
                self.fields(message)?;
            } else {
                content(self, message)?;
            }
        }
        Ok(())
    }

    /// Writes the key and the length of a length-delimited field.
    fn header(&mut self, number: u32, length: usize) -> io::Result<()> {
        const LENGTH_DELIMITED: u32 = 2;
        let key = number << 3 | LENGTH_DELIMITED;
        for varint in [key as usize, length] {
            prost::encode_length_delimiter(varint, &mut self.pending).map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Writes the fields of a message without a key and a length of its own.
    fn fields<M: Message>(&mut self, message: &M) -> io::Result<()> {
        message.encode(&mut self.pending).map_err(io::Error::other)?;
        if self.pending.len() >= self.streamed_bytes { self.flush_pending() } else { Ok(()) }
    }

    fn payload(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.flush_pending()?;
        self.written += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn flush_pending(&mut self) -> io::Result<()> {
        self.out.write_all(&self.pending)?;
        self.written += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flush_pending()?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random_model::RandomModel;

    #[test]
    fn streaming_gives_the_bytes_of_prost() {
        let mut source = RandomModel::new(1);
        let mut longest = 0;
        for _ in 0..300 {
            let model = ModelProto::decode(&*source.next_model()).expect("the generator writes valid models");
            let expected = model.encode_to_vec();
            for streamed_bytes in [0, 40, 300, usize::MAX] {
                let mut found = Vec::new();
                let written = write_streaming(&model, &mut found, streamed_bytes).expect("room");
                assert_eq!(found, expected, "with messages of {streamed_bytes} bytes streamed");
                assert_eq!(written, expected.len() as u64);
            }
            longest = longest.max(expected.len());
        }
        assert!(longest > 5_000, "the generated models are too small to tell anything: {longest} bytes at most");
    }

    /// Fails once it was given more than its number of bytes.
    struct FullDisk(usize);

    impl Write for FullDisk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn errors_of_the_file_come_through() {
        let tensor = TensorProto { raw_data: Some(vec![7; 100_000].into()), ..Default::default() };
        let graph = GraphProto { initializer: vec![tensor], ..Default::default() };
        let model = ModelProto { graph: Some(graph), doc_string: Some("text".into()), ..Default::default() };
        let size = model.encoded_len();
        for room in [0, 10, 1000, size - 1] {
            let error = write_model(&model, &mut FullDisk(room)).expect_err("no room");
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        }
        assert_eq!(write_model(&model, &mut FullDisk(size)).expect("room"), size as u64);
    }
}
