"""An independent forward pass of a Llama-architecture GGUF file, in numpy alone and in double precision.

    cargo run --release -p bilevel-llm --example logits -- MODEL 504 3575 282 > logits.json
    python peers/python/llama_reference.py MODEL logits.json

Compares every logit, and fails above 1e-4 of the largest one. Rotary positions are turned in the order in which the file has
the rows of queries and keys, so that the reordering of the other side is tested as well.
"""

import json
import struct
import sys

import numpy as np

TOLERANCE = 1e-4
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


class Gguf:
    """Metadata and tensors of a file."""

    def __init__(self, path):
        self.data = np.memmap(path, dtype=np.uint8, mode="r")
        self.at = 0
        magic, version, tensors, keys = self.unpack("<4sIQQ")
        assert magic == b"GGUF" and version in (2, 3), (magic, version)
        self.keys = {}
        for _ in range(keys):
            name = self.text()
            (kind,) = self.unpack("<I")
            self.keys[name] = self.value(kind)
        self.tensors = {}
        for _ in range(tensors):
            name = self.text()
            (n,) = self.unpack("<I")
            dims = self.unpack(f"<{n}Q")
            kind, offset = self.unpack("<IQ")
            self.tensors[name] = (dims, kind, offset)
        step = self.keys.get("general.alignment", 32)
        self.begin = -(-self.at // step) * step

    def unpack(self, layout):
        size = struct.calcsize(layout)
        self.at += size
        return struct.unpack(layout, self.data[self.at - size : self.at].tobytes())

    def text(self):
        (n,) = self.unpack("<Q")
        self.at += n
        return self.data[self.at - n : self.at].tobytes().decode()

    def value(self, kind):
        if kind == 8:
            return self.text()
        if kind == 9:
            inner, n = self.unpack("<IQ")
            return [self.value(inner) for _ in range(n)]
        return self.unpack("<" + SCALARS[kind])[0]

    def tensor(self, name):
        """Rows by columns, in double precision."""
        dims, kind, offset = self.tensors[name]
        n = int(np.prod(dims))
        start = self.begin + offset
        if kind == 0:
            values = self.data[start : start + 4 * n].view("<f4").astype(np.float64)
        elif kind == 8:
            blocks = self.data[start : start + n // 32 * 34].reshape(-1, 34)
            scale = np.ascontiguousarray(blocks[:, :2]).view("<f2").astype(np.float64)
            values = scale * blocks[:, 2:].view(np.int8)
        elif kind == 3:
            blocks = self.data[start : start + n // 32 * 20].reshape(-1, 20)
            head = np.ascontiguousarray(blocks[:, :4]).view("<f2").astype(np.float64)
            nibbles = np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1)
            values = head[:, :1] * nibbles + head[:, 1:]
        else:
            raise SystemExit(f"{name}: number format {kind} is not read here")
        return values.reshape(dims[::-1])


def norm(x, weight, epsilon):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * weight


def turn(x, base):
    """Neighbouring numbers of a head are turned together: positions × heads × size."""
    positions, _, size = x.shape
    angle = np.arange(positions)[:, None] * base ** (-np.arange(0, size, 2) / size)
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    out = np.empty_like(x)
    out[..., 0::2] = x[..., 0::2] * cos - x[..., 1::2] * sin
    out[..., 1::2] = x[..., 0::2] * sin + x[..., 1::2] * cos
    return out


def forward(file, tokens):
    def key(name):
        return file.keys["llama." + name]

    heads, groups = key("attention.head_count"), key("attention.head_count_kv")
    epsilon = float(np.float32(key("attention.layer_norm_rms_epsilon")))
    embedding = file.tensor("token_embd.weight")
    x = embedding[tokens]
    n = len(tokens)
    unseen = np.triu(np.ones((n, n), bool), 1)
    for i in range(key("block_count")):

        def part(name, i=i):
            return file.tensor(f"blk.{i}.{name}.weight")

        a = norm(x, part("attn_norm"), epsilon)
        q = turn((a @ part("attn_q").T).reshape(n, heads, -1), key("rope.freq_base"))
        k = turn((a @ part("attn_k").T).reshape(n, groups, -1), key("rope.freq_base"))
        v = (a @ part("attn_v").T).reshape(n, groups, -1)
        k, v = (np.repeat(t, heads // groups, axis=1) for t in (k, v))
        scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(q.shape[-1])
        scores[:, unseen] = -np.inf
        p = np.exp(scores - scores.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        x = x + np.einsum("hij,jhd->ihd", p, v).reshape(n, -1) @ part("attn_output").T
        a = norm(x, part("ffn_norm"), epsilon)
        gate = a @ part("ffn_gate").T
        x = x + (gate / (1 + np.exp(-gate)) * (a @ part("ffn_up").T)) @ part("ffn_down").T
    x = norm(x, file.tensor("output_norm.weight"), epsilon)
    return x @ (file.tensor("output.weight") if "output.weight" in file.tensors else embedding).T


def main():
    path, other = sys.argv[1:]
    file = Gguf(path)
    with open(other) as handle:
        other = json.load(handle)
    ours = forward(file, other["tokens"])
    worst = 0.0
    for name, a, b in [
        ("all rows at once", ours, np.array(other["logits"])),
        ("token by token", ours[-1], np.array(other["last_by_session"])),
    ]:
        error = np.abs(a - b).max() / np.abs(a).max()
        worst = max(worst, error)
        print(f"{name}: largest difference {error:.2e} of the largest logit {np.abs(a).max():.3f}")
    best = int(ours[-1].argmax())
    print("likeliest next token:", best, repr(file.keys["tokenizer.ggml.tokens"][best]))
    if worst > TOLERANCE:
        raise SystemExit(f"the difference is above {TOLERANCE}")


if __name__ == "__main__":
    main()
