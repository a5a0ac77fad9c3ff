"""The users whom a report shows: history, list, target and rank as IDs, and the words that stand beside an ID.

Enters: a task, its ID book, what was judged. Leaves: the `users` and `titles` parts of results.json. What must hold:
one title per ID, taken from the item's own text.
"""

from typing import Any

from pretrain.ids.book import Book
from shards.text import field_values
from zeroshot.protocol.recommender import Judged
from zeroshot.tasks.task import Task

LONGEST = 90


def browsable_users(
    task: Task, book: Book, judged: Judged, count: int, user_ids: list[str] | None = None
) -> list[dict[str, Any]]:
    """The first `count` users with history, top ten, target and rank, as IDs, for the report (protocol `all`), and with
    their own IDs where they have some."""
    return [
        {
            "user": user,
            **({} if user_ids is None else {"user_id": user_ids[index]}),
            "history": [book.texts[row] for row in task.histories[index]],
            "target": book.texts[task.targets[index]],
            "list": [
                [book.texts[row], float(score)]
                for row, score in zip(judged.top_NK[index], judged.scores_NK[index], strict=True)
                if row >= 0
            ],
            "rank": float(judged.ranks_N[index]),
        }
        for index, user in enumerate(task.users[:count])
    ]


def title(text: str) -> str:
    """The value of a text's first field that says something, `name: value; name: value`, cut to LONGEST characters."""
    value = next(iter(field_values(text)), "")
    return value if len(value) <= LONGEST else value[: LONGEST - 1].rstrip() + "…"


def titles(users: list[dict[str, Any]], ids: list[str], texts: list[str]) -> dict[str, str]:
    """Titles of the IDs in users' histories, targets and lists; `ids` and `texts` are by item row."""
    shown = {id_ for user in users for id_ in (*user["history"], user["target"], *(entry[0] for entry in user["list"]))}
    return {id_: title(text) for id_, text in zip(ids, texts, strict=True) if id_ in shown}
