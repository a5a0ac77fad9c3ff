"""A recommender trained by Hugging Face's own Trainer with dynamic padding, timed.

    python trainer_loop.py REQUEST.json ANSWER.json        (with the Python of .venv-peers)

Stands alone, as one would write it without us: Seq2SeqTrainer, DataCollatorForSeq2Seq, AdamW, no logs, nothing saved.
The request names the model and tokenizer folders, threads, batch size, whether to group by length, and each sample's
input and label token ids; the answer has the seconds and core seconds of one pass over the samples (after a small step
that does not count), the places they were padded to, and the loss of the first batch before training.
"""

import functools
import importlib
import json
import sys
import tempfile
import time
from typing import Any

import torch

transformers: Any = importlib.import_module("transformers")  # not the version of this environment: no types of it
trainer_pt_utils: Any = importlib.import_module("transformers.trainer_pt_utils")


class Clock(transformers.TrainerCallback):
    """Seconds and core seconds from the first batch to the last update."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.started = time.perf_counter(), time.process_time()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.seconds = time.perf_counter() - self.started[0]
        self.core_seconds = time.process_time() - self.started[1]


class CountingCollator(transformers.DataCollatorForSeq2Seq):
    """Dynamic padding that counts what it pads."""

    places = 0

    def __call__(self, features: Any, return_tensors: Any = None) -> Any:
        batch = super().__call__(features, return_tensors)
        self.places += batch["input_ids"].numel() + batch["labels"].numel()
        return batch


def run(model: Any, collator: CountingCollator, samples: list[dict], request: dict) -> Clock:
    """One pass over the samples, timed."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.Seq2SeqTrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=request["batch"],
            num_train_epochs=1,
            learning_rate=request["learning_rate"],
            weight_decay=request["weight_decay"],
            max_grad_norm=request["clip_norm"],
            lr_scheduler_type="constant",
            optim="adamw_torch",
            group_by_length=request["group_by_length"],  # gone in transformers 5
            use_cpu=True,
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            log_level="error",
        )
        transformers.Seq2SeqTrainer(
            model=model,
            args=arguments,
            train_dataset=samples,  # type: ignore[arg-type]
            data_collator=collator,
            callbacks=[clock],
        ).train()
    return clock


def main(request_file: str, answer_file: str) -> None:
    with open(request_file) as file:
        request = json.load(file)
    torch.set_num_threads(request["threads"])
    transformers.logging.set_verbosity_error()
    # Few samples would make its groups smaller than those of a real data set; 50 batches is what it takes from 12,800
    # samples on.
    grouped = functools.partial(trainer_pt_utils.get_length_grouped_indices, mega_batch_mult=50)
    trainer_pt_utils.get_length_grouped_indices = grouped
    model: Any = transformers.T5ForConditionalGeneration.from_pretrained(request["model"], dropout_rate=0.0)
    special: dict[str, Any] = {"unk_token": "<unk>", "pad_token": "<pad>", "eos_token": "</s>"}
    file = f"{request['tokenizer']}/tokenizer.json"
    tokenizer: Any = transformers.PreTrainedTokenizerFast(tokenizer_file=file, **special)
    samples = [{"input_ids": inputs, "labels": labels} for inputs, labels in request["samples"]]
    collator = CountingCollator(tokenizer, model=model)
    with torch.no_grad():
        loss = model.eval()(**collator(samples[: request["batch"]])).loss.item()
    run(model, collator, samples[:8], request)
    collator.places = 0
    clock = run(model, collator, samples, request)
    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    answer = {"seconds": clock.seconds, "core_seconds": clock.core_seconds, "places": collator.places, "loss": loss}
    with open(answer_file, "w") as file:
        json.dump(versions | answer, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
