"""One process of Python beside the Rust one: reads a request per line, answers with a line of JSON.

Nothing runs between requests. The clock of a request starts when every input is in place and stops after
`block_until_ready`, so that no work is left in a queue.

    python worker.py                         serve requests from standard input
    python worker.py cold FOLDER JSON        one step, then "done": for the time from the start of the process
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

THREADS = int(os.environ.get("PEERS_THREADS", "2"))
if hasattr(os, "sched_setaffinity"):
    # XLA sizes its pool by the processors that it may use
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])

import jax  # noqa: E402

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_platforms", "cpu")

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import statements  # noqa: E402
import steps  # noqa: E402

DTYPES = {"f32": jnp.float32, "f64": jnp.float64}


def read(folder: Path) -> dict[str, np.ndarray]:
    """Every array of a folder, by the name of its file."""
    return {path.stem: np.load(path) for path in sorted(folder.glob("*.npy"))}


def finite(answer: Any) -> Any:
    """The same answer with null for numbers that JSON does not have."""
    match answer:
        case dict():
            return {name: finite(part) for name, part in answer.items()}
        case list():
            return [finite(part) for part in answer]
        case float() if not math.isfinite(answer):
            return None
    return answer


def cast(arrays: dict[str, np.ndarray], dtype: Any) -> dict[str, jax.Array]:
    """Real numbers in this precision, whole ones as 32-bit integers."""
    real = lambda a: np.issubdtype(a.dtype, np.floating)
    return {name: jnp.asarray(a, dtype if real(a) else jnp.int32) for name, a in arrays.items()}


class Workload:
    """The arrays of a folder, and programs on them."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.arrays = read(self.folder)
        self.programs: dict[str, tuple] = {}

    def statement(self, request: dict) -> tuple[statements.Statement, dict[str, jax.Array]]:
        """The JAX statement in the precision of a request, and its start."""
        arrays = cast(self.arrays, DTYPES[request["dtype"]])
        return statements.state(request["workload"], arrays, request["problem"]), arrays

    def program(self, request: dict) -> tuple:
        """The compiled scan of a request, the step's start, and the batches."""
        s, arrays = self.statement(request)
        settings, name, size = request["settings"], request["solver"], request["batch"]
        prefix = f"{name}-"
        batches = {k.removeprefix(prefix): a for k, a in read(self.folder / "batches").items() if k.startswith(prefix)}
        count = request["steps"]
        batches = {k: a[:count] for k, a in batches.items()}
        take = steps.gather
        blocked = request["sampling"] == "blocks" or name == "saba"
        if blocked:
            # the block that holds the first index of each batch; a last block that is not full is left out
            terms = lambda k: len(next(iter((s.upper_rows if k.endswith("upper") else s.lower_rows).values())))
            first = lambda a: a[..., 0] // size
            batches = {k: first(a).clip(0, terms(k) // size - 1) * size for k, a in batches.items()}
            take = steps.block(size)
        batches = {k: jnp.asarray(a, jnp.int32) for k, a in batches.items()}
        match name:
            case "soba":
                program = steps.soba(s, settings, take)
            case "saba":
                program = steps.saba(s, settings, size)
            case "f2sa":
                program = steps.f2sa(s, settings, take)
            case "bome":
                program = steps.bome(s, settings)
                batches = {"step": jnp.arange(count, dtype=jnp.int32)}
            case _:
                raise ValueError(f"no program is called {name}")
        starter = steps.starter(program)
        init = lambda: starter(arrays["x0"], arrays["y0"], s.upper_rows, s.lower_rows)
        return steps.scan(program), init, batches, s

    def prepared(self, request: dict) -> tuple:
        """The program of a request, compiled and run twice before it is ever timed."""
        key = json.dumps({k: v for k, v in request.items() if k != "do"}, sort_keys=True)
        if key not in self.programs:
            self.programs[key] = program = self.program(request)
            run, init, batches, s = program
            for _ in range(2):
                jax.block_until_ready(run(init(), batches, s.upper_rows, s.lower_rows))
        return self.programs[key]

    def run(self, request: dict) -> dict:
        """Seconds of all steps from the start."""
        run, init, batches, s = self.prepared(request)
        carry = init()
        clock = time.perf_counter()
        jax.block_until_ready(run(carry, batches, s.upper_rows, s.lower_rows))
        return {"seconds": time.perf_counter() - clock}

    def iterates(self, request: dict) -> dict:
        """x and y after all steps."""
        run, init, batches, s = self.program(request)
        x, y = run(init(), batches, s.upper_rows, s.lower_rows)[:2]
        return {"x": np.asarray(x, float).tolist(), "y": np.asarray(y, float).tolist()}

    def start(self, request: dict) -> dict:
        """Values and directions at the start over all rows, with v = `v.npy`."""
        s, arrays = self.statement(request)
        x, y, v = arrays["x0"], arrays["y0"], arrays["v"]
        names = ("grad_y g", "H v", "J v", "grad_x f", "grad_y f")
        found = dict(zip(names, steps.directions(s, x, y, v, s.lower_rows, s.upper_rows), strict=True))
        found |= {"f": s.upper(x, y, s.upper_rows)[None], "g": s.lower(x, y, s.lower_rows)[None]}
        return {name: np.asarray(a, float).tolist() for name, a in found.items()}


def serve() -> None:
    """Answers requests until standard input ends."""
    workload: Workload | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            match request["do"]:
                case "versions":
                    names = ("jax", "jaxopt", "numpy", "optimistix")
                    answer = {"python": sys.version.split()[0]} | {name: metadata.version(name) for name in names}
                case "load":
                    workload = Workload(request["folder"])
                    answer = {"arrays": sorted(workload.arrays)}
                case "self-check":
                    import selfcheck

                    answer = {"checks": selfcheck.run()}
                case "prepare":
                    clock = time.perf_counter()
                    workload.prepared(request)
                    answer = {"seconds": time.perf_counter() - clock}
                case "run" | "iterates" | "start":
                    answer = getattr(workload, request["do"])(request)
                case "implicit":
                    import implicit

                    answer = implicit.answer(workload, request)
                case other:
                    raise ValueError(f"no request is called {other}")
        except Exception as error:  # the other side decides what a failure means
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(finite(answer)), flush=True)


def cold(folder: str, text: str) -> None:
    """The first step of a program, with everything that comes before it."""
    request = json.loads(text)
    run, init, batches, s = Workload(folder).program(request)
    jax.block_until_ready(run(init(), batches, s.upper_rows, s.lower_rows))
    print("done", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["cold"]:
        cold(*sys.argv[2:4])
    else:
        serve()
