"""Logits of T5 folders by transformers alone, whatever its version, with nothing of this project.

    python plain_logits.py ANSWER.json INPUT_IDS DECODER_IDS FOLDER...

INPUT_IDS and DECODER_IDS are JSON lists. The answer: {"transformers": version, "logits": [[...], ...], "ids": [[...]]},
a folder each; `ids` are the token ids of a fixed text by the folder's tokenizer.
"""

import importlib
import json
import sys
from typing import Any

import torch

transformers: Any = importlib.import_module("transformers")  # not the version of this environment: no types of it

TEXT = "title: red desk lamp; brand: ACME  2; categories: home, lighting"


@torch.no_grad()
def main(answer_file: str, input_ids: str, decoder_ids: str, *folders: str) -> None:
    transformers.logging.set_verbosity_error()
    logits, ids = [], []
    for folder in folders:
        model: Any = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).float()
        found = model(
            input_ids=torch.tensor([json.loads(input_ids)]), decoder_input_ids=torch.tensor([json.loads(decoder_ids)])
        )
        logits.append(found.logits[0].tolist())
        ids.append(transformers.AutoTokenizer.from_pretrained(folder)(TEXT)["input_ids"])
    with open(answer_file, "w") as file:
        json.dump({"transformers": transformers.__version__, "logits": logits, "ids": ids}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
