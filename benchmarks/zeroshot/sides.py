"""The two sides of the full-ranking benchmark, alone and shared out over processes.

Enters: the benchmark's options. Leaves: what each side answered and the seconds it took. Must hold: both have the same
users in the same order, the same model and prompts; tries and prompts are made before the clock starts, and processes
start together.
"""

import argparse
import gzip
import multiprocessing
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration

from benchmarks.decoding.peer_tries import DictTrie
from pretrain.config.prompt import PromptConfig
from pretrain.data.batches import text_batch
from pretrain.decoding.config import SearchConfig
from pretrain.ids.book import Book, canonical
from pretrain.model.t5 import load_model
from pretrain.ranking.generate import GenerativeRecommender
from pretrain.ranking.metrics import ProtocolName, Ranking
from pretrain.runtime.rendezvous import HeldPort
from pretrain.runtime.world import World, joined_world
from shards.tokenizer import EOS_ID, load_tokenizer
from zeroshot.judge.task_evaluator import judge_shared
from zeroshot.judge.user_blocks import Blocks
from zeroshot.protocol.recommender import Judged
from zeroshot.tasks.task import Task, load_task

BATCHES = (1, 8)


class HuggingFace:
    """`generate` as a recommender: stopping rule `early_stopping=False`, so that nothing it could find is cut off, and
    sums of log-probabilities. Users come sorted by the length of their prompts, so that its batches have no more
    padding than ours."""

    def __init__(self, ours: GenerativeRecommender, model: Any, batch: int) -> None:
        self.name, self.ours, self.batch = f"Hugging Face, batch {batch}", ours, batch
        self.trie = DictTrie([ids.tolist() for ids in ours.token_ids])
        self.row_of = {tuple(ids.tolist()): row for row, ids in enumerate(ours.token_ids)}
        self.model = model
        self.prompts: dict[bytes, np.ndarray] = {}

    def identity(self) -> str:
        return f"{self.ours.identity()} {self.name}"

    def input_lengths(self, histories: list[np.ndarray]) -> np.ndarray:
        return np.array([len(self.prompts[history.tobytes()]) for history in histories])

    def make_ready(self, histories: list[np.ndarray]) -> None:
        """Prompts are made once, and not while the clock runs."""
        made = zip(histories, self.ours.inputs(histories), strict=True)
        self.prompts |= {history.tobytes(): prompt for history, prompt in made}

    def rank(self, histories: list[np.ndarray], protocols: Sequence[ProtocolName]) -> Ranking:
        assert list(protocols) == ["all"], "a prefix function cannot leave out items of one user"
        beam = self.ours.search.beam
        items_NK = np.full((len(histories), beam), -1, dtype=np.int64)
        scores_NK = np.full(items_NK.shape, -np.inf)
        for first in range(0, len(histories), self.batch):
            prompts = [self.prompts[history.tobytes()] for history in histories[first : first + self.batch]]
            batch = text_batch(prompts, [[]] * len(prompts), EOS_ID)
            with torch.no_grad():
                found = self.model.generate(
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


class Sides:
    """Ours and the others over one task, whose users are sorted by the length of their prompts."""

    def __init__(self, options: argparse.Namespace) -> None:
        tokenizer = load_tokenizer(options.shards / "tokenizer")
        task = load_task(options.shards, options.task, options.users, 0)
        model = load_model(options.model, tokenizer)
        ids = ids_of(options.ids, task, tokenizer)
        self.ours = GenerativeRecommender("ours", model, tokenizer, ids, PromptConfig(), SearchConfig(options.beam))
        self.task = task.of(Blocks.arrange(task, self.ours, 1).order_N)
        plain: Any = T5ForConditionalGeneration.from_pretrained(options.model, dtype=torch.float32).eval()
        self.peers = {batch: HuggingFace(self.ours, plain, batch) for batch in BATCHES}
        for peer in self.peers.values():
            peer.make_ready(self.task.histories)

    def run(self, batch: int | None, world: World) -> Run:
        """The judge over all users, everything included; `batch`: of the other side, None: ours. Collective."""
        side: Any = self.ours if batch is None else self.peers[batch]
        judge_shared(self.task.of(np.arange(2 * world.size)), side, world, quiet, protocols=("all",))
        world.barrier()
        started = time.perf_counter()
        judged = judge_shared(self.task, side, world, quiet, protocols=("all",))["all"]
        return Run(judged, time.perf_counter() - started)


def quiet(done: int, total: int) -> None:
    """Nobody looks on."""


def in_processes(options: argparse.Namespace, batches: list[int | None]) -> list[Run]:
    """`Sides.run` for each, shared out over as many processes as there are cores to use, one thread each."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    with HeldPort() as port:
        ranks = [
            context.Process(target=_rank, args=(rank, port.number, options, batches, answers))
            for rank in range(options.threads)
        ]
        for rank in ranks:
            rank.start()
        found = answers.get()
        for rank in ranks:
            rank.join()
    return found


def _rank(rank: int, port: int, options: argparse.Namespace, batches: list[int | None], answers: Any) -> None:
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(options.threads), MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )  # fmt: skip
    with joined_world(threads=1) as world:
        sides = Sides(options)
        found = [sides.run(batch, world) for batch in batches]
    if rank == 0:
        answers.put(found)


def ids_of(path: Path, task: Task, tokenizer: Any) -> list[np.ndarray]:
    """Token ids of every item, from an ID book or a file of texts."""
    if path.suffix == ".arrow":
        book = Book.load(path, tokenizer)
        text_of = dict(zip(book.items, book.texts, strict=True))
    else:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
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
