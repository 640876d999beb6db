"""Makes `randn.safetensors`: PyTorch's CPU generator, as 32-bit integers and as normals."""

from common import torch, write_tensors

SEEDS = [0, 1, 42, 123456789, 2**32 - 1, 2**32 + 5, 2**53 - 1]
LENGTHS = [1, 5, 15, 16, 17, 31, 64, 100, 1000]
INTEGERS = 2000


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
        check = twister(seed, INTEGERS)
        assert whole.tolist() == check, seed
        # As i64, because every reader has it; each value is a u32.
        tensors[f"u32.{seed}"] = whole
        for n in LENGTHS:
            tensors[f"randn.{seed}.{n}"] = torch.randn(n, generator=generator(seed))
        for lengths in ((16, 7), (5, 5, 64), (15, 1, 16), (17, 3, 3)):
            g = generator(seed)
            name = "-".join(map(str, lengths))
            for i, n in enumerate(lengths):
                tensors[f"sequence.{seed}.{name}.{i}"] = torch.randn(n, generator=g)
    # A shape draws as its flat length does; stored once to say so.
    flat = torch.randn(1 * 4 * 8 * 12, generator=generator(42))
    shaped = torch.randn((1, 4, 8, 12), generator=generator(42))
    assert torch.equal(flat, shaped.flatten())
    write_tensors("randn.safetensors", tensors)


def twister(seed, count):
    """MT19937 as published, seeded with the low 32 bits: proof that the stored integers are its outputs."""
    state = [seed & 0xFFFFFFFF]
    for j in range(1, 624):
        state.append((1812433253 * (state[-1] ^ (state[-1] >> 30)) + j) & 0xFFFFFFFF)
    out, index = [], 624
    while len(out) < count:
        if index == 624:
            for k in range(624):
                y = (state[k] & 0x80000000) | (state[(k + 1) % 624] & 0x7FFFFFFF)
                state[k] = state[(k + 397) % 624] ^ (y >> 1) ^ (0x9908B0DF if y & 1 else 0)
            index = 0
        y = state[index]
        index += 1
        y ^= y >> 11
        y ^= (y << 7) & 0x9D2C5680
        y ^= (y << 15) & 0xEFC60000
        out.append(y ^ (y >> 18))
    return out


if __name__ == "__main__":
    main()
