"""A generated marketplace for the demo, written as raw files in the plain layout.

Enters a folder, a seed and sizes; leaves one sub-folder per data set. The same arguments give the same bytes. The data
are made up; they show that the whole machine works and that something transfers, and say nothing about real shops.

**Data sets.** Four pretraining categories (Garden, Kitchen, Stationery, Outdoors; fields title, brand, description) and
two unseen ones: Gifts (the same fields) and Places (another platform's: name, city, stars, categories).

**Items.** There are 12 tastes with 4 taste words each, 48 words in all, shared by every data set. An item has one taste
(equal shares in each catalogue). Its text carries two of the four words, first in the title or name and again in the
description or categories, a noun of its data set (8 each; Gifts sells things of the four categories, Places has nouns
of its own) and filler: brand and adjectives, or city and stars. Two items may share words and noun; brand, adjectives,
city and stars then mostly differ, not always.

**Users.** A user has a main taste (uniform) and a second one. Each purchase comes with probability 0.85 from an item of
a taste (the main one in 90% of these, else the second), weighted by popularity to the power 0.6; else from the whole
catalogue, weighted by popularity. Popularity is Zipf's with exponent 0.9 over a random order of the items, which knows
nothing of tastes. A history repeats no item; in Places 5% of the visits repeat an earlier one. Lengths are uniform.

**What can transfer.** Only this: people buy items that share taste words with what they bought before. A model learns
the words of a taste in the four categories and finds them in an unseen one. Popularity, brands, nouns, adjectives,
cities, stars and item ids are drawn afresh in each data set, and cannot transfer.

**The switch.** With `transfer=False` the two words of an item are those of a random taste, drawn independently of the
taste that drives the purchases; purchases, ids and all filler stay the same to the byte. Whatever a model gains on the
unseen sets with the switch on and not with it off is transfer through the words.
"""

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shards.counters import generator
from shards.readers.plain import SEQUENCE_FILE, TEXT_FILE

TASTES = tuple(
    tuple(words.split())
    for words in (
        "ember copper rust flame",
        "oak walnut timber cedar",
        "velvet silk satin lace",
        "coral shell tide reef",
        "frost ice snow glacier",
        "moss fern ivy clover",
        "neon laser chrome pixel",
        "honey maple vanilla cocoa",
        "lunar comet orbit galaxy",
        "linen cotton wool quilt",
        "desert cactus mesa canyon",
        "castle knight dragon crown",
    )
)
NOUNS = {
    "Garden": "planter trellis trowel hose rake bench birdhouse lantern",
    "Kitchen": "kettle skillet bowl grater apron teapot platter whisk",
    "Stationery": "notebook pen folder stapler planner eraser envelope sticker",
    "Outdoors": "tent backpack hammock compass cooler paddle flask headlamp",
    "Gifts": "lantern bench bowl teapot notebook pen compass flask",
    "Places": "pub bakery museum spa cafe diner gym hotel",
}
ADJECTIVES = (
    *("sturdy", "compact", "classic", "modern", "handy", "bright", "light", "simple"),
    *("large", "small", "foldable", "durable", "smooth", "daily", "premium", "basic"),
)
BRANDS = tuple(
    first + last for first in ("nor", "bel", "kav", "tri", "mel", "os") for last in ("vik", "ton", "dale", "mar", "lux")
)
CITIES = ("halden", "brookfield", "easton", "marlow", "kingsley", "ashford", "denby", "wexham")
PRETRAINING = ("Garden", "Kitchen", "Stationery", "Outdoors")
UNSEEN = ("Gifts", "Places")

TASTE_SHARE, MAIN_SHARE, REPEAT_SHARE = 0.85, 0.9, 0.05
ZIPF_EXPONENT, POPULARITY_WITHIN_TASTE = 0.9, 0.6


@dataclass(frozen=True)
class MarketplaceSizes:
    """Users and items of each pretraining category and of each unseen set; lengths of a history, both ends included."""

    users_per_category: int = 600
    items_per_category: int = 200
    test_users: int = 800
    test_items: int = 240
    min_length: int = 5
    max_length: int = 12

    def __post_init__(self) -> None:
        if not 3 <= self.min_length <= self.max_length:
            raise ValueError(f"lengths {self.min_length} to {self.max_length}: give 3 <= min_length <= max_length")
        if min(self.items_per_category, self.test_items) < max(2 * self.max_length, len(TASTES)):
            raise ValueError(f"too few items: give at least {max(2 * self.max_length, len(TASTES))} to each data set")
        if min(self.users_per_category, self.test_users) < 1:
            raise ValueError("too few users: give at least one to each data set")


@dataclass(frozen=True)
class Catalogue:
    """N items with their latent truth: `tastes` drive the purchases, `popularity` sums to 1."""

    items: list[str]
    tastes: np.ndarray
    popularity: np.ndarray
    texts: list[str]


def write_marketplace(
    folder: str | Path, seed: int, transfer: bool = True, sizes: MarketplaceSizes | None = None
) -> list[tuple[str, str]]:
    """Writes `folder/<name>/user_sequence.txt.gz` and `item_plain_text.txt.gz`; returns (name, role) of each data set.

    ValueError when a data set's folder exists already.
    """
    sizes = sizes or MarketplaceSizes()
    names = [(name, "train") for name in PRETRAINING] + [(name, "test") for name in UNSEEN]
    for name, _ in names:
        if (Path(folder) / name).exists():
            raise ValueError(f"{Path(folder) / name} exists already; remove it or name another folder")
    for name, role in names:
        num_items = sizes.items_per_category if role == "train" else sizes.test_items
        num_users = sizes.users_per_category if role == "train" else sizes.test_users
        catalogue = draw_catalogue(seed, name, num_items, transfer)
        histories = draw_histories(seed, name, catalogue, num_users, sizes)
        users = _raw_ids(seed, name, "user", num_users)
        lines = [
            " ".join([user, *(catalogue.items[row] for row in rows)])
            for user, rows in zip(users, histories, strict=True)
        ]
        (Path(folder) / name).mkdir(parents=True)
        _write_gzip(Path(folder) / name / f"{SEQUENCE_FILE}.gz", lines)
        texts = [f"{item} {text}" for item, text in zip(catalogue.items, catalogue.texts, strict=True)]
        _write_gzip(Path(folder) / name / f"{TEXT_FILE}.gz", texts)
    return names


def draw_catalogue(seed: int, name: str, num_items: int, transfer: bool) -> Catalogue:
    """The items of one data set; `transfer` decides the words of the texts and nothing else."""
    draw = generator(seed, "catalogue", name)
    tastes = draw.permutation(np.arange(num_items) % len(TASTES))
    popularity = draw.permutation(np.arange(1, num_items + 1, dtype=np.float64) ** -ZIPF_EXPONENT)
    spoken = tastes if transfer else generator(seed, "words of a random taste", name).permutation(tastes)
    texts = [_text(seed, name, row, int(taste)) for row, taste in enumerate(spoken)]
    return Catalogue(_raw_ids(seed, name, "item", num_items), tastes, popularity / popularity.sum(), texts)


def draw_histories(
    seed: int, name: str, catalogue: Catalogue, num_users: int, sizes: MarketplaceSizes
) -> list[list[int]]:
    """One list of item rows per user, oldest first."""
    weights = catalogue.popularity**POPULARITY_WITHIN_TASTE
    histories = []
    for user in range(num_users):
        draw = generator(seed, "history", name, user)
        main, second = draw.choice(len(TASTES), size=2, replace=False)
        history: list[int] = []
        for _ in range(draw.integers(sizes.min_length, sizes.max_length + 1)):
            if name == "Places" and history and draw.random() < REPEAT_SHARE:
                history.append(history[draw.integers(len(history))])
                continue
            chances = catalogue.popularity
            if draw.random() < TASTE_SHARE:
                chances = weights * (catalogue.tastes == (main if draw.random() < MAIN_SHARE else second))
            chances = chances.copy()
            chances[history] = 0.0
            if not chances.any():  # a small catalogue: the whole taste is bought already
                chances = catalogue.popularity.copy()
                chances[history] = 0.0
            history.append(int(draw.choice(len(chances), p=chances / chances.sum())))
        histories.append(history)
    return histories


def _text(seed: int, name: str, row: int, taste: int) -> str:
    draw = generator(seed, "text", name, row)
    first, second = (TASTES[taste][place] for place in draw.choice(len(TASTES[taste]), size=2, replace=False))
    noun = str(draw.choice(NOUNS[name].split()))
    if name == "Places":
        city, stars = draw.choice(CITIES), draw.integers(4, 11) / 2
        return f"name: {first} {second} {noun}; city: {city}; stars: {stars}; categories: {first}, {second}, {noun}"
    one, two = draw.choice(ADJECTIVES, size=2, replace=False)
    return (
        f"title: {first} {second} {noun}; brand: {draw.choice(BRANDS)}; "
        f"description: {one} {noun} in {first} and {second}, {two} {first} {second} style"
    )


def _raw_ids(seed: int, name: str, kind: str, count: int) -> list[str]:
    """Unique ids in random order, so that neither row nor id says anything about an item."""
    numbers = generator(seed, "raw ids", name, kind).permutation(count)
    return [f"{name[:2].lower()}{kind[0]}{number:05d}" for number in numbers]


def _write_gzip(path: Path, lines: list[str]) -> None:
    body = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(body, mtime=0))
