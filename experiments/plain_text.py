"""Writes the texts of the sets as plain running text, one folder for proxy_k3.toml and proxy_k8.toml.

    python3 experiments/plain_text.py DATA OUT

DATA holds gsm8k/, scalebio/, code/, shakespeare/ and wikitext2/. A record becomes {"text": question, newline, answer}, so that the loss is on
every token; small models from scratch learn more from a text than from its answer alone.
"""

import json
import shutil
import sys
from pathlib import Path

SCALEBIO = {
    "orca-math": "orca-math-word-problems-200k",
    "dart-math": "dart-math-uniform",
    "mathinstruct": "MathInstruct",
    "gpt4-llm": "GPT4-LLM-Cleaned",
    "gpteacher": "GPTeacher-General-Instruct",
}


def main(data: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)

    def write(name: str, texts) -> None:
        with open(out / f"{name}.jsonl", "w", encoding="utf-8") as file:
            for text in texts:
                file.write(json.dumps({"text": text}) + "\n")

    for name, stem in SCALEBIO.items():
        records = json.loads((data / f"scalebio/train_{stem}.json").read_text(encoding="utf-8"))
        write(name, ("\n".join(item["value"] for item in record["items"]) for record in records))
    records = json.loads((data / "code/new_codealpaca.json").read_text(encoding="utf-8"))
    keys = ("instruction", "input", "response")
    write("code-alpaca", ("\n".join(record[key] for key in keys if record[key]) for record in records))
    for split in ("train", "test"):
        lines = (data / f"gsm8k/{split}.jsonl").read_text(encoding="utf-8").splitlines()
        write(f"gsm8k-{split}", (r["question"] + "\n" + r["answer"] for r in map(json.loads, lines)))
    shutil.copyfile(data / "shakespeare/input.txt", out / "shakespeare.txt")
    shutil.copyfile(data / "wikitext2/valid.txt", out / "wikitext.txt")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
