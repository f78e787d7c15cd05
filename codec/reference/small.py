"""The coder `small`, FORMAT.md section 8: bits whose chances are learnt, mixed and forecast, in integers alone."""

SQUASH, STRETCH, power = [0] * 4096, [-2048], 1 << 60
for x in range(2048):
    SQUASH[2048 - x], SQUASH[2048 + x] = 65536 * power // ((1 << 60) + power), (1 << 76) // ((1 << 60) + power)
    power = power * 1148426689630428644 >> 60
SQUASH[0] = SQUASH[1]
for p in range(4096):
    STRETCH.append(next((x for x in range(STRETCH[-1], 2048) if SQUASH[x + 2048] >= 16 * p + 8), 2047))
del STRETCH[0]


def clamp(x, low, high):
    return low if x < low else high if x > high else x


def log2(x):
    return x.bit_length() - 1


def octaves(x, parts=1):
    return (log2(x | 1) << parts) + ((x | 1) << parts >> log2(x | 1)) - (1 << parts)


class Small:
    """One stream. A slot is [chance, count]; the slots and mixers of a model lie in a dictionary, by their keys."""

    def __init__(self, data):
        self.data, self.at, self.models = data, 4, {}
        self.range, self.code = 2**32 - 1, int.from_bytes((data + bytes(4))[:4], "big")

    def widen(self):
        while self.range < 1 << 24:
            byte = self.data[self.at] if self.at < len(self.data) else 0
            self.range, self.code, self.at = self.range << 8, self.code << 8 | byte, self.at + 1
        if self.at > len(self.data) + 4:
            raise ValueError("an adaptive stream is truncated")

    def bit(self, chance):
        bound = self.range * chance >> 16
        bit = int(self.code < bound)
        self.range, self.code = (bound, self.code) if bit else (self.range - bound, self.code - bound)
        self.widen()
        return bit

    def raw(self, count):
        value = 0
        while count > 0:
            few = min(count, 16)
            self.range >>= few
            bits = min(self.code // self.range, (1 << few) - 1)
            self.code, value, count = self.code - bits * self.range, value << few | bits, count - few
            self.widen()
        return value

    def direct(self, model, *key):
        slot = model.setdefault(key, [1 << 21, 0])
        return learn(slot, self.bit(clamp(slot[0] >> 6, 16, 65520)))

    def tree(self, model, key, bits):
        node = 1
        for _ in range(bits):
            node = 2 * node + self.direct(model, key, node)
        return node - (1 << bits)

    def mixed(self, model, keys, mixer, start):
        weights = model.setdefault(mixer, [start] * len(keys))
        slots = [model.setdefault((table, *key), [1 << 21, 0]) for table, key in enumerate(keys)]
        for slot in slots:
            if slot[1] == 0:
                slot[:] = slots[0][0], min(slots[0][1], 3)
        inputs = [STRETCH[slot[0] >> 10] for slot in slots]
        total = sum(s * weight >> 4 for s, weight in zip(inputs, weights)) >> 12
        chance = clamp(SQUASH[clamp(total, -2047, 2047) + 2048], 16, 65520)
        bit = self.bit(chance)
        error = ((bit << 16) - chance) * 6 >> 6
        weights[:] = [clamp(w + (s * error + 8192 >> 14), -(1 << 19), 1 << 19) for s, w in zip(inputs, weights)]
        for slot in slots:
            learn(slot, bit)
        return bit

    def elements(self, kind, count, row_length, kernel_size, read):
        """What `read` makes of each element: pairs of the element and its value."""
        model = self.models.setdefault(kind, {"start": 256})
        R = clamp(row_length, 1, max(count, 1))
        K = clamp(kernel_size, 1, R)
        W = next((side for side in range(1, K + 1) if side * side == K), K)
        distances = [1, 2, W-1, W, W+1, W+2, 2*W-1, 2*W, 2*W+1, 2*W+2, K, 2*K, K-1, K+1, 3*K, 0]
        distances, group = (distances, K == 9) if K > 1 else ([*range(1, 16), 0], 2)
        first, start, result = 3 * K + 16, model["start"], []
        line, P, C, Q = [0] * (first + R), [start] * R, [start] * -(-R // K), [start] * K
        row = everything = recent = start
        for index in range(count):
            place, column, position = index % R, index % R // K, index % R % K
            v = lambda distance: line[first + place - distance]
            m = lambda distance: abs(v(distance)) << 8
            over = m(W) if position >= W else Q[position]
            E = m(1) + over + m(K) + m(0) + Q[position] + 2 * P[place] + 3 * C[column] + 4 * row + 2 * recent >> 4
            scaled = lambda value: clamp(value << 16 >> log2(E | 16), -4095, 4095)
            rule, taps, f = [[0] * 16, 0], [0] * 16, 0
            if K > 1 or count <= 1 << 19:
                rule = model.setdefault(("rule", group, min(position, 63)), rule)
                taps = [scaled(v(distance)) for distance in distances]
                f = sum(weight * tap for weight, tap in zip(rule[0], taps)) >> 14
            g = clamp(octaves(abs(f)) - 8, 0, 11)
            H = lambda *scales: [min(octaves(scale), 31) for scale in scales]
            keys = [[octaves(E, 2), g, 0], H(row, C[column]), H((2 * m(1) + m(2)) // 3, recent),
                    H(P[place], (over + m(K)) // 2), [min(position, 63), g, 0], H(everything, Q[position])]
            s = lambda distance, near=True: (v(distance) > 0) + 2 * (v(distance) < 0) if near else 0
            left, up = s(1, position > 0 or K == 1), s(W, position >= W)
            signs = [("sign", g, f < 0), ("sign", left, up, s(K)), ("sign", s(0), s(K)), ("sign", left, up)]
            element, value = read(Element(self, model, keys, signs, H(E)[0], f, g))
            result.append(element)
            error, rule[1] = clamp(scaled(value) - f, -1023, 1023), rule[1] + 1
            z = 12 + min(3, log2(rule[1] // 512 + 1))
            rule[0] = [clamp(w + (error * t + (1 << z - 1) >> z), -32000, 32000) for w, t in zip(rule[0], taps)]
            line[first + place], size = value, abs(value) << 8
            for averages, at, shift in (P, place, 3), (C, column, 5), (Q, position, 6):
                averages[at] += size - averages[at] >> shift
            row, everything = row + (size - row >> 5), everything + (size - everything >> 9)
            recent += size - recent >> 3
            if place == R - 1:
                row = (row + everything) // 2
        model["start"] = everything
        return result

    def levels(self, count, row_length, kernel_size, trellis):
        state = 0

        def read(element):
            nonlocal state
            odd = state & 1 if trellis else 0
            level = element.level(odd)
            state = (state ^ state >> 1) & 1 | (state >> 2 ^ level & 1) << 1 | (state & 1) << 2
            return level, 2 * level - odd * ((level > 0) - (level < 0))

        return self.elements("levels", count, row_length, kernel_size, read)

    def mask(self, count, row_length, kernel_size):
        def read(element):
            bit = element.bit(0)
            return bit, 2 * bit

        return self.elements("mask", count, row_length, kernel_size, read)

    def codes(self, count, row_length, kernel_size, centroids, width):
        """`centroids` are bit patterns of `width` bits."""
        zero = int(len(centroids) > 0 and centroids[0] == 0)
        below = next((i for i, bits in enumerate(centroids[zero:]) if not bits >> width - 1), len(centroids) - zero)
        above, own = len(centroids) - zero - below, {}

        def read(element):
            if below + above == 0 or zero and not element.bit(0):
                return 0, 0
            negative = element.sign() if below and above else int(below > 0)
            rank = element.rank(own, negative, max(below, above), below if negative else above)
            return (zero + below - 1 - rank, -2 * rank - 2) if negative else (zero + below + rank, 2 * rank + 2)

        return self.elements("codes", count, row_length, kernel_size, read)

    def floats(self, count, exponent_bits, mantissa_bits):
        """Bit patterns; 8-bit integers have 7 bits of exponent and none of mantissa."""
        model, patterns, a, b, sign = self.models.setdefault((exponent_bits, mantissa_bits), {}), [], 0, 0, 0
        for _ in range(count):
            sign, node, mantissa = self.direct(model, "sign", sign), 1, 0
            for depth in range(exponent_bits):
                keys = [("exponent", node), ("exponent", a % 32, node), ("exponent", (a + b) // 2 % 32, node)]
                node = 2 * node + self.mixed(model, keys, depth, 26000)
            a, b = node - (1 << exponent_bits), a
            if mantissa_bits:
                mantissa, place = self.tree(model, ("top", a), 2) << mantissa_bits - 2, 0
                while place < mantissa_bits - 2 and not self.direct(model, "low", place):
                    place += 1
                if place < mantissa_bits - 2:
                    mantissa |= (2 * self.raw(mantissa_bits - 3 - place) + 1) << place
            patterns.append((sign << exponent_bits | a) << mantissa_bits | mantissa)
        return patterns

    def sorted_floats(self, count, exponent_bits, mantissa_bits):
        width, y, key = 1 + exponent_bits + mantissa_bits, 0, None
        model, top = self.models.setdefault((exponent_bits, mantissa_bits), {}), 1 << width - 1
        patterns = [0] if count and self.direct(model, "sign", 2) else []
        while len(patterns) < count:
            if key is None:
                key = self.raw(width)
            else:
                x = (patterns[-1] & top - 1) >> mantissa_bits
                length = min(self.tree(model, ("length", clamp(y - x, -1, 127) % 128), 7), width)
                few = clamp(length - 1, 0, 2)
                gap = (1 << few | self.tree(model, ("gap", length), few)) << length - 1 - few if length else 0
                key, y = (key + gap + self.raw(length - 1 - few)) % (2 * top), length + x
            patterns.append(key ^ top if key & top else key ^ 2 * top - 1)
        return patterns


class Element:
    """What is expected of one element of a model, and what is read of it."""

    def __init__(self, stream, model, keys, signs, H, f, g):
        self.stream, self.model, self.keys, self.signs, self.H, self.f, self.g = stream, model, keys, signs, H, f, g

    def bit(self, number, odd=0):
        keys = [(*key, odd, number) for key in self.keys]
        q = self.keys[0][0]
        s = (4 + q % 4 << q // 4) >> 2
        chance = 64 * clamp((s << 16) // (s + (256 << max(number - 1, 0))), 64, 65472)
        self.model.setdefault((0, *keys[0]), [chance, 2])
        return self.stream.mixed(self.model, keys, ("mixer", odd, number), 13107)

    def sign(self):
        negative = self.stream.mixed(self.model, self.signs, "signs", 16000)
        self.keys[0][2] = self.keys[4][2] = int(negative != (self.f < 0))
        return negative

    def level(self, odd):
        if not self.bit(0, odd):
            return 0
        negative, magnitude, r, length = self.sign(), 1, 1, 0
        while magnitude < 3 and self.bit(magnitude, odd):
            magnitude += 1
        if magnitude == 3:
            while length < 13 and self.bit(3 + length, odd):
                length += 1
            length += self.stream.bit(32768) if length == 13 else 0
            for place in range(length):
                r = 2 * r + (self.stream.direct(self.model, "rest", length, r) if place < 3 else self.stream.bit(32768))
            magnitude = r + 2
        return clamp(-magnitude if negative else magnitude, -32768, 32767)

    def rank(self, own, negative, most, limit):
        rank, node, bits = 0, 1, (most - 1).bit_length()
        for depth in range(bits):
            bit, weight = 0, 1 << bits - 1 - depth
            if rank + weight < limit and depth < 8:
                agreement = self.g + 12 * (negative == (self.f < 0))
                keys = [("own", negative, node), ("expected", self.H, node), ("agreement", agreement, node)]
                self.model[(0, *keys[0])] = own.setdefault((negative, node), [1 << 21, 0])
                bit = self.stream.mixed(self.model, keys, ("rank", depth), 30000)
            elif rank + weight < limit:
                bit = self.stream.direct(own, negative, node)
            rank, node = rank + bit * weight, 2 * node + bit
        return rank


def learn(slot, bit):
    slot[0] += ((4194303 if bit else 0) - slot[0]) * (131072 // (2 * slot[1] + 3)) >> 16
    slot[1] = min(slot[1] + 1, 255)
    return bit
