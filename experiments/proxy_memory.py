"""Peak memory of each method on the proxy of 0.84 M parameters, a process each, on one thread.

    python3 experiments/plain_text.py DATA TEXTS
    python3 experiments/proxy_memory.py target/release/bilevel TEXTS

The recipe is proxy_k3.toml with a budget of 60,000 units, a cycle of 4 steps and one seed: a few cycles of every method, and a
retraining. What is printed is the largest resident size of the process in MiB, and what it has above `uniform`, which holds one
model in training.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

METHODS = ["uniform", "alignment", "scalebio", "f2ba", "hg-ms"]
RUN = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
sys.exit(done.stderr) if done.returncode else print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def recipe(method, texts, out):
    text = (pathlib.Path(__file__).parent / "proxy_k3.toml").read_text()
    text = re.sub(r"methods = \[[^\]]*\]", f'methods = ["{method}"]', text)
    text = re.sub(r"(?m)^seeds = .*$", "seeds = [1]", text)
    text = re.sub(r"(?m)^budget = .*$", "budget = 60_000\nthreads = 1", text)
    text = re.sub(r"(?m)^cycle = .*$", "cycle = 4", text)
    return re.sub(r"(?m)^out = .*$", f'out = "{out}"\ndata = "{texts}"', text)


def main():
    program, texts = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
    peaks = {}
    with tempfile.TemporaryDirectory() as folder:
        for method in METHODS:
            path = pathlib.Path(folder) / f"{method}.toml"
            path.write_text(recipe(method, texts, pathlib.Path(folder) / method))
            command = [sys.executable, "-c", RUN, program, "reweight", str(path)]
            peaks[method] = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1024
    for method, peak in peaks.items():
        print(f"{method:10} {peak:6.0f} MiB {peak - peaks['uniform']:+6.0f}")


main()
