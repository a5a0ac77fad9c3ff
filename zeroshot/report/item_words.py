"""The words that stand beside an ID where a report shows users.

Enters: browsable users (items as IDs), the ID and the text of every item. Leaves: ID -> title for the IDs shown. What
must hold: one title per ID, taken from the item's own text.
"""

from typing import Any

from shards.text import field_values

LONGEST = 90


def title(text: str) -> str:
    """The value of a text's first field that says something, `name: value; name: value`, cut to LONGEST characters."""
    said = next(iter(field_values(text)), "")
    return said if len(said) <= LONGEST else said[: LONGEST - 1].rstrip() + "…"


def titles(users: list[dict[str, Any]], ids: list[str], texts: list[str]) -> dict[str, str]:
    """Titles of the IDs in users' histories, targets and lists; `ids` and `texts` are by item row."""
    shown = {id_ for user in users for id_ in (*user["history"], user["target"], *(entry[0] for entry in user["list"]))}
    return {id_: title(text) for id_, text in zip(ids, texts, strict=True) if id_ in shown}
