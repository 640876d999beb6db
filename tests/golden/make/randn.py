"""Makes `randn.safetensors`: PyTorch's CPU generator, as 32-bit integers and as normals.

Both are also computed here from scratch (`Twister`) and must agree: the integers exactly, the normals within the gate.
"""

import math

import numpy as np

from common import torch, write_tensors

SEEDS = [0, 1, 42, 123456789, 2**32 - 1, 2**32 + 5, 2**53 - 1]
LENGTHS = [1, 5, 15, 16, 17, 31, 64, 100, 1000]
INTEGERS = 2000
GATE = 5e-7


def generator(seed):
    return torch.Generator("cpu").manual_seed(seed)


def raw(seed):
    """The first outputs of the Mersenne Twister, whole.

    `random_(0, r)` with a small r is one 32-bit output modulo r. Two generators in step, read modulo 2**16 and modulo
    2**16 + 1, give an output x = low + 2**16 k back: 2**16 is -1 modulo 65537, so k = low - other.
    """
    low = torch.empty(INTEGERS, dtype=torch.int64).random_(0, 65536, generator=generator(seed))
    other = torch.empty(INTEGERS, dtype=torch.int64).random_(0, 65537, generator=generator(seed))
    return low + 65536 * ((low - other) % 65537)


def main():
    tensors = {}
    for seed in SEEDS:
        whole = raw(seed)
        check = Twister(seed)
        assert whole.tolist() == [check.integer() for _ in range(INTEGERS)], seed
        # As i64, because every reader has it; each value is a u32.
        tensors[f"u32.{seed}"] = whole
        for n in LENGTHS:
            tensors[f"randn.{seed}.{n}"] = agreed(torch.randn(n, generator=generator(seed)), Twister(seed))
        for lengths in ((16, 7), (5, 5, 64), (15, 1, 16), (17, 3, 3)):
            g, check = generator(seed), Twister(seed)
            name = "-".join(map(str, lengths))
            for i, n in enumerate(lengths):
                tensors[f"sequence.{seed}.{name}.{i}"] = agreed(torch.randn(n, generator=g), check)
    # A shape draws as its flat length does; stored once to say so.
    flat = torch.randn(1 * 4 * 8 * 12, generator=generator(42))
    shaped = torch.randn((1, 4, 8, 12), generator=generator(42))
    assert torch.equal(flat, shaped.flatten())
    write_tensors("randn.safetensors", tensors)


def agreed(theirs, check):
    assert np.abs(theirs.double().numpy() - check.normals(len(theirs))).max() <= GATE
    return theirs


class Twister:
    """MT19937 as published, seeded with the low 32 bits, and the two ways PyTorch makes normals of it."""

    def __init__(self, seed):
        self.state, self.index, self.kept = [seed & 0xFFFFFFFF], 624, None
        for j in range(1, 624):
            last = self.state[-1]
            self.state.append((1812433253 * (last ^ (last >> 30)) + j) & 0xFFFFFFFF)

    def integer(self):
        state = self.state
        if self.index == 624:
            for k in range(624):
                y = (state[k] & 0x80000000) | (state[(k + 1) % 624] & 0x7FFFFFFF)
                state[k] = state[(k + 397) % 624] ^ (y >> 1) ^ (0x9908B0DF if y & 1 else 0)
            self.index = 0
        y = state[self.index]
        self.index += 1
        y ^= y >> 11
        y ^= (y << 7) & 0x9D2C5680
        y ^= (y << 15) & 0xEFC60000
        return y ^ (y >> 18)

    def normals(self, n):
        return np.array([self.normal() for _ in range(n)]) if n < 16 else self.blocks(n)

    def normal(self):
        """One at a time in f64, from pairs; the second of a pair waits for the next short draw."""
        if self.kept is not None:
            value, self.kept = self.kept, None
            return value
        u1, u2 = self.fraction(), self.fraction()
        radius, angle = math.sqrt(-2 * math.log1p(-u2)), 2 * math.pi * u1
        self.kept = radius * math.sin(angle)
        return radius * math.cos(angle)

    def fraction(self):
        high, low = self.integer(), self.integer()
        return (((high << 32) | low) & (2**53 - 1)) / 2**53

    def blocks(self, n):
        """Sixteen at a time from 24-bit uniforms, all drawn first; a ragged end draws its last sixteen anew.

        In f32 at every operation: an angle kept in f64 lands further away than the gate.
        """
        uniform = lambda count: np.array([(self.integer() & 0xFFFFFF) / 2**24 for _ in range(count)], np.float32)
        values = uniform(n)
        for start in [*range(0, n - 15, 16), *([n - 16] if n % 16 else [])]:
            if start % 16:
                values[start:] = uniform(16)
            first, second = values[start : start + 8], values[start + 8 : start + 16]
            radius = np.sqrt(np.float32(-2) * np.log(np.float32(1) - first))
            angle = np.float32(2 * np.pi) * second
            values[start : start + 16] = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
        return values


if __name__ == "__main__":
    main()
