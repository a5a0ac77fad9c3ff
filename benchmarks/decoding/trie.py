"""The trie's step beside a dictionary trie and a dense mask, and its cost from ten thousand to ten million items."""

import resource
import time
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from benchmarks.decoding.peer_tries import DenseMask, DictTrie
from benchmarks.decoding.setting import BEAM, Setting, in_turns, t5_small
from benchmarks.tables import table
from pretrain.decoding.decoder import T5Decoder
from pretrain.decoding.lists import top_stable
from pretrain.decoding.trie import Trie
from shards.tokenizer import EOS_ID

USERS, VOCAB = 8, 32128
DEPTHS = (1, 2, 4)
SIZES = (10_000, 100_000, 1_000_000, 10_000_000)


def prefixes_of(ids: Sequence[Sequence[int]], depth: int, count: int, seed: int = 0) -> list[list[int]]:
    """First `depth` tokens of random IDs that have more."""
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed)).tolist()
    return [list(ids[row][:depth]) for row in order if len(ids[row]) > depth][:count]


def nodes_of(trie: Trie, prefixes: list[list[int]]) -> Tensor:
    """The nodes of prefixes, [USERS, BEAM]."""
    nodes = []
    for prefix in prefixes:
        node = trie.root(1).flatten()
        for token in prefix:
            children = trie.allowed(node)
            node = children.node_C[children.token_C == token]
        nodes.append(node)
    return torch.cat(nodes).view(USERS, BEAM)


def step(setting: Setting) -> list[str]:
    """Milliseconds from hypotheses to the scores of what they may take, and bytes per item."""
    ids = setting.ids.to_pylist()
    trie, peer, dense = Trie.build(setting.ids, EOS_ID, VOCAB), DictTrie(ids), DenseMask(ids, VOCAB)
    scores_RV = torch.randn(USERS * BEAM, VOCAB)
    rows = []
    for depth in DEPTHS:
        prefixes = prefixes_of(ids, depth, USERS * BEAM)
        nodes_BR, tokens_RT = nodes_of(trie, prefixes), torch.tensor([[0, *prefix] for prefix in prefixes])
        states_R = torch.tensor([dense.walk(prefix) for prefix in prefixes])

        nodes_M = nodes_BR.flatten()
        legal = len(trie.allowed(nodes_M).token_C)
        assert legal == int(torch.isfinite(peer.mask(tokens_RT, scores_RV)).sum())
        assert legal == int(torch.isfinite(dense.step(states_R, scores_RV, depth)).sum())

        def scored(nodes_M: Tensor = nodes_M) -> Tensor:
            children = trie.allowed(nodes_M)
            return scores_RV.flatten()[children.row_C * VOCAB + children.token_C]

        seconds = in_turns(
            21,
            ours=partial(ten_times, trie, nodes_M),
            scored=lambda scored=scored: [scored() for _ in range(10)],
            dictionary=lambda tokens_RT=tokens_RT: peer.mask(tokens_RT, scores_RV),
            dense=lambda states_R=states_R, depth=depth: dense.step(states_R, scores_RV, depth),
        )
        mine, both = seconds["ours"] / 10, seconds["scored"] / 10
        rows.append([
            f"depth {depth}: {legal:,} legal tokens", f"{mine * 1e3:.3f}", f"{both * 1e3:.3f}",
            *(cell for peer_side in ("dictionary", "dense") for cell in (
                f"{seconds[peer_side] * 1e3:.2f}", f"{seconds[peer_side] / mine:.0f}",
                f"{seconds[peer_side] / both:.0f}",
            )),
        ])  # fmt: skip
    size = [trie.nbytes / len(ids), peer.nbytes() / len(ids), dense.nbytes() / len(ids)]
    rows.append([
        "bytes an item", f"{size[0]:.1f}", "", f"{size[1]:,.0f}", f"{size[1] / size[0]:.0f}", "", f"{size[2]:.0f}",
        f"{size[2] / size[0]:.1f}", "",
    ])  # fmt: skip
    columns = [
        "160 hypotheses", "ours, ms", "with their scores, ms", "dictionaries, ms", "times", "times, with scores",
        "dense mask, ms", "times", "times, with scores",
    ]  # fmt: skip
    return [
        "## One step of the trie", "",
        f"{len(ids):,} items, {USERS} users of {BEAM} hypotheses of random items. Ours: legal tokens and the nodes they"
        " lead to, then also their scores picked out of a [160, 32128] matrix. Dictionaries: the prefix function of "
        "`generate` with its logits processor. Dense mask: a CSR matrix over IDs of one length and a mask over the "
        "vocabulary, after STATIC.", "", *table(columns, rows),
    ]  # fmt: skip


def scale(setting: Setting) -> list[str]:
    """Build time, bytes, the trie's step and a whole decoding step for growing catalogues."""
    decoder, rows, first = T5Decoder(t5_small()), [], []
    for size in [size for size in SIZES if size <= setting.options.largest]:
        ids = setting.real.recombine(size)
        started = time.perf_counter()
        trie = Trie.build(ids, EOS_ID, VOCAB)
        built = time.perf_counter() - started
        sample = ids.slice(0, min(size, 200_000)).to_pylist()
        cells, whole = [], []
        for depth in DEPTHS:
            nodes_BR = nodes_of(trie, prefixes_of(sample, depth, USERS * BEAM))
            nodes_M = nodes_BR.flatten()
            legal = len(trie.allowed(nodes_M).token_C)
            seconds = in_turns(
                9,
                trie=partial(ten_times, trie, nodes_M),
                whole=decoding_step(setting, decoder, trie, nodes_M, depth),
            )
            cells.append(f"{seconds['trie'] * 100:.2f} ({legal:,})")
            whole.append(seconds["whole"] * 1e3)
        first = first or whole
        rows.append([
            f"{size:,}", f"{built:.1f}", f"{trie.nbytes / size:.1f}", *cells,
            *(f"{now:.0f} ({now / then:.2f})" for now, then in zip(whole, first, strict=True)),
        ])  # fmt: skip
        del ids, trie, sample
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    columns = [
        "items", "build, s", "bytes an item", *(f"trie at depth {d}, ms (legal tokens)" for d in DEPTHS),
        *(f"step at depth {d}, ms (times 10,000 items)" for d in DEPTHS),
    ]  # fmt: skip
    return [
        "## Ten thousand to ten million items", "",
        f"A step: T5-small's decoder and head for {USERS * BEAM} hypotheses, the trie, the {BEAM} best of each user. "
        f"Peak memory of the process, catalogue and peers included: {peak:.1f} GB.", "", *table(columns, rows),
    ]  # fmt: skip


def ten_times(trie: Trie, nodes_M: Tensor) -> None:
    """The trie's step alone, often enough to be timed."""
    for _ in range(10):
        trie.allowed(nodes_M)


def decoding_step(setting: Setting, decoder: T5Decoder, trie: Trie, nodes_M: Tensor, depth: int):
    """A function that does one whole step of 160 hypotheses of `depth` tokens, as a search does it."""
    input_ids_BS, mask_BS = setting.input_ids_BS[:USERS], setting.mask_BS[:USERS]
    encoded_BSE = decoder.encode(input_ids_BS, mask_BS)
    tokens_BR = torch.randint(3, 32000, (USERS, BEAM), generator=torch.Generator().manual_seed(0))
    ready = decoder.start(encoded_BSE, mask_BS)
    decoder.step(ready, torch.zeros(USERS, 1, dtype=torch.long))
    ready.reorder(torch.zeros(USERS, BEAM, dtype=torch.long))
    for _ in range(depth - 1):
        decoder.step(ready, tokens_BR)
    everyone = torch.arange(USERS)

    def run() -> Tensor:
        hidden_ME = decoder.step(ready.select(everyone), tokens_BR)
        children = trie.allowed(nodes_M)
        score_C, _ = decoder.log_probs(hidden_ME, children.row_C, children.token_C)
        prompt_C = children.row_C // BEAM
        first_B = torch.searchsorted(children.row_C, everyone * BEAM)
        place_C = torch.arange(len(prompt_C)) - first_B[prompt_C]
        score_BW = torch.full((USERS, int(place_C.max()) + 1), float("-inf"))
        score_BW[prompt_C, place_C] = score_C
        return top_stable(score_BW, BEAM)

    return run
