"""A training step of a small decoder: ours beside PyTorch's on the processor, in turns, the same numbers in and out.

    pip install -r peers/requirements-transformers.txt        # PyTorch; some 6 GB, apart from the environment of the other peers
    cargo build --release -p bilevel-llm --example training_step
    python peers/python/training_step.py target/release/examples/training_step

Loss, gradient, clipping and AdamW, single precision, as many threads on either side. PyTorch has its fused attention, its fused
AdamW and, in a second pass, its compiler. Fails when loss or gradient differ by more than rounding explains. Beside the times
stands what the step's matrix products alone take at the rate that PyTorch reaches in a large one: no step can be faster.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

THREADS = 2


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("example", type=pathlib.Path)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--steps", type=int, default=5, help="of a repetition")
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--publish", type=pathlib.Path, help="writes the ratios to this file")
    parser.add_argument("--theirs", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--compiled", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def resident_peak():
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    raise SystemExit("the system does not say how much memory is resident")


def serve_torch(folder, threads, compiled):
    """PyTorch's side: answers as the example does."""
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(threads)
    shape = json.loads((folder / "shape.json").read_text())
    numbers = np.fromfile(folder / "parameters.f32", dtype="<f4")
    y = {}
    for tensor in shape["tensors"]:
        end = tensor["start"] + int(np.prod(tensor["shape"]))
        values = torch.from_numpy(numbers[tensor["start"] : end].reshape(tensor["shape"]).copy())
        y[tensor["name"]] = values.requires_grad_()
    del numbers
    context, heads, width = shape["context"], shape["heads"], shape["width"]
    tokens = torch.tensor(shape["tokens"]).reshape(-1, context)
    targets = torch.tensor(shape["targets"])
    half = width // heads // 2
    angles = torch.outer(
        torch.arange(context, dtype=torch.float64),
        shape["rope_base"] ** (-torch.arange(half, dtype=torch.float64) / half),
    )
    cos, sin = angles.cos().float(), angles.sin().float()

    def turn(x):
        a, b = x[..., :half], x[..., half:]
        return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)

    def norm(x, name):
        return F.rms_norm(x, (width,), y[name], shape["norm_epsilon"])

    def loss():
        x = F.embedding(tokens, y["model.embed_tokens.weight"])
        for layer in range(shape["layers"]):
            part = f"model.layers.{layer}."
            normed = norm(x, part + "input_layernorm.weight")
            q, k, v = (
                F.linear(normed, y[f"{part}self_attn.{name}_proj.weight"])
                .unflatten(-1, (heads, width // heads))
                .transpose(1, 2)
                for name in "qkv"
            )
            mixed = F.scaled_dot_product_attention(turn(q), turn(k), v, is_causal=True)
            x = x + F.linear(mixed.transpose(1, 2).flatten(2), y[part + "self_attn.o_proj.weight"])
            normed = norm(x, part + "post_attention_layernorm.weight")
            gate = F.linear(normed, y[part + "mlp.gate_proj.weight"])
            up = F.linear(normed, y[part + "mlp.up_proj.weight"])
            x = x + F.linear(F.silu(gate) * up, y[part + "mlp.down_proj.weight"])
        logits = F.linear(norm(x, "model.norm.weight"), y["model.embed_tokens.weight"])
        return F.cross_entropy(logits.flatten(0, 1), targets)

    forward = torch.compile(loss) if compiled else loss
    matrices = [p for p in y.values() if p.dim() > 1]
    others = [p for p in y.values() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=3e-3, betas=(0.9, 0.99), eps=1e-8, fused=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        value = forward()
        value.backward()
        torch.nn.utils.clip_grad_norm_(list(y.values()), 1.0)
        optimizer.step()

    print("ready", flush=True)
    for line in sys.stdin:
        match line.split():
            case ["gradient"]:
                optimizer.zero_grad(set_to_none=True)
                value = forward()
                value.backward()
                flat = np.zeros(shape["parameters"], dtype="<f4")
                for tensor in shape["tensors"]:
                    grad = y[tensor["name"]].grad.numpy().ravel()
                    flat[tensor["start"] : tensor["start"] + grad.size] = grad
                flat.tofile(folder / "their_gradient.f32")
                answer = value.item()
            case ["steps", count]:
                began = time.perf_counter()
                for _ in range(int(count)):
                    step()
                answer = time.perf_counter() - began
            case ["products", count]:
                a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
                a @ b
                began = time.perf_counter()
                for _ in range(int(count)):
                    a @ b
                answer = 1024**3 * int(count) / (time.perf_counter() - began)
            case ["memory"]:
                answer = resident_peak()
        print(answer, flush=True)


class Side:
    def __init__(self, command, threads):
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.wait()

    def wait(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args[0]} ended")
        return line.strip()

    def ask(self, request):
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        return float(self.wait())


def multiplications(shape):
    """Multiplications of the matrix products of a step: forward, and twice as many backward."""
    rows = len(shape["tokens"])
    width, ffn, layers = shape["width"], shape["ffn"], shape["layers"]
    maps = layers * (4 * width * width + 3 * width * ffn) + width * shape["vocabulary"]
    # queries with keys, and probabilities with values, of which half is below the diagonal
    attention = layers * 2 * width * shape["context"] / 2
    return 3 * rows * (maps + attention)


def agree(folder, ours, theirs):
    """Loss and gradient at the start."""
    losses = ours.ask("gradient"), theirs.ask("gradient")
    a = np.fromfile(folder / "gradient.f32", dtype="<f4").astype(np.float64)
    b = np.fromfile(folder / "their_gradient.f32", dtype="<f4").astype(np.float64)
    error = np.linalg.norm(a - b) / np.linalg.norm(b)
    print(f"loss {losses[0]:.7f} and {losses[1]:.7f}; gradients differ by {error:.1e} of their norm")
    # single precision, sums of up to 8,192 terms in another order
    if abs(losses[0] - losses[1]) > 1e-5 * losses[1] or error > 1e-4:
        raise SystemExit("the two sides do not compute the same; their times say nothing")


def main():
    a = arguments()
    if a.theirs:
        return serve_torch(a.theirs, a.threads, a.compiled)
    results = {"threads": a.threads, "repetitions": a.repetitions}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        ours = Side([str(a.example), name, str(a.threads)], a.threads)
        shape = json.loads((folder / "shape.json").read_text())
        for label, extra in [("eager", []), ("compiled", ["--compiled"])]:
            command = [sys.executable, __file__, str(a.example), "--theirs", name, "--threads", str(a.threads)]
            theirs = Side(command + extra, a.threads)
            if label == "eager":
                agree(folder, ours, theirs)
            for side in (ours, theirs):
                side.ask(f"steps {a.steps}")
            pairs = [(ours.ask(f"steps {a.steps}"), theirs.ask(f"steps {a.steps}")) for _ in range(a.repetitions)]
            ratios = sorted(theirs / ours for ours, theirs in pairs)
            memory = ours.ask("memory"), theirs.ask("memory")
            rate = theirs.ask("products 20")
            floor = multiplications(shape) / rate / (statistics.median(ours for ours, _ in pairs) / a.steps)
            results[label] = {
                "time, theirs by ours": {
                    "median": statistics.median(ratios), "least": ratios[0], "largest": ratios[-1]
                },
                "memory, ours by theirs": memory[0] / memory[1],
                "matrix products at their rate, by our step": floor,
            }
            print(
                f"{label}: theirs by ours {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}); "
                f"memory {memory[0] / 2**20:.0f} and {memory[1] / 2**20:.0f} MiB; "
                f"matrix products alone are {floor:.2f} of our step"
            )
    if a.publish:
        a.publish.write_text(json.dumps(results, indent=2) + "\n")


main()
