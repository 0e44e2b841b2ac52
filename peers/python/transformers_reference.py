"""The models that we save, loaded by the transformers library: logits, tokens and chat template against ours.

    pip install -r peers/requirements-transformers.txt        # some 6 GB, apart from the environment of the other peers
    cargo run --release -p bilevel-llm --example saved_models -- FOLDER
    python peers/python/transformers_reference.py FOLDER

Fails above 1e-4 of the largest logit, on any parameter that is missing or left over, and on any token or text that differs.
"""

import json
import os
import pathlib
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

TOLERANCE = 1e-4
MESSAGES = [{"role": "user", "content": " Hello. "}, {"role": "assistant", "content": "Yes?"}]


def check(folder):
    expected = json.loads((folder / "expected.json").read_text())
    model, notes = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    for kind in ["missing_keys", "unexpected_keys", "mismatched_keys"]:
        if notes[kind]:
            raise SystemExit(f"{folder.name}: {kind}: {sorted(notes[kind])}")
    with torch.no_grad():
        theirs = model.double()(torch.tensor([expected["tokens"]])).logits[0]
    ours = torch.tensor(expected["logits"], dtype=torch.float64)
    error = ((ours - theirs).abs().max() / theirs.abs().max()).item()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer.encode(expected["text"], add_special_tokens=False)
    chat = tokenizer.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    print(f"{folder.name}: {type(model).__name__}, largest difference {error:.1e} of the largest logit")
    if error > TOLERANCE:
        raise SystemExit(f"the difference is above {TOLERANCE}")
    if tokens != expected["tokens"]:
        raise SystemExit(f"their tokens are {tokens}, ours {expected['tokens']}")
    if chat != expected["chat"]:
        raise SystemExit(f"their chat is {chat!r}, ours {expected['chat']!r}")


def main():
    folders = sorted(path.parent for path in pathlib.Path(sys.argv[1]).glob("*/expected.json"))
    if not folders:
        raise SystemExit("no model in this folder: run the example saved_models first")
    for folder in folders:
        check(folder)


if __name__ == "__main__":
    main()
