"""A second decoder of weight payloads, written from FORMAT.md, whose sections it names: to be read, not to be fast.

python decode.py payload.bin out.npz    arrays weight_0, weight_1, ... (bfloat16 as its bit patterns, in uint16)
python decode.py model.onnx out.npz     the same by tensor name, from every node of ours in a packed model
It trusts the encoder further than FORMAT.md allows: not everything that is to be refused is.
"""
import itertools, math, operator, sys, zlib; import numpy as np
# Section 3: the element types by number (bfloat16 as bits), and their bits of exponent and mantissa (section 8.5).
DTYPES = [np.dtype(name) for name in ("<f4", "<f2", "<u2", "<f8", "i1", "u1")]
FIELDS = [(8, 23), (5, 10), (8, 7), (11, 52), (7, 0), (7, 0)]
DENSE, SPARSE, CODEBOOK = range(3)  # the others are grids: 4 and 6 with a trellis, 5 and 6 with channels, 7 a lattice
PITCHES = [[1 << 16], [1 << 16] * 3 + [1 << 17], [1 << 15] + [1 << 16] * 6 + [1 << 17]]  # of the lattices Z, D4, E8
QUARTERS = np.array([0x3F800000, 0x3F9837F0, 0x3FB504F3, 0x3FD744FD], "<u4").view("<f4")
# Section 8.2: a slot is the integer chance << 8 | count; one that no table holds yet is NEW.
WORD, NEW, RATE, POWERS = 2**64 - 1, 1 << 29, [131072 // (2 * count + 3) for count in range(256)], [1 << 60]
for _ in range(2047): POWERS.append(POWERS[-1] * 1148426689630428644 >> 60)
SQUASH = [65536 * e // (2**60 + e) for e in POWERS[-1:] + POWERS[:0:-1]] + [2**76 // (2**60 + e) for e in POWERS]
STRETCH = (np.searchsorted(SQUASH, np.arange(4096) * 16 + 8).clip(max=4095) - 2048).tolist()

def require(condition, message):
    if not condition: raise ValueError(message)
def clamp(number, low, high): return low if number < low else high if number > high else number
# Section 1: bit fields are read from a text of 0 and 1. Section 3: the trellis. Section 8.3: h, q with parts = 2, H.
def bit_text(data): return bin(int.from_bytes(b"\1" + data, "big"))[3:]
def next_state(state, level): return (state ^ state >> 1) & 1 | (state >> 2 ^ level & 1) << 1 | (state & 1) << 2
def octaves(x, parts=1): return ((x | 1).bit_length() - 2 << parts) + ((x | 1) << parts >> (x | 1).bit_length() - 1)
def H(x, h): return min(octaves((x << 16) // h), 31)
# Section 8.2: the keys of slots in tables from `table` on, with 20 bits left for an offset; a slot behind a bit.
def keys_of(table, *contexts): return [context << 24 | at << 20 for at, context in enumerate(contexts, table)]
def learned(x, bit): return x + (((4194303 * bit - (x >> 8)) * RATE[x & 255] >> 16) << 8) + (x & 255 < 255)

def course(levels, has_trellis=False, pitches=(1 << 16,), seed=None, first=0):
    """Of each element pitch and lean, and 1 where the trellis is odd: sections 3, 8.3. Levels may grow meanwhile."""
    state, points = 0, [0]
    for index in itertools.count(first):
        x = (seed or 0) + (index + 1) * 0x9E3779B97F4A7C15 & WORD
        for shift, factor in (30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB): x = (x ^ x >> shift) * factor & WORD
        u, place = 0 if seed is None else (x ^ x >> 31) >> 47, index % len(pitches)
        h, points = pitches[place], points if place else [0]
        lean = (u - (-sum(points) if h > 1 << 16 else points[-1]) + h // 2) % h - h // 2
        yield h, lean, state & 1
        points.append(levels[index - first] * h - lean + u)
        if has_trellis: state = next_state(state, levels[index - first])

class Reader:  # of bytes and varints, section 1; of values, numbers and planes of the coders 0 and 1, sections 4 to 7
    def __init__(self, data, coder=0): self.data, self.at, self.coder = data, 0, coder
    def take(self, size):
        require(size <= len(self.data) - self.at, "the payload is truncated")
        self.at += size
        return self.data[self.at - size : self.at]
    def varint(self): return (byte := self.take(1)[0]) & 127 | (self.varint() << 7 if byte > 127 else 0)
    def floats(self, size, dtype, is_sorted=False):  # section 4
        width = DTYPES[dtype].itemsize
        words = np.stack([self.plane(size) for _ in range(width)], 1).view(f">u{width}")[:, 0].astype(f"<u{width}")
        if width > 1: words = words >> words.dtype.type(1) | words << words.dtype.type(8 * width - 1)
        return words.view(DTYPES[dtype])
    def elements(self, kind, size, *layout):
        if size == 0 or kind in ("mask", "exponents"): return self.plane(size).view(np.int8).astype(int)
        base, shift = self.varint(), self.take(1)[0]
        return (base >> 1 ^ -(base & 1)) + (self.plane(size).astype(int) << shift) + (self.plane(size) if shift else 0)
    def plane(self, size):  # section 5
        if size == 0 or (mode := self.take(1)[0]) == 0: return np.frombuffer(self.take(size), np.uint8)
        symbols = np.full(size, self.take(1)[0] if mode > 1 else 0, np.uint8)
        tables = [self.table() for _ in range((0, 1, 2, 0)[mode])]
        chunks = [symbols[start : start + 262_144] for start in range(0, size, 262_144)] if tables else []
        for chunk, sizes in zip(chunks, [[self.varint() for _ in tables] for _ in chunks]):
            count = len(chunk) if mode == 1 else 2 * min(sizes[0], len(chunk) + 1)
            coded = np.array(self.symbols(self.take(sizes[-1]), count, tables[0], tables[-1]), int)
            chunk[np.arange(count) if mode == 1 else np.cumsum(coded[0::2] + 1) - 1] = coded[mode - 1 :: mode]
        return symbols
    def table(self):  # 4096 slots: symbol and length of its code (section 6), or its frequency and distance (section 7)
        largest, text, at, entries = self.take(1)[0], bit_text(self.data[self.at :][:512]), 0, []
        for symbol in range(largest + 1):
            length = int(text[at : at + 4], 2)
            more = length - 1 if self.coder and length else 0
            frequency = int("1" + text[at + 4 :][:more], 2) if self.coder else 4096 >> length
            if length: entries.append((0 if self.coder else length, symbol, frequency))
            at += 4 + more
        self.take(-(-at // 8))
        if len(entries) == 1: entries = [(0, entries[0][1], 4096)]
        slots = [(s, length, f, distance) for length, s, f in sorted(entries) for distance in range(f)]
        require(len(slots) == 4096, "the slots of a table do not add up")
        return slots
    def symbols(self, stream, count, *tables):
        reader, symbols, text, at = Reader(stream), [], bit_text(stream + bytes(2)) if self.coder == 0 else "", 0
        lanes = (1 if count < 4096 else 8) if self.coder and count else 0
        states = [int.from_bytes(reader.take(4), "little") for _ in range(lanes)]
        for index in range(count):
            slot = states[index % lanes] & 4095 if self.coder else int(text[at : at + 12], 2)
            symbol, length, frequency, distance = tables[index % 2][slot]
            symbols.append(symbol)
            at += length
            if self.coder:
                state = frequency * (states[index % lanes] >> 12) + distance
                states[index % lanes] = state if state >> 16 else state << 16 | int.from_bytes(reader.take(2), "little")
        require(at <= 8 * len(stream) and set(states) <= {1 << 16}, "a stream does not end as it should")
        return symbols

class Small:  # a stream of the coder 2, section 8; a model is a dictionary of slots, mixers and rules by their keys
    def __init__(self, data):
        self.data, self.at, self.models = data + bytes(4), 4, {}
        self.range, self.code = 2**32 - 1, int.from_bytes(self.data[:4], "big")
    def narrow(self, size, below):  # section 8.1
        self.range, self.code = size, self.code - below
        while self.range < 1 << 24:
            self.range, self.code, self.at = self.range << 8, self.code << 8 | self.data[self.at], self.at + 1
    def bit(self, chance=32768):
        bit = int(self.code < (bound := self.range * chance >> 16))
        self.narrow(*((bound, 0) if bit else (self.range - bound, bound)))
        return bit
    def raw(self, count):
        if count > 16: return self.raw(16) << count - 16 | self.raw(count - 16)
        bits = min(self.code // (size := self.range >> count), (1 << count) - 1)
        self.narrow(size, bits * size)
        return bits
    def direct(self, model, *key):  # section 8.2
        bit = self.bit(clamp((slot := model.get(key, NEW)) >> 14, 16, 65520))
        model[key] = learned(slot, bit)
        return bit
    def tree(self, model, key, bits):
        node = 1
        for _ in range(bits): node = 2 * node + self.direct(model, key, node)
        return node - (1 << bits)
    def mixed(self, model, keys, offset, mixer, start):  # by slots at keys + offset and a mixer's weights
        weights = model.get(mixer) or model.setdefault(mixer, [start] * len(keys))
        slot = model.get(keys[0] + offset, NEW)
        heir = slot if slot & 255 < 4 else slot & ~255 | 3
        slots = [slot] + [model.get(key + offset, heir) for key in keys[1:]]
        inputs = [STRETCH[slot >> 18] for slot in slots]
        total = sum([product >> 4 for product in map(operator.mul, inputs, weights)]) >> 12
        bit = self.bit(chance := clamp(SQUASH[clamp(total, -2047, 2047) + 2048], 16, 65520))
        error = ((bit << 16) - chance) * 6 >> 6
        weights[:] = [clamp(w + (s * error + 8192 >> 14), -524288, 524288) for w, s in zip(weights, inputs)]
        for key, slot in zip(keys, slots): model[key + offset] = learned(slot, bit)
        return bit
    def elements(self, kind, n, row_length, kernel_size, way=(), zero=1, below=1, above=1):
        # Sections 8.3 and 8.4, with their names. A mask is what codes are of zero and one centroid above it.
        model = self.models.setdefault(kind.replace("exponents", "levels"), {"start": 256, "calls": 0})
        K = clamp(kernel_size, 1, R := clamp(row_length, 1, max(n, 1)))
        W = math.isqrt(K) if math.isqrt(K) ** 2 == K else K
        d = [1, 2, *range(W-1, W+3), *range(2*W-1, 2*W+3), K, 2*K, K-1, K+1, 3*K, 0] if K > 1 else [*range(1, 16), 0]
        learns, first, start, result = K > 1 or n <= 1 << 19, 3 * K + 16, model["start"], []
        line, P, C, Q = [0] * (first + R), [start] * R, [start] * -(-R // K), [start] * K
        row, all_, recent, model["calls"] = start, start, start, model["calls"] + 1
        def bit(b):
            chance = clamp(65536 * s // (s + (256 << max(b - 1, 0))), 64, 65472)
            model.setdefault(keys[0] + 16 * odd + b, chance << 14 | 2)
            return self.mixed(model, keys, 16 * odd + b, ("bit", odd, b), 13107)
        def magnitude():  # of a level
            length, r = next((ones for ones in range(15) if not bit(1 + ones)), 15) - 2, 1
            if length < 0: return length + 3
            if length == 13: length += self.bit()
            for place in range(length): r = 2 * r + (self.direct(model, "rest", length, r) if place < 3 else self.bit())
            return min(r + 2, 32767 + negative)
        def rank():  # of a code
            slots = keys_of(10, 2 * model["calls"] + negative, H(E, h), g + 12 * (negative == (f < 0)))
            r, node, w = 0, 1, 1 << (max(below, above) - 1).bit_length() >> 1
            while w:
                bit = r + w < (below if negative else above)
                if bit and node < 256: bit = self.mixed(model, slots, node, ("rank", node.bit_length()), 30000)
                elif bit: bit = self.direct(model, slots[0] + node)
                r, node, w = r + bit * w, 2 * node + bit, w >> 1
            return r + 1
        for i, (h, lean, odd) in zip(range(n), course(result, *way)):
            place, column, position, number = i % R, i % R // K, i % R % K, 0
            here, p, c, q = first + place, P[place], C[column], Q[position]
            v0, v1, v2, vW, vK = line[here], line[here - 1], line[here - 2], line[here - W], line[here - K]
            over, mK = abs(vW) << 8 if position >= W else q, abs(vK) << 8
            E = (abs(v1) + abs(v0) << 8) + over + mK + q + 2 * p + 3 * c + 4 * row + 2 * recent >> 4
            o, site, qE = (E | 16).bit_length() - 1, min(position, 63), octaves((E << 16) // h, 2)
            rule = model.setdefault(("rule", K if K in (1, 9) else 0, site), [0] * 17) if learns else [0] * 17
            taps = [clamp(line[here - distance] << 16 >> o, -4095, 4095) for distance in d] if learns else [0] * 16
            f = (sum(map(operator.mul, rule, taps)) >> 14) + (2 * lean >> o)  # a rule's counter is behind its weights
            g, s, m12 = clamp(octaves(abs(f)) - 8, 0, 11), 4 + qE % 4 << qE // 4 >> 2, (2 * abs(v1) + abs(v2) << 8) // 3
            keys = keys_of(0, 12 * qE + g, 32 * H(row, h) + H(c, h), 32 * H(m12, h) + H(recent, h),
                           32 * H(p, h) + H((over + mK) // 2, h), 12 * site + g, 32 * H(all_, h) + H(q, h))
            if below + above and (not zero or bit(0)):
                negative = int(below > 0)
                if below and above:
                    s0, s1, sW, sK = [(value > 0) + 2 * (value < 0) for value in (v0, v1, vW, vK)]
                    left, up = s1 if position or K == 1 else 0, sW if position >= W else 0
                    contexts = 2 * g + (f < 0), left + 3 * up + 9 * sK, s0 + 3 * sK, left + 3 * up
                    negative = self.mixed(model, keys_of(6, *contexts), 0, "signs", 16000)
                    if negative != (f < 0): keys[0], keys[4] = keys[0] | 1 << 44, keys[4] | 1 << 44  # dis
                number = (magnitude() if kind in ("levels", "exponents") else rank()) * (1 - 2 * negative)
            result.append(number)
            value = number * (h >> 15) - odd * ((number > 0) - (number < 0))
            error, rule[16] = clamp(clamp(value << 16 >> o, -4095, 4095) - f, -1023, 1023), rule[16] + 1
            z = 12 + min(3, (rule[16] // 512 + 1).bit_length() - 1)
            rule[:16] = [clamp(w + (error * t + (1 << z - 1) >> z), -32000, 32000) for w, t in zip(rule, taps)]
            line[here], m = (seen := value + (16384 - lean >> 15)), abs(seen) << 8
            P[place], C[column], Q[position] = p + (m - p >> 3), c + (m - c >> 5), q + (m - q >> 6)
            row, all_, recent = row + (m - row >> 5), all_ + (m - all_ >> 9), recent + (m - recent >> 3)
            if place == R - 1: row = (row + all_) // 2
        model["start"], result = all_, np.array(result, int)
        return np.where(result == 0, 0, zero + below + result - (result > 0)) if kind == "codes" else result
    def floats(self, size, dtype, is_sorted=False):  # section 8.5
        (exponent_bits, mantissa_bits), width = FIELDS[dtype], sum(FIELDS[dtype]) + 1
        model, top = self.models.setdefault(FIELDS[dtype], {}), 1 << width - 1
        patterns, a, b, sign, y, key = [], 0, 0, 0, 0, None
        if is_sorted and size and self.direct(model, "sign", 2): patterns.append(0)
        while is_sorted and len(patterns) < size:
            x = (patterns[-1] & top - 1) >> mantissa_bits if patterns else 0
            if key is None: key = self.raw(width)
            else:
                length = min(self.tree(model, ("length", clamp(y - x, -1, 127) % 128), 7), width)
                few = clamp(length - 1, 0, 2)
                gap = (1 << few | self.tree(model, ("gap", length), few)) << length - 1 - few if length else 0
                key, y = (key + gap + self.raw(max(length - 1 - few, 0))) % (2 * top), length + x
            patterns.append(key ^ top if key & top else key ^ 2 * top - 1)
        while len(patterns) < size:
            sign, node, mantissa, place = self.direct(model, "sign", sign), 1, 0, 0
            keys = keys_of(0, 0, a % 32, (a + b) // 2 % 32)
            for depth in range(exponent_bits): node += node + self.mixed(model, keys, node, ("depth", depth), 26000)
            a, b = node - (1 << exponent_bits), a
            if mantissa_bits:
                mantissa = self.tree(model, ("top", a), 2) << mantissa_bits - 2
                while place < mantissa_bits - 2 and not self.direct(model, "low", place): place += 1
                if place < mantissa_bits - 2: mantissa |= (2 * self.raw(mantissa_bits - 3 - place) + 1) << place
            patterns.append((sign << exponent_bits | a) << mantissa_bits | mantissa)
        return np.array(patterns, f"<u{width // 8}").view(DTYPES[dtype])

class Record:  # of a weight, section 3
    def __init__(self, reader):
        kind, arrangement = reader.take(2)
        self.dtype, self.form, self.coder, rank = kind & 7, kind >> 3 & 7, kind >> 6, arrangement & 15
        self.shape = [reader.varint() for _ in range(rank if rank < 15 else reader.varint())]
        row = self.shape[min((arrangement >> 4) + 1, len(self.shape) - 1) :]
        self.size, self.layout = math.prod(self.shape), (math.prod(row), math.prod(row[1:]))
        self.stored = reader.varint() if self.form == SPARSE else 0
        grid = reader.take(1)[0] if self.form == 7 else 0
        self.way = (self.form in (4, 6), PITCHES[grid & 3], reader.varint() if self.form == 7 else None)
        if self.form == 7: self.form = 5 if grid & 4 else 3
        self.step = np.frombuffer(reader.take(4), "<f4")[0] if self.form > CODEBOOK else None
        self.inner = reader.varint() if self.form > 4 else 1
        self.table_size = reader.varint() if self.form == CODEBOOK or self.form > 4 else 0
        self.chunk = (1 << 20) // max(self.layout[0], 1) * self.layout[0] or 1 << 20  # section 8
        streams = 1 if self.coder < 2 else 0 if self.size <= 1 << 20 else 1 + -(-self.size // self.chunk)
        self.stream_sizes = [reader.varint() for _ in range(streams)]
    def decode(self, streams):  # one for its side table, and one for each chunk of its elements
        table, size = None, self.chunk if len(streams) > 2 else max(self.size, 1)
        if self.form == CODEBOOK: table = streams[0].floats(self.table_size, self.dtype, True)
        if self.form > 4: table = streams[0].elements("exponents", self.table_size, self.table_size, 1)
        starts = zip(range(0, max(self.size, 1), size), streams[1:])
        elements = np.concatenate([self.part(stream, at, min(size, self.size - at), table) for at, stream in starts])
        return (self.on_grid(elements.tolist(), table) if self.form > CODEBOOK else elements).reshape(self.shape)
    def part(self, stream, first, size, table):
        if self.form == DENSE and (self.coder < 2 or self.dtype < 4): return stream.floats(size, self.dtype)
        if self.form == SPARSE:
            mask = stream.elements("mask", size, *self.layout, (), 1, 0, 1) == 1
            dense = np.zeros(size, DTYPES[self.dtype])
            dense[mask] = stream.floats(int(mask.sum()), self.dtype)
            return dense
        if self.form == CODEBOOK:
            zero = int((patterns := table.view(f"u{table.itemsize}").tolist())[:1] == [0])
            below = [pattern >> 8 * table.itemsize - 1 for pattern in patterns[zero:] + [0]].index(0)
            codes = stream.elements("codes", size, *self.layout, (), zero, below, len(patterns) - zero - below)
            return table[codes.astype("u8")]
        levels = stream.elements("levels", size, *self.layout, self.way + (first,))
        return levels if self.form else (levels + (0, 128)[self.dtype - 4]).astype(DTYPES[self.dtype])
    def on_grid(self, levels, table):
        ways, unit = zip(levels, course(levels, *self.way)), 32768 if self.way[0] else 65536  # a step, in parts
        parts = np.array([k * h - lean - ((k > 0) - (k < 0)) * odd * 32768 for k, (h, lean, odd) in ways])
        steps = self.step * np.ldexp(QUARTERS[table % 4], table // 4) if self.form > 4 else np.array([self.step])
        floats = (parts / unit).astype("<f4") * steps[np.arange(self.size) // self.inner % len(steps)]
        bits, away = floats.view("<u4").astype("<u8"), np.trunc(floats.astype(float) + np.copysign(0.5, floats))
        if self.dtype == 2: floats = bits + 0x7FFF + (bits >> 16 & 1) >> 16
        if self.dtype > 3: floats = away.clip(-128, 127) if self.dtype == 4 else away.clip(0, 255)
        return floats.astype(DTYPES[self.dtype])

def decode(payload):  # section 2
    is_sound = payload[:2] == b"\xdc\x0d" and zlib.crc32(payload[:-4]) == int.from_bytes(payload[-4:], "little")
    require(is_sound and payload[2] == 1, "this is no payload, or a damaged one, or of another version")
    reader = Reader(payload[3:-4])
    records = [Record(reader) for _ in range(reader.varint())]
    streams = [[reader.take(size) for size in record.stream_sizes] for record in records]
    shared = Small(reader.data[reader.at :])
    return [record.decode(([Small(data) for data in own] or [shared] * 2) if record.coder == 2
                          else [Reader(own[0], record.coder)] * 2) for record, own in zip(records, streams)]
def tensors(graph, payloads, prefix=""):  # name and values of what our nodes hold, here and in graphs below
    from onnx.numpy_helper import to_array
    payloads = {**payloads, **{tensor.name: tensor for tensor in getattr(graph, "initializer", ())}}
    for node in graph.node:
        for attribute, subgraph in [(a.name, subgraph) for a in node.attribute for subgraph in (a.g, *a.graphs)]:
            yield from tensors(subgraph, payloads, f"{prefix}{node.output[0]}.{attribute}/")
        if node.op_type == "Constant": payloads[node.output[0]] = node.attribute[0].t
        names, at = (node.output, 0) if node.op_type == "DcompDecode" else (node.input[1:2], 1)  # 1: a fused product
        if node.domain == "ai.dcomp":
            yield from zip([prefix + name for name in names], decode(to_array(payloads[node.input[at]]).tobytes()))
def main(source, target):
    data = open(source, "rb").read()
    if data[:2] == b"\xdc\x0d": arrays = {f"weight_{index}": weight for index, weight in enumerate(decode(data))}
    else:
        import onnx; graph = (model := onnx.load(source)).graph
        if [node.op_type for node in graph.node] == ["DcompSession"]:  # a packed model as a whole
            model = onnx.load_from_string(graph.initializer[0].raw_data)
        parts = [(model.graph, "")] + [(function, function.name + "/") for function in model.functions]
        arrays = {name: weight for part, prefix in parts for name, weight in tensors(part, {}, prefix)}
    np.savez(target, **arrays)
if __name__ == "__main__": main(*sys.argv[1:])
