"""The build on real data: the paper's counts, the k-core against planted chains, the released order, the overlap.

Planted: users and items of at most five events that hang together in a chain, so that each peel loosens the next link.
Each planted user has three real items, each planted item three real users; with the links on either side that makes
five, but the two ends have four. What is left after the k-core must be the original files.
"""

import gzip
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from shards.build.build import build
from shards.config import BuildConfig
from shards.inspect.statistics import inspect_lines
from shards.inspect.verify import verify
from shards.manifest import Manifest
from shards.tables import load_holdout, load_items

TABLE_3 = {
    "Beauty": (22_363, 12_101, 198_502),
    "Toys": (19_412, 11_924, 167_597),
    "Sports": (35_598, 18_357, 296_337),
    "Yelp": (30_431, 20_033, 316_354),
}
COUNTS = TABLE_3 | {"Instruments": (1_429, 900, 10_261)}
"""Users, items, interactions as the README of the data has them."""
LINKS = 30
DAY, START = 86_400, 1_100_000_000


def read(folder: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    """(items by user, text by item) of a plain folder, in the order of its files."""
    texts = []
    for file in ("user_sequence.txt.gz", "item_plain_text.txt.gz"):
        with gzip.open(folder / file, "rt", encoding="utf-8") as source:
            texts.append(source.read().splitlines())
    sequences = {user: items for user, *items in map(str.split, texts[0])}
    return sequences, dict(line.split(" ", 1) for line in texts[1])


def sequences_of(folder: Path, manifest: Manifest, name: str) -> dict[str, list[str]]:
    """Items by user as a shard folder has them, in the order of its records."""
    items = [item.removeprefix(f"{name}/") for item in load_items(folder, manifest, name).items]
    holdout = load_holdout(folder, name)
    return {
        user: [items[row] for row in (*history.tolist(), int(valid), int(test))]
        for user, history, valid, test in zip(
            holdout.users, holdout.histories, holdout.valid, holdout.test, strict=True
        )
    }


def plant(sequences: dict[str, list[str]], seed: int) -> dict[str, list[str]]:
    """The sequences with a chain of planted users and items at random places; real users keep their order."""
    draw = np.random.default_rng(seed)
    users, items = list(sequences), sorted({item for sequence in sequences.values() for item in sequence})
    planted = {user: list(sequence) for user, sequence in sequences.items()}
    for link in range(LINKS):
        for user in draw.choice(len(users), size=3, replace=False):
            sequence = planted[users[user]]
            sequence.insert(int(draw.integers(len(sequence) + 1)), f"PLANTED{link:03d}")
    for link in range(LINKS):
        real = [items[item] for item in draw.choice(len(items), size=3, replace=False)]
        # Item n has users n - 1 and n; the last user has no item behind it.
        chained = [f"PLANTED{n:03d}" for n in (link, link + 1) if n < LINKS]
        planted[f"APLANTED{link:03d}"] = [str(item) for item in draw.permutation([*real, *chained])]
    places = draw.permutation(len(planted))
    newcomers = list(planted)[len(users) :]
    order = iter(users)
    at = set(places[: len(newcomers)].tolist())
    return {
        user: planted[user]
        for user in (newcomers.pop() if place in at else next(order) for place in range(len(places)))
    }


def write_lines(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


@pytest.fixture(scope="module")
def real(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """The paper's four, and the three pretraining categories that are here, as they come."""
    out = tmp_path_factory.mktemp("real") / "shards"
    data = shared / "data"
    config = BuildConfig(
        out=str(out),
        train=tuple(str(data / name) for name in ("Games", "Phones", "Office")),
        test=tuple(str(data / name) for name in (*TABLE_3, "Instruments")),
        tokenizer=str(shared / "t5"),
        max_users=None,
    )
    return out, build(config)


def test_counts_are_those_of_table_3(real: tuple[Path, Manifest]) -> None:
    folder, manifest = real
    assert verify(folder) == manifest
    for name, counts in COUNTS.items():
        member = manifest.member(name)
        assert (member.num_users, member.num_items, member.num_interactions) == counts
    printed = inspect_lines(manifest)
    for name in TABLE_3:
        [row] = [line for line in printed if line.split()[:1] == [name]]
        assert row.count("=") == 4 and "≠" not in row, row


def test_overlap_is_that_of_the_data_readme(real: tuple[Path, Manifest]) -> None:
    manifest = real[1]
    pairs = {(pair["train"], pair["test"]): pair for pair in manifest.overlap}
    assert {name: pairs["Games", name]["items"] for name in ("Toys", "Sports")} == {"Toys": 22, "Sports": 10}
    users = {name: pairs["Games", name]["users"] for name in ("Beauty", "Toys", "Sports", "Instruments")}
    assert users == {"Beauty": 963, "Toys": 1_522, "Sports": 1_675, "Instruments": 109}
    assert all(pairs["Games", name]["users_dropped"] for name in users)
    for train in ("Phones", "Office"):
        for test in (*TABLE_3, "Instruments"):
            assert pairs[train, test]["users"] is None and pairs[train, test]["items_by"] == "text"
    assert pairs["Games", "Yelp"]["users"] is None, "ids of another platform are not ids to look up"


def test_what_overlaps_is_gone_from_training(real: tuple[Path, Manifest]) -> None:
    folder, manifest = real
    games = sequences_of(folder, manifest, "Games")
    for name in ("Beauty", "Toys", "Sports", "Instruments"):
        other = sequences_of(folder, manifest, name)
        assert not set(games) & set(other)
        assert not {i for items in games.values() for i in items} & {i for items in other.values() for i in items}


@pytest.mark.parametrize("name", TABLE_3)
def test_the_k_core_gives_back_the_original_files(shared: Path, tmp_path: Path, name: str) -> None:
    sequences, texts = read(shared / "data" / name)
    planted = plant(sequences, seed=5)
    write_lines(tmp_path / name / "user_sequence.txt", (f"{user} {' '.join(i)}" for user, i in planted.items()))
    lines = [f"{item} {text}" for item, text in texts.items()]
    for link in range(LINKS):
        lines.insert(link * 17, f"PLANTED{link:03d} title: planted")
    write_lines(tmp_path / name / "item_plain_text.txt", lines)
    manifest = build(
        BuildConfig(
            out=str(tmp_path / "shards"), test=(str(tmp_path / name),), tokenizer=str(shared / "t5"), clean_plain=True
        )
    )
    member = manifest.member(name)
    assert member.cleaning["peels"] >= LINKS >= 10
    added = sum(map(len, planted.values())) - TABLE_3[name][2]
    assert member.cleaning["interactions_outside_core"] == added >= 8 * LINKS - 2
    assert (member.num_users, member.num_items, member.num_interactions) == TABLE_3[name]
    back = sequences_of(tmp_path / "shards", manifest, name)
    assert back == sequences and list(back) == list(sequences)
    items = load_items(tmp_path / "shards", manifest, name)
    assert dict(zip((i.removeprefix(f"{name}/") for i in items.items), items.texts, strict=True)) == texts
    assert [item.removeprefix(f"{name}/") for item in items.items] == list(texts), "the order of the file"


@pytest.mark.parametrize("name", ["Beauty", "Sports"])
def test_the_same_from_a_raw_ratings_file(shared: Path, tmp_path: Path, name: str) -> None:
    """Ratings of Amazon 2014 in an order that is not that of time, ties inside a day in the source's order."""
    sequences, texts = read(shared / "data" / name)
    planted = plant(sequences, seed=6)
    draw = np.random.default_rng(7)
    events = []
    for user, items in planted.items():
        days = np.sort(draw.integers(0, len(items), size=len(items)))  # many ties
        events.append([f"{user},{item},4.0,{START + DAY * day}" for item, day in zip(items, days, strict=True)])
    # Users are torn apart, but of a user's events the order stays: that is what decides ties.
    order = draw.permutation(np.repeat(np.arange(len(events)), [len(event) for event in events]))
    waiting = [iter(event) for event in events]
    write_lines(tmp_path / name / f"ratings_{name}.csv", (next(waiting[user]) for user in order))
    meta = [repr({"asin": item, "title": "It's new", "brand": None}) for item in texts]
    write_lines(tmp_path / name / f"meta_{name}.json", meta)
    manifest = build(BuildConfig(out=str(tmp_path / "out"), test=(str(tmp_path / name),), tokenizer=str(shared / "t5")))
    member = manifest.member(name)
    assert (member.num_users, member.num_items, member.num_interactions) == TABLE_3[name]
    assert member.cleaning["peels"] >= LINKS and member.source == "amazon-2014"
    assert sequences_of(tmp_path / "out", manifest, name) == sequences


def test_the_released_order_can_be_had_for_comparison(shared: Path, tmp_path: Path) -> None:
    data = str(shared / "data" / "Toys")
    config = BuildConfig(out=str(tmp_path / "out"), test=(data,), tokenizer=str(shared / "t5"), order="released")
    manifest = build(config)
    assert manifest.order == "released" and manifest.member("Toys").share_sorted_by_id == 1.0
    sequences, _ = read(shared / "data" / "Toys")
    assert sequences_of(tmp_path / "out", manifest, "Toys") == {
        user: sorted(items) for user, items in sequences.items()
    }
    assert "NOT chronological" in (tmp_path / "out" / "README.md").read_text()
