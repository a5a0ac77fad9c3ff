"""`ranks.parquet`: one row per (task, recommender, protocol, user).

Enters: judged ranks and facts about users and targets. Leaves: one table of a fixed schema. What must hold: a user has
one rank per recommender, task and protocol; every number of a report that is about users comes from this table again.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from shards.files.atomic import whole
from shards.files.database import read_parquet
from zeroshot.tasks.task import Task

SCHEMA = {
    "task": pl.String,
    "recommender": pl.String,
    "protocol": pl.String,
    "user": pl.String,
    "rank": pl.Float64,
    "target_is_new": pl.Boolean,
    "history_length": pl.Int32,
    "target_count": pl.Int32,
    "text_words": pl.Int32,
    "id_tokens": pl.Int32,
    "novelty": pl.Float32,
    "top_score": pl.Float32,
}
NULLABLE = ("id_tokens", "novelty", "top_score")
KEY = ("task", "recommender", "protocol", "user")


@dataclass(frozen=True)
class UserFacts:
    """What is known of N judged users of a task, whoever recommends.

    Attributes:
        users: N names.
        target_is_new_N: bool, the target is not in the history.
        history_lengths_N: int, items in the history.
        target_counts_N: int, how often the target occurs in the training histories (sequence[:-2]) of all users.
        text_words_N: int, words of the target's text.
        id_tokens_N: int, tokens of the target's ID in the model's book; None where no book was made.
    """

    users: list[str]
    target_is_new_N: np.ndarray
    history_lengths_N: np.ndarray
    target_counts_N: np.ndarray
    text_words_N: np.ndarray
    id_tokens_N: np.ndarray | None = None


def user_facts(task: Task, id_lengths_I: np.ndarray | None = None) -> UserFacts:
    """The facts of a task's judged users; `id_lengths_I`: tokens of every item's ID, None where there is no book."""
    words_I = np.array([len(text.split()) for text in task.texts])
    return UserFacts(
        users=task.users,
        target_is_new_N=task.target_is_new,
        history_lengths_N=task.history_lengths,
        target_counts_N=training_counts(task)[task.targets],
        text_words_N=words_I[task.targets],
        id_tokens_N=None if id_lengths_I is None else id_lengths_I[task.targets],
    )


def training_counts(task: Task) -> np.ndarray:
    """How often each item of the catalogue occurs in the training histories (sequence[:-2]) of all users."""
    return np.bincount(np.concatenate(task.training_histories), minlength=len(task.items))


def ranks_table(
    task: str,
    recommender: str,
    protocol: str,
    facts: UserFacts,
    ranks_N: np.ndarray,
    novelty_N: np.ndarray | None = None,
    top_scores_N: np.ndarray | None = None,
) -> pl.DataFrame:
    """Rows of one judged recommender, rank inf where the target is absent.

    Args:
        task, recommender, protocol: what the ranks are of.
        facts: about the users, in the order of the ranks.
        ranks_N: 1-based, mid-rank for ties.
        novelty_N: of each list, NaN where it is empty; None = not measured.
        top_scores_N: score of each list's first item, -inf where it is empty; None = no score that means anything.
    """
    count = len(facts.users)
    return pl.DataFrame(
        {
            "task": [task] * count,
            "recommender": [recommender] * count,
            "protocol": [protocol] * count,
            "user": facts.users,
            "rank": np.asarray(ranks_N, dtype=np.float64),
            "target_is_new": np.asarray(facts.target_is_new_N, dtype=bool),
            "history_length": np.asarray(facts.history_lengths_N, dtype=np.int32),
            "target_count": np.asarray(facts.target_counts_N, dtype=np.int32),
            "text_words": np.asarray(facts.text_words_N, dtype=np.int32),
            "id_tokens": [None] * count if facts.id_tokens_N is None else np.asarray(facts.id_tokens_N, dtype=np.int32),
            "novelty": finite(novelty_N, count),
            "top_score": finite(top_scores_N, count),
        },
        schema=SCHEMA,
    )


def finite(values_N: np.ndarray | None, count: int) -> list[float | None]:
    """Float values with None for what is not finite, or for all of a missing array."""
    if values_N is None:
        return [None] * count
    return [float(value) if np.isfinite(value) else None for value in np.asarray(values_N, dtype=np.float32)]


def check(ranks: pl.DataFrame) -> None:
    """ValueError where a column is missing, of another type or empty in places, or a user is there twice."""
    for column, dtype in SCHEMA.items():
        if ranks.schema.get(column) != dtype:
            raise ValueError(f"ranks have column {column} as {ranks.schema.get(column)}, expected {dtype}")
        if column not in NULLABLE and ranks[column].null_count():
            raise ValueError(f"ranks have users without {column}")
    if ranks.select(KEY).is_duplicated().any():
        raise ValueError("a user has two ranks for one recommender, task and protocol")


def save_ranks(ranks: pl.DataFrame, path: str | Path) -> None:
    """Writes a checked ranks.parquet."""
    check(ranks)
    with whole(Path(path)) as sink:
        ranks.write_parquet(sink)


def load_ranks(path: str | Path) -> pl.DataFrame:
    """Reads and checks ranks.parquet; ValueError when it is missing or of another form."""
    if not Path(path).is_file():
        raise ValueError(f"{path} is missing; make it with `idgenrec zeroshot`")
    ranks = read_parquet(path)
    check(ranks)
    return ranks
