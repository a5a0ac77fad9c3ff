"""Where blocks of items and one item at a time write different IDs, and by how little: first attempts, one model.

Enters: a shard folder and a generator. Leaves: how many items' token sequences differ between calls of `block_size`
rows and calls of one row, and of each the gap between the two tokens where the sequences part. Must hold: every gap is
below 1e-4; anything above is a fault, not rounding.

    python -m benchmarks.ids.ties --shards SHARDS --catalogue Beauty --generator T5 [--items 12101] [--part 0 --parts 2]
"""

import argparse
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration
from transformers.models.t5.tokenization_t5 import T5Tokenizer

from pretrain.config.ids import IdConfig
from pretrain.ids.blocks import Layout, attempt_of, lay_out, next_blocks
from pretrain.ids.writer import Writer
from pretrain.model.t5 import load_model
from shards.manifest import TOKENIZER_FOLDER, Manifest
from shards.tables import ItemTable, load_items
from shards.tokenizer import EOS_ID, load_tokenizer

TIE = 1e-4


def sequences(writer: Writer, rows: Iterable[int], layout: Layout, config: IdConfig) -> dict[int, np.ndarray]:
    """Raw token sequences of the rows' first attempts, [G, T] each."""
    found = {}
    for block in next_blocks(rows, lambda _: 0, layout, config):
        tokens_BGT = writer.search(block).tokens_BGKT[:, :, 0].numpy()
        found |= {int(row): tokens_BGT[i] for i, row in enumerate(block.rows_B) if row >= 0}
        writer.keep_only([])
    return found


@torch.no_grad()
def gap(
    generator: T5ForConditionalGeneration, text_S: np.ndarray, one_GT: np.ndarray, other_GT: np.ndarray, penalty: float
) -> float:
    """How far apart the scores are of the two tokens at which the searches first part, by the model's own forward."""
    step, group = next(
        (t, g) for t in range(one_GT.shape[1]) for g in range(len(one_GT)) if one_GT[g, t] != other_GT[g, t]
    )
    start = generator.config.decoder_start_token_id or 0
    prefix = torch.tensor([[start, *one_GT[group, :step].tolist()]])
    text = torch.tensor([[*text_S.tolist(), EOS_ID]])
    log_probs_V = generator(input_ids=text, decoder_input_ids=prefix).logits[0, -1].log_softmax(-1)
    before = [int(one_GT[g, step]) for g in range(group) if EOS_ID not in one_GT[g, :step]]
    first, second = (
        float(log_probs_V[token]) - penalty * before.count(int(token))
        for token in (one_GT[group, step], other_GT[group, step])
    )
    return abs(first - second)


def compare(
    generator: T5ForConditionalGeneration,
    tokenizer: T5Tokenizer,
    items: ItemTable,
    config: IdConfig,
    single: IdConfig,
    part: range,
) -> Iterator[tuple[int, list[float]]]:
    """Of every call of `part`: how many items it decoded, and the gap of each that one row alone decodes otherwise."""
    sides = [(lay_out(items, options), options) for options in (config, single)]
    writers = [Writer(generator, tokenizer, items, layout, options, lambda _: 0) for layout, options in sides]
    penalty = attempt_of(0, config).penalty
    blocks = next_blocks(range(len(items)), lambda _: 0, *sides[0])
    for block in (blocks[i] for i in part if i < len(blocks)):
        rows = [int(row) for row in block.rows_B if row >= 0]
        ours, theirs = (sequences(writer, rows, *side) for writer, side in zip(writers, sides, strict=True))
        yield (
            len(rows),
            [
                gap(generator, items.tokens(row)[: config.item_text_tokens - 1], theirs[row], ours[row], penalty)
                for row in rows
                if not np.array_equal(ours[row], theirs[row])
            ],
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", required=True)
    parser.add_argument("--catalogue", default="train")
    parser.add_argument("--generator", required=True)
    parser.add_argument("--items", type=int, default=1 << 60)
    parser.add_argument("--block-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--part", type=int, default=0, help="this process takes every `--parts`-th call from here")
    parser.add_argument("--parts", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    started = time.monotonic()
    tokenizer = load_tokenizer(Path(options.shards) / TOKENIZER_FOLDER)
    items = load_items(options.shards, Manifest.load(options.shards), options.catalogue)
    items = items.take(range(min(options.items, len(items))))
    config, single = IdConfig(block_size=options.block_size), IdConfig(block_size=1)
    generator = load_model(options.generator, tokenizer)
    part = range(options.part, len(items), options.parts)
    seen, gaps = 0, []
    for calls, (num_items, found) in enumerate(compare(generator, tokenizer, items, config, single, part), 1):
        seen, gaps = seen + num_items, gaps + found
        if calls % 10 == 0:
            print(f"{seen:,} items, {len(gaps)} differ, {time.monotonic() - started:.0f} s", flush=True)
    print(
        f"{seen:,} items, blocks of {config.block_size} rows against one row: {len(gaps):,} items differ"
        + (f", the largest gap where they part is {max(gaps):.1e}" if gaps else "")
        + f" ({time.monotonic() - started:.0f} s)"
    )
    if gaps and max(gaps) >= TIE:
        raise SystemExit(f"{sum(value >= TIE for value in gaps)} of them are no tie below {TIE}")


if __name__ == "__main__":
    main()
