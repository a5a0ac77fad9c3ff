"""Raw-schema miniatures: small data sets in the very files that the sources publish."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

from shards.counters import generator
from shards.registry import Row

WORDS = ["amber", "birch", "cedar", "delta", "ember", "flint", "grove", "heron", "ivory", "jade"]


def asin(seed: int, name: str, number: int) -> str:
    return f"B{abs(hash_of(seed, name)) % 10**5:05d}{number:04d}"


def hash_of(*words: object) -> int:
    return int(generator(0, "miniature", *map(str, words)).integers(1 << 30))


def histories(seed: int, name: str, users: int, items: int, length: int) -> list[tuple[int, int, int]]:
    """(user, item, day), in an order that is not that of time; each user has `length` different items."""
    events = []
    for user in range(users):
        draw = generator(seed, "miniature history", name, user)
        days = draw.permutation(400)[:length]
        events += [
            (user, int(item), int(day)) for item, day in zip(draw.permutation(items)[:length], days, strict=True)
        ]
    return [events[row] for row in generator(seed, "miniature order", name).permutation(len(events))]


def write_gzip(path: Path, lines: list[str]) -> None:
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0))


def amazon_2014(folder: Path, row: Row, seed: int = 0, users: int = 30, items: int = 24, length: int = 8) -> Path:
    """`reviews_X_5.json.gz` and `meta_X.json.gz`; the first user is the same person in every category."""
    folder = folder / row.category
    folder.mkdir(parents=True)
    reviews = [
        json.dumps(
            {
                "reviewerID": "A1YJEY40YUW4SE" if user == 0 else f"A{hash_of(row.category) % 10**6:06d}{user:07d}",
                "asin": asin(seed, row.category, item),
                "helpful": [0, 0],
                "reviewText": 'It\'s "fine" &amp; cheap',
                "overall": 4.0,
                "unixReviewTime": 1_300_000_000 + 86_400 * day,
            }
        )
        for user, item, day in histories(seed, row.category, users, items, length)
    ]
    meta = [
        repr(
            {
                "asin": asin(seed, row.category, item),
                "title": f"{WORDS[item % 10]} {WORDS[(item // 3) % 10]} {row.category} number {item} &amp; more",
                "brand": "Nor's",
                "categories": [[row.category, WORDS[item % 7]]],
                "price": 9.99,
            }
        )
        for item in range(items)
    ]
    write_gzip(folder / f"reviews_{row.source_name}_5.json.gz", reviews)
    write_gzip(folder / f"meta_{row.source_name}.json.gz", meta)
    return folder


def yelp(folder: Path, seed: int = 0, users: int = 30, items: int = 24, length: int = 8) -> Path:
    """`yelp_academic_dataset_review.json` and `_business.json`: days of 2019 and, for one in ten, of 2018."""
    folder = folder / "Yelp"
    folder.mkdir(parents=True)
    business = [f"{'b' * 18}{item:04d}" for item in range(items)]
    start = datetime(2019, 1, 2, 8, 30, 15, tzinfo=UTC).timestamp()
    reviews = []
    for number, (user, item, day) in enumerate(histories(seed, "Yelp", users, items, length)):
        when = datetime.fromtimestamp(start + 86_400 * (day % 360), tz=UTC)
        review = {
            "review_id": str(number),
            "user_id": f"{'u' * 18}{user:04d}",
            "business_id": business[item],
            "stars": 3.0,
        }
        reviews.append(json.dumps(review | {"date": when.strftime("%Y-%m-%d %H:%M:%S")}))
        if number % 10 == 0:
            reviews.append(json.dumps(review | {"date": "2018-12-31 23:59:59"}))
    shops = [
        json.dumps(
            {"business_id": name, "name": f"{WORDS[item % 10]} diner", "city": "Halden", "categories": "Diners, Food"}
        )
        for item, name in enumerate(business)
    ]
    (folder / "yelp_academic_dataset_review.json").write_text("\n".join(reviews) + "\n")
    (folder / "yelp_academic_dataset_business.json").write_text("\n".join(shops) + "\n")
    return folder
