"""What the report shows of IDs, from the `ids` part of results.json.

Enters: that part. Leaves: the rows of its tables and its plots; nothing is computed that the results do not say.
"""

from typing import Any

from markupsafe import Markup

from zeroshot.report import figures

DRAFTS = ("untrained", "trained")
DRAFT_TITLES = {"untrained": "untrained generator", "trained": "trained generator", "book": "the book"}
PAPER_SHARES = {"second_attempt_share": 0.1120, "longer_share": 0.0372}
"""Section 3.2 of the paper: Fusion, items that needed a second attempt, and items that needed a longer ID."""


def sections(ids: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The ID book of each catalogue; `length_histogram` (tokens -> items) and `quality` are optional."""
    return [
        book
        | {
            "name": name,
            "columns": [DRAFT_TITLES.get(column, column) for column in book.get("quality", {})],
            "measures": measures(book["quality"]) if "quality" in book else [],
            "drafts": [(key, DRAFT_TITLES[key]) for key in DRAFTS if key in (book["examples"] or [{}])[0]],
            "histogram": Markup(figures.length_histogram(figures.figure_name("ids", name), book["length_histogram"]))
            if book.get("length_histogram")
            else None,
        }
        for name, book in ids.items()
    ]


def measures(quality: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What is said about IDs, a row per measure, a share per column of the table (None: no item to count)."""
    columns = list(quality.values())
    fields = dict.fromkeys(field for column in columns for field in column["words_kept"])
    names = dict.fromkeys(name for column in columns for name, count in column["leaked"].items() if count)
    rows: dict[str, list[float | None]] = {
        "items with an ID no earlier item has": [column["distinct"] for column in columns]
    }
    for field in fields:
        rows[f"words that stand in the item’s {field}"] = [column["words_kept"].get(field, 0.0) for column in columns]
    rows["items with a number in their first field whose ID has it"] = [column["numbers_kept"] for column in columns]
    for name in names:
        rows[f"IDs with the field name “{name}”"] = [
            column["leaked"].get(name, 0) / max(1, column["items"]) for column in columns
        ]
    return [{"name": name, "shares": shares} for name, shares in rows.items()]
