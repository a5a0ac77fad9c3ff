"""Raw files for benchmarks: one category of generated ratings and metadata in the layout of Amazon 2018.

Enters a number of interactions and a shape; leaves `Generated/Generated.csv` and `meta_Generated.json`. Same arguments,
same bytes.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

WORDS = np.array(["amber", "birch", "cedar", "delta", "ember", "flint", "grove", "heron", "ivory", "jade"])


@dataclass(frozen=True)
class Shape:
    """Users, items, and how skewed both are: id number N * u ** skew for u uniform on (0, 1)."""

    users: int
    items: int
    user_skew: float
    item_skew: float

    @staticmethod
    def dense(interactions: int, items: int) -> "Shape":
        """Nearly everybody is in the 5-core: much to sort and to write."""
        return Shape(interactions // 18, items, 1.4, 2.0)

    @staticmethod
    def raw(interactions: int) -> "Shape":
        """As raw dumps are, most users with one or two: 0.58 users and 0.07 items an interaction, 13% in the 5-core.

        Amazon 2014 ratings: Beauty has 0.60, 0.12 and 10%, Electronics 0.54, 0.06 and 22%.
        """
        return Shape(3 * interactions, 7 * interactions // 100, 4.0, 2.5)


def generate(folder: Path, interactions: int, shape: Shape, texts: int, seed: int = 0) -> Path:
    """Ratings and metadata of one category, `Generated`: item,user,rating,timestamp; metadata of `texts` items."""
    category = folder / "Generated"
    category.mkdir(parents=True)
    draw = np.random.default_rng(seed)
    with open(category / "Generated.csv", "wb") as stream:
        for start in range(0, interactions, 1_000_000):
            count = min(1_000_000, interactions - start)
            user = (shape.users * draw.random(count) ** shape.user_skew).astype(np.int64)
            item = (shape.items * draw.random(count) ** shape.item_skew).astype(np.int64)
            frame = pl.DataFrame({"item": item, "user": user, "time": draw.integers(10**9, 14 * 10**8, count)}).select(
                ("B" + (pl.col("item") * 7919 % 10**9 + 10**9).cast(pl.String).str.slice(1)).alias("item"),
                ("A" + (pl.col("user") * 104729 % 10**12 + 10**12).cast(pl.String).str.slice(1)).alias("user"),
                pl.lit("5.0").alias("rating"),
                "time",
            )
            stream.write(frame.write_csv(include_header=False).encode())
    with open(category / "meta_Generated.json", "w") as stream:
        names = WORDS[draw.integers(len(WORDS), size=(texts, 4))]
        for number in range(texts):
            title = f"{' '.join(names[number])} {number}"
            item = {"asin": f"B{number * 7919 % 10**9:09d}", "title": title, "brand": str(names[number][0])}
            stream.write(json.dumps(item) + "\n")
    return category
