"""Ranked lists per second beside Hugging Face's `generate` with a prefix function, and where our time goes."""

import copy
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch.nn import functional as F
from torch.profiler import ProfilerActivity
from torch.profiler import profile as torch_profile

from benchmarks.decoding.peer_tries import DictTrie
from benchmarks.decoding.setting import BEAM, Setting, in_turns
from benchmarks.tables import table
from pretrain.decoding.config import SearchConfig
from pretrain.decoding.constrained import beam_search
from pretrain.decoding.decoder import T5Decoder
from pretrain.decoding.trie import Trie
from pretrain.model.t5 import with_fused_activation
from shards.tokenizer import EOS_ID


def ours(setting: Setting, decoder: T5Decoder, trie: Trie, batch: int) -> list[list[tuple[float, int]]]:
    """Lists of all users, `batch` at a time."""
    found = []
    for input_ids_BS, mask_BS in zip(setting.input_ids_BS.split(batch), setting.mask_BS.split(batch), strict=True):
        state = decoder.start(decoder.encode(input_ids_BS, mask_BS), mask_BS)
        lists = beam_search(decoder, state, trie, SearchConfig(BEAM))
        for items, scores in zip(lists.items_BK.tolist(), lists.scores_BK.tolist(), strict=True):
            found.append(list(zip(scores, items, strict=True)))
    return found


def hugging_face(setting: Setting, model: Any, trie: DictTrie, batch: int) -> list[list[tuple[int, ...]]]:
    """The same with `generate`: stopping rule `early_stopping=False`, so that nothing it could find is cut off."""
    found = []
    chunks = zip(setting.input_ids_BS.split(batch), setting.mask_BS.split(batch), strict=True)
    for input_ids_BS, mask_BS in chunks:
        with torch.no_grad():
            rows = model.generate(
                input_ids=input_ids_BS, attention_mask=mask_BS, num_beams=BEAM, num_return_sequences=BEAM,
                prefix_allowed_tokens_fn=trie, max_new_tokens=trie.depth, early_stopping=False, length_penalty=0.0,
                do_sample=False,
            )  # fmt: skip
        sequences = [tuple(row[1 : row.index(EOS_ID)]) if EOS_ID in row else () for row in rows.tolist()]
        found += [sequences[start : start + BEAM] for start in range(0, len(sequences), BEAM)]
    return found


def users(setting: Setting) -> list[str]:
    trie = Trie.build(setting.ids, EOS_ID, 32128)
    ids = setting.ids.to_pylist()
    peer = DictTrie(ids)
    lines = [
        "## Ranked lists", "",
        f"{len(ids):,} items, beam {BEAM}, prompts of {setting.input_ids_BS.shape[1]} tokens. Hugging Face's `generate`"
        " with a prefix function over a dictionary trie, stopping rule `early_stopping=False`, sums of "
        "log-probabilities (`length_penalty=0`).", "",
    ]  # fmt: skip
    rows, small, eight = [], first_users(setting, 4), first_users(setting, 8)
    for name, model in setting.models.items():
        decoder = T5Decoder(with_fused_activation(copy.deepcopy(model)))
        sides: dict[str, tuple[int, Callable[[], Any]]] = {
            "Hugging Face, batch 1": (4, partial(hugging_face, small, model, peer, 1)),
            "Hugging Face, batch 8": (8, partial(hugging_face, eight, model, peer, 8)),
            "ours, batch 1": (4, partial(ours, small, decoder, trie, 1)),
            "ours, batch 8": (8, partial(ours, eight, decoder, trie, 8)),
            "ours, batch 32": (len(setting.input_ids_BS), partial(ours, setting, decoder, trie, 32)),
        }
        seconds = in_turns(setting.options.repeats, **{side: run for side, (_, run) in sides.items()})
        per_user = {side: seconds[side] / number for side, (number, _) in sides.items()}
        for side, mine in per_user.items():
            ratios = [f"{per_user[f'Hugging Face, batch {batch}'] / mine:.1f}" for batch in (1, 8)]
            rows.append([f"{side} ({name})", f"{mine * 1e3:.0f}", f"{1 / mine:.1f}", *ratios])
        lines += overlap(name, ids, ours(eight, decoder, trie, 8), hugging_face(eight, model, peer, 8))
    columns = ["lists of 20", "ms a user", "users/s", "times HF batch 1", "times HF batch 8"]
    return [*lines, "", *table(columns, rows)]


def overlap(name: str, ids: list, found: list, theirs: list) -> list[str]:
    """How much of each side's lists the other has, and why."""
    mine = [{tuple(ids[item]) for _, item in row if item >= 0} for row in found]
    other = [set(row) - {()} for row in theirs]
    shared = sum(len(a & b) for a, b in zip(mine, other, strict=True))
    return [
        f"* {name}: {shared / sum(map(len, mine)):.1%} of our {sum(map(len, mine)) / len(mine):.1f} items a list are in"
        " Hugging Face's. It drops a finished hypothesis that is not among the first 20 continuations of its step, and "
        "then has room for a less probable one."
    ]  # fmt: skip


def first_users(setting: Setting, count: int) -> Setting:
    """The same setting with the first users only."""
    return replace(setting, input_ids_BS=setting.input_ids_BS[:count], mask_BS=setting.mask_BS[:count])


def profile(setting: Setting) -> list[str]:
    """Seconds by stage and by operation, beside the floor: the model's multiplications at the speed of a large one."""
    trie = Trie.build(setting.ids, EOS_ID, 32128)
    lines = ["## Where the time goes", ""]
    for name, model in setting.models.items():
        decoder = T5Decoder(with_fused_activation(copy.deepcopy(model)))
        ours(setting, decoder, trie, 32)
        with stages() as spent:
            started = time.perf_counter()
            ours(setting, decoder, trie, 32)
            total = time.perf_counter() - started
        fed = spent.pop("tokens")
        rate = multiply_rate(model)
        floor = flops(setting, model, int(fed)) / rate
        with torch_profile(activities=[ProfilerActivity.CPU]) as found:
            ours(setting, decoder, trie, 32)
        kinds = by_kind(found)
        spent["the rest: beams, lists, masks between passes"] = total - sum(spent.values())
        users_ = len(setting.input_ids_BS)
        rows = [[stage, f"{seconds / users_ * 1e3:.1f}", f"{seconds / total:.0%}"] for stage, seconds in spent.items()]
        lines += [
            f"{name}, batch 32: {total / users_ * 1e3:.0f} ms a user; {fed / users_:.0f} tokens fed to the decoder per "
            f"user. The floor, the model's own multiplications at the {rate / 1e9:.0f} GFLOP/s that one large product "
            f"reaches here, is {floor / users_ * 1e3:.0f} ms a user: {floor / total:.0%} of the time.", "",
            *table(["stage", "ms a user", "share"], rows),
            *table(["operation", "share of the time"], [[kind, f"{share:.0%}"] for kind, share in kinds.items()]),
        ]  # fmt: skip
    return lines


@contextmanager
def stages() -> Iterator[dict[str, float]]:
    """Seconds inside each stage of a search, and tokens fed, while the context lasts."""
    from pretrain.decoding import constrained

    spent: dict[str, float] = defaultdict(float)
    places = {
        "encoder": (T5Decoder, "encode"), "cross-attention keys and values": (T5Decoder, "start"),
        "decoder layers": (T5Decoder, "extend"), "head, log-sum-exp, logits of children": (T5Decoder, "log_probs"),
        "trie: allowed": (Trie, "allowed"), "trie: tails": (Trie, "tail"),
        "best of the children": (constrained, "top_stable"),
    }  # fmt: skip
    kept = {stage: getattr(*place) for stage, place in places.items()}

    def timed(stage: str) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            started = time.perf_counter()
            result = kept[stage](*args, **named)
            spent[stage] += time.perf_counter() - started
            if stage == "decoder layers":
                spent["tokens"] += len(result)
            return result

        return call

    for stage, (owner, name) in places.items():
        setattr(owner, name, timed(stage))
    try:
        yield spent
    finally:
        for stage, (owner, name) in places.items():
            setattr(owner, name, kept[stage])


def flops(setting: Setting, model: Any, tokens: int) -> float:
    """Multiplications and additions of linear layers: encoder, cross keys and values; decoder and head per token."""
    size = {
        name: module.weight.numel() for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)
    }
    encoder = sum(count for name, count in size.items() if name.startswith("encoder"))
    cross = sum(n for name, n in size.items() if name.endswith(("EncDecAttention.k", "EncDecAttention.v")))
    decoder = sum(n for name, n in size.items() if name.startswith("decoder")) - cross
    inputs = setting.input_ids_BS.numel()
    return 2.0 * (inputs * (encoder + cross) + tokens * (decoder + model.lm_head.weight.numel()))


def multiply_rate(model: Any) -> float:
    """FLOP/s of a product of the decoder's width: 640 rows by a square of four times the width."""
    width = model.config.d_model
    left, right = torch.randn(640, width), torch.randn(4 * width, width)
    seconds = in_turns(9, product=lambda: [F.linear(left, right) for _ in range(20)])["product"]
    return 2.0 * 640 * width * 4 * width * 20 / seconds


def by_kind(found: Any) -> dict[str, float]:
    """Share of operators' own time: products, attention, log-sum-exp, normalisation and other element-wise work."""
    kinds = {
        "matrix products": ("aten::mm", "aten::addmm", "aten::bmm"),
        "attention": ("aten::_scaled_dot_product_flash_attention_for_cpu",),
        "exp, sub, amax (log-sum-exp)": ("aten::exp_", "aten::sub", "aten::amax"),
        "mul, add, pow, mean, tanh (normalisation, activation, residuals)": (
            "aten::mul", "aten::add", "aten::pow", "aten::mean", "aten::tanh", "aten::rsqrt", "aten::sum",
        ),
        "copies and index": (
            "aten::copy_", "aten::index", "aten::gather", "aten::cat", "aten::index_copy_", "aten::fill_",
        ),
    }  # fmt: skip
    own = {event.key: event.self_cpu_time_total for event in found.key_averages()}
    total = sum(own.values())
    shares = {kind: sum(own.get(key, 0.0) for key in keys) / total for kind, keys in kinds.items()}
    return shares | {"everything else": 1.0 - sum(shares.values())}
