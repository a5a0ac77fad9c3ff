"""Full-ranking evaluation of a T5 on an unseen set, end to end through the judge, beside Hugging Face's `generate`.

Enters: a shard folder with the set, a T5, the set's IDs (an ID book, or a file of real ones: item word word ...).
Leaves: Markdown, printed and written to docs/benchmarks/zeroshot.md. Must hold: both sides have the same model,
threads, users, prompts, catalogue and beam, in one run; what both answer is compared.

    python -m benchmarks.zeroshot --shards SHARDS --task Beauty --model T5 --ids IDS.txt.gz [--users 200]

Ours is `zeroshot.judge.judge`, with trie, prompts, search, checks and ranks. The other side is `generate` with a prefix
function over a trie of dictionaries, in batches of 1 and of 8 users, whose lists go through the same look-up of ranks;
its tries and prompts are made before the clock starts. Ours runs before and after it.
"""

import argparse
import gzip
import os
import platform
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.decoding import table
from benchmarks.peer_tries import DictTrie
from pretrain.batches import text_batch
from pretrain.config import PromptConfig, SearchConfig
from pretrain.ids.book import Book, canonical
from pretrain.metrics import Ranking, summary
from pretrain.models import load_model
from pretrain.ranking import GenerativeRecommender
from shards.tokenizer import EOS_ID, load_tokenizer
from zeroshot.blocks import Blocks
from zeroshot.interface import Judged
from zeroshot.judge import judge
from zeroshot.tasks import Task, load_task

BATCHES = (1, 8)


class HuggingFace:
    """`generate` as a recommender: stopping rule `early_stopping=False`, so that nothing it could find is cut off, and
    sums of log-probabilities. Users come sorted by the length of their prompts, so that its batches have no more
    padding than ours."""

    def __init__(self, ours: GenerativeRecommender, batch: int) -> None:
        self.name, self.ours, self.batch = f"Hugging Face, batch {batch}", ours, batch
        self.trie = DictTrie([ids.tolist() for ids in ours.token_ids])
        self.row_of = {tuple(ids.tolist()): row for row, ids in enumerate(ours.token_ids)}
        self.prompts: dict[bytes, np.ndarray] = {}

    def rank(self, histories: list[np.ndarray], exclude_history: bool) -> Ranking:
        assert not exclude_history, "a prefix function cannot leave out items of one user"
        beam = self.ours.search.beam
        items_NK = np.full((len(histories), beam), -1, dtype=np.int64)
        scores_NK = np.full(items_NK.shape, -np.inf)
        for first in range(0, len(histories), self.batch):
            prompts = [self.prompts[history.tobytes()] for history in histories[first : first + self.batch]]
            batch = text_batch(prompts, [[]] * len(prompts), EOS_ID)
            with torch.no_grad():
                found: Any = self.ours.model.generate(
                    input_ids=batch.input_ids_BS, attention_mask=batch.mask_BS, num_beams=beam,
                    num_return_sequences=beam, prefix_allowed_tokens_fn=self.trie, max_new_tokens=self.trie.depth,
                    early_stopping=False, length_penalty=0.0, do_sample=False, output_scores=True,
                    return_dict_in_generate=True,
                )  # fmt: skip
            rows = zip(found.sequences.tolist(), found.sequences_scores.tolist(), strict=True)
            for index, (tokens, score) in enumerate(rows):
                user, place = first + index // beam, index % beam
                if EOS_ID in tokens and score > -np.inf:
                    items_NK[user, place] = self.row_of[tuple(tokens[1 : tokens.index(EOS_ID)])]
                    scores_NK[user, place] = score
        return Ranking(scores_NK, items_NK)


@dataclass(frozen=True)
class Run:
    """What a side said, and how long it took."""

    judged: Judged
    seconds: float


def timed(task: Task, side: Any) -> Run:
    """The judge over all users, everything included."""
    started = time.perf_counter()
    judged = judge(task, side, "all", block=64)
    return Run(judged, time.perf_counter() - started)


def sorted_task(task: Task, model: GenerativeRecommender) -> Task:
    """The same users by the length of their prompts."""
    order_N = Blocks.arrange(task, model, 64).order_N
    return Task(
        task.name, [task.users[row] for row in order_N], task.texts, task.items,
        [task.histories[row] for row in order_N], task.targets[order_N], task.training_histories,
    )  # fmt: skip


def ids_of(options: argparse.Namespace, task: Task, tokenizer: Any) -> list[np.ndarray]:
    """Token ids of every item, from an ID book or a file of texts."""
    if options.ids.suffix == ".arrow":
        book = Book.load(options.ids, tokenizer)
        text_of = dict(zip(book.items, book.texts, strict=True))
    else:
        with gzip.open(options.ids, "rt", encoding="utf-8") as lines:
            text_of = {f"{task.name}/{item}": " ".join(words) for item, *words in map(str.split, lines)}
    _, encoded = canonical(tokenizer, [text_of[item] or "item" for item in task.items])
    # A file of texts may hold none, or two that are the same once they are canonical; a book never does.
    seen, found = set(), []
    for ids in encoded:
        number, unique = 2, ids
        while unique in seen:
            unique = (*ids, *tokenizer(str(number), add_special_tokens=False)["input_ids"])
            number += 1
        seen.add(unique)
        found.append(np.array(unique, dtype=np.int32))
    return found


def agreement(one: Judged, two: Judged) -> tuple[float, float]:
    """Share of the first ten, and of the first, that both sides have."""
    pairs = list(zip(one.top_NK, two.top_NK, strict=True))
    shared = sum(len(set(a[a >= 0]) & set(b[b >= 0])) for a, b in pairs) / max(1, int((one.top_NK >= 0).sum()))
    return shared, float(np.mean([a[0] == b[0] for a, b in pairs]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--task", default="Beauty")
    parser.add_argument("--model", required=True, help="folder of a pretrained T5")
    parser.add_argument("--ids", type=Path, required=True, help="ID book (.arrow) or file of real IDs (.txt.gz)")
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--beam", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/zeroshot.md"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tokenizer = load_tokenizer(options.shards / "tokenizer")
    task = load_task(options.shards, options.task, options.users, 0)
    model = load_model(options.model, tokenizer)
    ours = GenerativeRecommender(
        "ours", model, tokenizer, ids_of(options, task, tokenizer), PromptConfig(), SearchConfig(options.beam)
    )
    task = sorted_task(task, ours)
    lengths = ours.input_lengths(task.histories)
    peers = [HuggingFace(ours, batch) for batch in BATCHES]
    for peer in peers:
        peer.prompts = {history.tobytes(): ours._prompt(history) for history in task.histories}
        peer.input_lengths = ours.input_lengths  # type: ignore[attr-defined]
    few = Task(task.name, task.users[:2], task.texts, task.items, task.histories[:2], task.targets[:2], [])
    for side in (ours, *peers):
        judge(few, side, "all")
    load = os.getloadavg()[0]
    first = timed(task, ours)
    theirs = {peer.name: timed(task, peer) for peer in peers}
    again = timed(task, ours)
    assert np.array_equal(first.judged.ranks_N, again.judged.ranks_N), "the same answer twice"
    ours_run = Run(first.judged, (first.seconds + again.seconds) / 2)
    sides = theirs | {"ours, through the judge": ours_run}
    users = len(task.users)
    rows = []
    for name, run in sides.items():
        metrics = summary(run.judged.ranks_N)
        ratios = [f"{theirs[peer.name].seconds / run.seconds:.1f}" for peer in peers]
        rows.append(
            [name, f"{run.seconds:.1f}", f"{run.seconds / users * 1e3:.0f}", *ratios,
             f"{metrics['HR@10']:.4f}", f"{metrics['NDCG@10']:.4f}"]
        )  # fmt: skip
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "numpy"))
    lines = [
        "# Full-ranking evaluation", "",
        f"`python -m benchmarks.zeroshot --shards SHARDS --task {options.task} --model T5 --ids {options.ids.name} "
        f"--users {options.users}` on {options.threads} cores ({platform.machine()}, load {load:.1f} when it began), "
        f"Python {platform.python_version()}, {libraries}. float32, "
        f"{sum(p.numel() for p in model.parameters()) / 1e6:.0f} million parameters.", "",
        f"{users:,} users of {options.task}, {len(task.items):,} items, beam {options.beam}; prompts of {lengths.min()} "
        f"to {lengths.max()} tokens, {lengths.mean():.0f} on average; IDs of "
        f"{np.mean([len(ids) for ids in ours.token_ids]):.1f} tokens. Both sides get the users sorted by length. Ours "
        f"ran before ({first.seconds:.1f} s) and after ({again.seconds:.1f} s) the other side.", "",
        *table(["", "seconds", "ms a user", *(f"times {peer.name}" for peer in peers), "HR@10", "NDCG@10"], rows),
    ]  # fmt: skip
    for name, run in theirs.items():
        shared, firsts = agreement(ours_run.judged, run.judged)
        lines.append(
            f"* {name}: {shared:.1%} of our first ten are in its first ten; {firsts:.1%} of the first are equal."
        )
    lines.append(
        "\nHugging Face drops a finished hypothesis that is not among the first `beam` continuations of its step, and "
        "then has room for a less probable one."
    )
    print("\n".join(lines), flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
