"""A second decoder of weight payloads, written from FORMAT.md in plain Python and numpy: to be read, not to be fast.

python decode.py payload.bin out.npz    arrays weight_0, weight_1, ... (bfloat16 as its bit patterns, in uint16)
python decode.py model.onnx out.npz     the same by tensor name, from every DcompDecode node
"""
import sys
import zlib
from math import prod

import numpy as np

from small import Small

DTYPES = ["<f4", "<f2", "<u2", "<f8", "i1", "u1"]  # bfloat16 as bits
WIDTHS = [(8, 23), (5, 10), (8, 7), (11, 52), (7, 0), (7, 0)]  # bits of exponent and of mantissa


def require(condition, message):
    if not condition:
        raise ValueError(message)


class Reader:  # section 1
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, size):
        require(size <= len(self.data) - self.at, "the payload is truncated")
        self.at += size
        return self.data[self.at - size : self.at]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                require(value < 1 << 64, "a varint exceeds 64 bits")
                return value

    def bits(self):
        """A function that reads bit fields from here on, and moves this reader behind the byte that it is in."""
        start, at = self.at, 0

        def field(size):
            nonlocal at
            value = 0
            for _ in range(size):
                self.at = start + at // 8
                value, at = value << 1 | self.take(1)[0] >> 7 - at % 8 & 1, at + 1
            return value
        return field


def huffman_table(reader):  # section 6: symbol by (length, code)
    largest, field = reader.take(1)[0], reader.bits()
    lengths = sorted(pair for pair in [(field(4), symbol) for symbol in range(largest + 1)] if pair[0])
    if len(lengths) == 1:
        return {(0, 0): lengths[0][1]}
    codes, code, last = {}, 0, 0
    for length, symbol in lengths:
        code, last = code << length - last, length
        codes[length, code] = symbol
        code += 1
    require(code == 1 << last, "a Huffman code is no full tree")
    return codes


def huffman_symbols(stream, count, tables):
    symbols, field = np.zeros(count, np.uint8), Reader(stream).bits()
    for index in range(count):
        length = code = 0
        while (length, code) not in tables[index % 2]:
            length, code = length + 1, code << 1 | field(1)
        symbols[index] = tables[index % 2][length, code]
    return symbols


def rans_table(reader):  # section 7: for each slot its symbol, the symbol's frequency, the distance from its first slot
    largest, field, slots = reader.take(1)[0], reader.bits(), []
    for symbol in range(largest + 1):
        length = field(4)
        frequency = 1 << length - 1 | field(length - 1) if length else 0
        slots += [(symbol, frequency, distance) for distance in range(frequency)]
    require(len(slots) == 4096, "frequencies do not add up to 4096")
    return slots


def rans_symbols(stream, count, tables):
    reader, symbols = Reader(stream), np.zeros(count, np.uint8)
    states = [int.from_bytes(reader.take(4), "little") for _ in range(0 if not count else 1 if count < 4096 else 8)]
    for index in range(count):
        state = states[index % len(states)]
        symbols[index], frequency, distance = tables[index % 2][state % 4096]
        state = frequency * (state >> 12) + distance
        if state < 1 << 16:
            state = state << 16 | int.from_bytes(reader.take(2), "little")
        states[index % len(states)] = state
    require(all(state == 1 << 16 for state in states), "a stream does not end in the initial state")
    return symbols


def plane(reader, size, coder):  # section 5
    if size == 0:
        return np.zeros(0, np.uint8)
    mode = reader.take(1)[0]
    if mode == 0:
        return np.frombuffer(reader.take(size), np.uint8)
    if mode == 3:
        return np.full(size, reader.take(1)[0], np.uint8)
    require(mode in (1, 2), "a plane has an unknown mode")
    table, symbols_of = [(huffman_table, huffman_symbols), (rans_table, rans_symbols)][coder]
    symbols = np.full(size, reader.take(1)[0] if mode == 2 else 0, np.uint8)
    tables = [table(reader) for _ in range(mode)]
    chunks = [symbols[start : start + 262_144] for start in range(0, size, 262_144)]
    for chunk, sizes in zip(chunks, [[reader.varint() for _ in range(mode)] for _ in chunks]):
        count = 2 * sizes[0] if mode == 2 else len(chunk)
        coded = symbols_of(reader.take(sizes[-1]), count, [tables[0], tables[-1]])
        if mode == 1:
            chunk[:] = coded
        else:
            chunk[np.cumsum(coded[0::2].astype(int) + 1) - 1] = coded[1::2]
    return symbols


def values(reader, dtype, size, coder):  # section 4
    width = np.dtype(DTYPES[dtype]).itemsize
    planes = [plane(reader, size, coder) for _ in range(width)]
    if width > 1:
        words = np.stack(planes, axis=1).reshape(-1).view(f">u{width}").astype(f"<u{width}")
        planes = [words >> words.dtype.type(1) | words << words.dtype.type(8 * width - 1)]
    return planes[0].view(DTYPES[dtype])


def numbers(reader, size, coder):
    if size == 0:
        return np.zeros(0, int)
    base, shift = reader.varint(), reader.take(1)[0]
    high = plane(reader, size, coder).astype(int) << shift
    return high + (base >> 1 ^ -(base & 1)) + (plane(reader, size, coder) if shift else 0)


def static_parts(record, stream):
    """Side table and elements of a weight of the coders 0 and 1."""
    reader, size, dtype, coder, table = Reader(stream), record.size, record.dtype, record.coder, None
    if record.form == 0:
        return None, values(reader, dtype, size, coder)
    if record.form == 1:
        mask = plane(reader, size, coder).astype(bool)
        return None, spread(mask, values(reader, dtype, record.stored, coder))
    if record.form == 2:
        table = values(reader, dtype, record.table_size, coder)
    elif record.form > 4:
        table = plane(reader, record.table_size, coder).view(np.int8)
    return table, numbers(reader, size, coder)


def small_parts(record, own, shared):  # section 8
    """Side table and elements of a weight of the coder 2."""
    if not own:
        table = small_table(record, shared)
        return table, small_elements(record, shared, table, record.size)
    table, parts, left = small_table(record, Small(own[0])), [], record.size
    for stream in own[1:]:
        parts.append(small_elements(record, Small(stream), table, min(left, record.chunk)))
        left -= len(parts[-1])
    return table, np.concatenate(parts)


def from_patterns(patterns, dtype):
    return np.array(patterns, f"<u{np.dtype(DTYPES[dtype]).itemsize}").view(DTYPES[dtype])


def small_table(record, stream):
    if record.form == 2:
        return from_patterns(stream.sorted_floats(record.table_size, *WIDTHS[record.dtype]), record.dtype)
    if record.form > 4:
        return np.array(stream.levels(record.table_size, record.table_size, 1, False), np.int8)


def small_elements(record, stream, table, size):
    layout, dtype = (size, record.row_length, record.kernel_size), record.dtype
    if record.form == 0 and dtype > 3:
        return (np.array(stream.levels(*layout, False), int) + (0, 128)[dtype == 5]).astype(DTYPES[dtype])
    if record.form == 0:
        return from_patterns(stream.floats(size, *WIDTHS[dtype]), dtype)
    if record.form == 1:
        mask = np.array(stream.mask(*layout), bool)
        return spread(mask, from_patterns(stream.floats(int(mask.sum()), *WIDTHS[dtype]), dtype))
    if record.form == 2:
        patterns = table.view(f"<u{table.itemsize}").tolist()
        return np.array(stream.codes(*layout, patterns, 8 * table.itemsize), int)
    return np.array(stream.levels(*layout, record.form in (4, 6)), int)


def spread(mask, stored):
    dense = np.zeros(len(mask), stored.dtype)
    dense[mask] = stored
    return dense


class Record:  # section 3
    def __init__(self, reader):
        kind, arrangement = reader.take(2)
        self.dtype, self.form, self.coder = kind & 7, kind >> 3 & 7, kind >> 6
        require(self.dtype < 6 and self.form < 7 and self.coder < 3, "an unknown type, form or coder")
        rank = arrangement & 15 if arrangement & 15 < 15 else reader.varint()
        self.shape = [reader.varint() for _ in range(rank)]
        row = self.shape[max(1, min((arrangement >> 4) + 1, rank - 1)) :] if rank > 1 else self.shape
        self.size, self.row_length = prod(self.shape), prod(row)
        self.kernel_size = prod(row[1:]) if rank > 1 else 1
        self.stored = reader.varint() if self.form == 1 else 0
        self.table_size = reader.varint() if self.form == 2 else 0
        self.step = np.frombuffer(reader.take(4), "<f4")[0] if self.form > 2 else None
        if self.form > 4:
            self.inner, self.table_size = reader.varint(), reader.varint()
        self.chunk = (1 << 20) // max(self.row_length, 1) * self.row_length or 1 << 20
        streams = 1 if self.coder < 2 else 0 if self.size <= 1 << 20 else 1 + -(-self.size // self.chunk)
        self.stream_sizes = [reader.varint() for _ in range(streams)]

    def dense(self, table, elements):
        if self.form < 2:
            return elements
        if self.form == 2:
            return table[elements]
        if self.form in (4, 6):
            elements = multiples(elements)
        steps = self.step
        if self.form > 4:
            quarters = np.array([0x3F800000, 0x3F9837F0, 0x3FB504F3, 0x3FD744FD], "<u4").view("<f4")
            steps = steps * (quarters[table % 4] * np.exp2((table // 4).astype("<f4")))
            steps = steps[np.arange(self.size) // self.inner % self.table_size]
        return rounded(elements.astype("<f4") * steps, self.dtype)


def multiples(levels):
    result, state = np.zeros(len(levels), int), 0
    for index, level in enumerate(levels.tolist()):
        result[index] = 2 * level - (state & 1) * ((level > 0) - (level < 0))
        state = (state ^ state >> 1) & 1 | (state >> 2 ^ level & 1) << 1 | (state & 1) << 2
    return result


def rounded(floats, dtype):
    if dtype == 2:
        bits = floats.view("<u4").astype("<u8")
        return (bits + 0x7FFF + (bits >> 16 & 1) >> 16).astype("<u2")
    if dtype > 3:
        limits = np.iinfo(DTYPES[dtype])
        floats = np.clip(np.trunc(floats.astype(float) + np.copysign(0.5, floats)), limits.min, limits.max)
    return floats.astype(DTYPES[dtype])


def decode(payload):  # section 2
    require(payload[:2] == b"\xdc\x0d", "this is no weight payload")
    require(zlib.crc32(payload[:-4]) == int.from_bytes(payload[-4:], "little"), "the payload is damaged")
    reader = Reader(payload[2:-4])
    require(reader.take(1)[0] == 1, "the payload has another format version")
    records = [Record(reader) for _ in range(reader.varint())]
    streams = [[reader.take(size) for size in record.stream_sizes] for record in records]
    shared, weights = Small(reader.data[reader.at :]), []
    for record, own in zip(records, streams):
        if record.coder < 2:
            parts = static_parts(record, own[0])
        else:
            parts = small_parts(record, own, shared)
        weights.append(record.dense(*parts).reshape(record.shape))
    return weights


def main(source, target):
    data = open(source, "rb").read()
    if data[:2] == b"\xdc\x0d":
        arrays = {f"weight_{index}": array for index, array in enumerate(decode(data))}
    else:
        import onnx
        from onnx import numpy_helper

        graph, arrays = onnx.load(source).graph, {}
        tensors = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "DcompDecode":
                payload = numpy_helper.to_array(tensors[node.input[0]]).tobytes()
                arrays.update(zip(node.output, decode(payload)))
    np.savez(target, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
