"""Hugging Face's own diverse beam search, run by the Python of .venv-peers: one item at a time, as the reference does.

    python hugging_face.py REQUEST.json ANSWER.json

The request: {"model": folder, "threads": 1, "cases": [{"prompt": [...], "groups": 5, "beams": 1, "penalty": 0.1,
"shortest": 1, "longest": 9, "barred": [0]}]}. The answer, per case: {"sequences": [[...]], "scores": [...],
"seconds": 0.1}, all groups together, best first, tokens up to EOS. The stopping rule is `early_stopping=True`.
"""

import importlib
import json
import sys
import time
from typing import Any

import torch

transformers: Any = importlib.import_module("transformers")  # not the version of this environment: no types of it


def main(request_file: str, answer_file: str) -> None:
    with open(request_file) as file:
        request = json.load(file)
    torch.set_num_threads(request["threads"])
    transformers.logging.set_verbosity_error()
    model: Any = transformers.T5ForConditionalGeneration.from_pretrained(request["model"]).eval()
    eos = model.config.eos_token_id
    answers = []
    for case in request["cases"]:
        started = time.perf_counter()
        found = model.generate(
            input_ids=torch.tensor([case["prompt"]]),
            num_beams=case["groups"] * case["beams"],
            num_beam_groups=case["groups"],
            num_return_sequences=case["groups"] * case["beams"],
            diversity_penalty=case["penalty"],
            min_new_tokens=case["shortest"],
            max_new_tokens=case["longest"] + 1,
            suppress_tokens=case["barred"],
            early_stopping=True,
            length_penalty=0.0,
            do_sample=False,
            return_dict_in_generate=True,
            output_scores=True,
        )
        seconds = time.perf_counter() - started
        rows = [row[1:] for row in found.sequences.tolist()]
        sequences = [row[: row.index(eos) + 1] if eos in row else row for row in rows]
        answers.append({"sequences": sequences, "scores": found.sequences_scores.tolist(), "seconds": seconds})
    with open(answer_file, "w") as file:
        json.dump({"transformers": transformers.__version__, "answers": answers}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
