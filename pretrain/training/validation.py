"""Validation on the second last item of pretraining users (leave-one-out): NDCG and HR, which pick the model.

Enters: the recommender, the ID book of the Fusion, held-out users. Leaves: metrics, the same on every rank. Must hold:
each chosen user is ranked on exactly one rank, over the items of its own category, from `sequence[:-2]` alone; the test
item is not read.
"""

from __future__ import annotations

import numpy as np
from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration
from transformers.models.t5.tokenization_t5 import T5Tokenizer

from pretrain.config.run import PretrainConfig
from pretrain.ids.book import Book
from pretrain.ranking.generate import GenerativeRecommender, prior_of
from pretrain.ranking.metrics import mid_ranks, ndcg, summary
from pretrain.runtime.watchdog import beat
from pretrain.runtime.world import World
from shards.counters import generator as counter_generator
from shards.manifest import Manifest
from shards.tables import load_holdout, load_items

BLOCK = {"cpu": 16, "cuda": 64}


def validate(
    recommender: T5ForConditionalGeneration,
    tokenizer: T5Tokenizer,
    book: Book,
    manifest: Manifest,
    config: PretrainConfig,
    world: World,
    writer: T5ForConditionalGeneration | None = None,
) -> dict[str, float]:
    """HR and NDCG at 5 and 10 over a seeded sample of `validation_users` users, shared out evenly over the
    categories, and the standard error of NDCG@10. `writer`: of users' IDs, where prompts have them."""
    members = manifest.train_members
    block = BLOCK[world.device.type]
    quota = -(-config.schedule.validation_users // len(members))
    mine: list[tuple[int, list[float]]] = []
    for index, member in enumerate(members):
        beat(f"validation, reading {member.name}")
        holdout = load_holdout(config.shards, member)
        order = counter_generator(config.seed, "validation", member.name).permutation(len(holdout))
        users = np.sort(order[:quota])
        chosen = users[world.blocks(len(users), block)]
        first = member.row_offset
        token_ids = book.token_ids[first : first + member.num_items]
        prior = prior_of(recommender, tokenizer, token_ids, config.prompt, config.search, world)
        if len(chosen) == 0:
            continue
        texts = config.prompt.history == "texts" or config.prompt.user_id != "none"
        items = load_items(config.shards, manifest, member.name) if texts else None
        model = GenerativeRecommender(
            member.name, recommender, tokenizer, token_ids, config.prompt, config.search, block, items=items,
            log_prior=prior, generator=writer,
        )  # fmt: skip
        ranking = model.rank([holdout.histories[user] for user in chosen], ("all",))["all"]
        ranks_N = mid_ranks(ranking.scores_NK, ranking.items_NK, holdout.valid[chosen], member.num_items)
        mine.append((index, ranks_N.tolist()))
    ranks = [rank for part in world.gather(mine) for _, values in part for rank in values]
    ranks_N = np.sort(np.array(ranks))
    return {**summary(ranks_N), "NDCG@10_stderr": float(ndcg(ranks_N, 10).std() / len(ranks_N) ** 0.5)}
