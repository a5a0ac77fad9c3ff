"""Diverse beam search as published (Vijayakumar et al. 2016, algorithm 1), written slowly: one item, no batch."""

from typing import Any

from hypothesis import assume
from naive_search import EOS, next_log_probs, read


def published(
    model: Any, prompt: list[int], groups: int, beams: int, penalty: float, shortest: int, longest: int,
    barred: list[int], close: float,
) -> list[list[tuple[float, tuple[int, ...]]]]:  # fmt: skip
    """Per group its `beams` best sequences (score with penalties, tokens up to EOS), best first.

    At each step group after group takes its best continuations; a token counts `penalty` for each time that an earlier
    group took it at this step. One that ends in EOS leaves the beam. Ties within `close` are rejected.
    """
    live: list[list[tuple[float, tuple[int, ...]]]] = [[(0.0, ())] for _ in range(groups)]
    ended: list[list[tuple[float, tuple[int, ...]]]] = [[] for _ in range(groups)]
    states_1SD = read(model, prompt)
    for step in range(longest + 1):
        taken: list[int] = []
        for group in range(groups):
            grown, prefixes = [], [tokens for _, tokens in live[group]]
            log_probs_NV = next_log_probs(model, states_1SD, prefixes).tolist() if prefixes else []
            for (score, tokens), log_probs in zip(live[group], log_probs_NV, strict=True):
                for token in range(len(log_probs)):
                    if token in barred or (token == EOS and step < shortest):
                        continue
                    penalised = score + log_probs[token] - penalty * taken.count(token)
                    grown.append((penalised, (*tokens, token)))
            grown.sort(reverse=True)
            for one, two in zip(grown[: beams + 1], grown[1 : beams + 2], strict=False):
                assume(one[0] - two[0] > close)
            chosen = grown[:beams]
            taken += [tokens[-1] for _, tokens in chosen]
            ended[group] += [entry for entry in chosen if entry[1][-1] == EOS]
            live[group] = [entry for entry in chosen if entry[1][-1] != EOS]
    return [sorted(done + going, reverse=True)[:beams] for done, going in zip(ended, live, strict=True)]
