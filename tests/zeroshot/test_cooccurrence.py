"""Baselines that count who bought what together: by hand, blind to what is held out."""

from dataclasses import replace

import numpy as np
import pytest
from rings import scores

from pretrain.ranking.context import FLOOR, Context
from zeroshot import baselines
from zeroshot.audit.leakage import leakage_check
from zeroshot.baselines.text_popularity import repeat_share

TEXTS = ["red shoe", "red hat", "blue hat", "blue shoe"]
HISTORIES = [np.array(history) for history in ([0, 1], [0, 1, 3], [0, 1], [2])]


def cosine(together: int) -> float:
    return together / FLOOR  # no item has more users than that


def test_star_by_hand() -> None:
    """Half the words and half the users, of the last three items alone."""
    vectors, context = baselines.item_vectors(TEXTS), Context(HISTORIES, 4)
    (found,) = scores(baselines.Star(vectors, context), [2, 3, 3, 0])
    weights = np.array([1, 0, 0, 0.7 + 0.49])
    users = np.array([[0, 3, 0, 1], [3, 0, 0, 1], [0, 0, 0, 0], [1, 1, 0, 0]]) / FLOOR
    assert np.allclose(found, 0.5 * weights @ (vectors @ vectors.T).toarray() + 0.5 * weights @ users)


def test_what_was_bought_together_adds_to_words_and_counts() -> None:
    vectors, context = baselines.item_vectors(TEXTS), Context(HISTORIES, 4)
    (found,) = scores(baselines.TextPopularityCooccurrence(vectors, HISTORIES, context, 3.0, 0.5, 2.0, 40.0), [0])
    words = np.array([0, 0.5, 0, 0.5])
    logits = 3 * words + 0.5 * np.log1p(context.counts_I) + 2 * np.log1p(40 * np.array([0, cosine(3), 0, cosine(1)]))
    odds = np.exp(logits[1:])
    share = repeat_share(HISTORIES)
    assert np.allclose(np.exp(found), [share, *((1 - share) * odds / odds.sum())])


def test_identity_follows_the_context() -> None:
    vectors = baselines.item_vectors(TEXTS)
    made = [
        baselines.TextPopularityCooccurrence(vectors, HISTORIES, Context(histories, 4))
        for histories in (HISTORIES, HISTORIES, HISTORIES[::-1], [*HISTORIES[:3], np.array([0, 2])])
    ]
    one, same, other_order, other = (recommender.identity() for recommender in made)
    assert one == same == other_order != other


@pytest.mark.parametrize("name", ["text+popularity+cooccurrence", "star"])
def test_a_count_of_what_is_held_out_is_found(ring_task, name: str) -> None:
    task, context = ring_task(), baselines.BaselineContext()

    def honest(other):
        return baselines.build((name,), other, context)[0]

    def of_histories(other):  # the judged users' validation items are among the counts
        return honest(replace(other, training_histories=other.histories))

    def of_whole_sequences(other):
        wholes = [np.append(history, target) for history, target in zip(other.histories, other.targets, strict=True)]
        return honest(replace(other, training_histories=wholes))

    assert leakage_check(task, honest(task), honest).verdict == "passed"
    for leaky, part in ((of_histories, "validation items"), (of_whole_sequences, "targets")):
        check = leakage_check(task, leaky(task), leaky)
        assert check.verdict == "failed" and part in check.words
