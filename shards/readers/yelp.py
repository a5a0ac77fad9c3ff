"""The Yelp open dataset: reviews and businesses, one JSON object a line.

Enter `review.json` and `business.json`; leave frames of EVENT_SCHEMA and TEXT_SCHEMA in the order of the files. The
date of a review has no zone; it counts as UTC, so that comparing times is comparing the dates as text.
"""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from shards.readers.events import identifier, read_text
from shards.readers.json_lines import Keys, parse_object, read_json_events
from shards.readers.rejects import Rejects
from shards.text import item_text

REVIEWS = Keys("user_id", "business_id", "stars", "date", "date")
# The city tells the branches of a chain apart; street addresses would be new words in every line.
FIELDS = ("name", "city", "categories")


def read_yelp_events(path: Path, rejects: Rejects) -> Iterator[pl.DataFrame]:
    """Reviews; every one counts, repeats too."""
    return read_json_events(path, REVIEWS, rejects)


def read_yelp_items(path: Path, rejects: Rejects) -> Iterator[pl.DataFrame]:
    """Businesses; `categories` is one text with commas, or null."""

    def row(line: bytes) -> tuple[str, str]:
        value = parse_object(line)
        text = item_text({field: value.get(field) for field in FIELDS})
        return identifier(value.get("business_id"), "business_id"), text

    return read_text(path, rejects, row)
