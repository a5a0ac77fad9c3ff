"""The paper's Algorithm 1 as the reference runs it: one item after the other, Hugging Face's own diverse beam search.

    python id_loop.py REQUEST.json ANSWER.json        (with the Python of .venv-peers)

Stands alone: transformers 4.56 is the last with diverse beam search inside. The request names the model and tokenizer
folders, threads, the options of IdConfig, tokens never taken, and each item's token ids; the answer has each item's ID,
the number of `generate` calls and the seconds of the loop.
"""

import importlib
import json
import re
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
    file, special = f"{request['tokenizer']}/tokenizer.json", {"unk_token": "<unk>", "pad_token": "<pad>"}
    tokenizer: Any = transformers.PreTrainedTokenizerFast(tokenizer_file=file, eos_token="</s>", **special)
    options, eos, unknown = request["options"], model.config.eos_token_id, tokenizer.unk_token_id
    used: dict[tuple[int, ...], int] = {}
    ids, attempts, calls = [], [], 0
    started = time.perf_counter()
    for row, prompt in enumerate(request["items"]):
        found, tried = None, 0
        while found is None and tried < len(request["attempts"]):
            attempt = request["attempts"][tried]
            tried, calls = tried + 1, calls + 1
            written = model.generate(
                input_ids=torch.tensor([[*prompt, eos]]),
                num_beams=options["groups"],
                num_beam_groups=options["groups"],
                num_return_sequences=options["groups"],
                diversity_penalty=attempt["penalty"],
                min_new_tokens=attempt["shortest"],
                max_new_tokens=attempt["longest"],
                suppress_tokens=request["barred"],
                early_stopping=True,
                length_penalty=0.0,
                do_sample=False,
            )
            texts = tokenizer.batch_decode(written, skip_special_tokens=True)
            normal = [" ".join(re.findall(r"\w+", text.lower())) for text in texts]
            for tokens in tokenizer(normal, add_special_tokens=False)["input_ids"]:
                if tokens and unknown not in tokens and tuple(tokens) not in used:
                    found = tuple(tokens)
                    break
        used[found or (-1, row)] = row
        ids.append(tokenizer.decode(found) if found else None)
        attempts.append(tried)
    seconds = time.perf_counter() - started
    with open(answer_file, "w") as file:
        answer = {"transformers": transformers.__version__, "ids": ids, "attempts": attempts, "calls": calls}
        json.dump(answer | {"seconds": seconds}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
