import polars as pl
import pytest

from shards.build.overlap import Ids, find_overlap
from shards.files.database import Resources

AMAZON = ["A1YJEY40YUW4SE", "AIXZKN4ACSKI", "A2SUAM1J3GNN3B"]
YELP = ["Donht4mLJ4aO4FQhqHGJtw", "5eV8oUGdBXylwB7HeaDFOA", "GKC6EYmFFOU245qBtVxetw"]
TITLES = [
    "title: a red tin kettle; brand: na",
    "title: headphones; brand: na",
    "title: Blue, garden-hose (long); brand: x",
]


def ids(folder, name, users, items, texts):
    folder = folder / name
    folder.mkdir()
    pl.DataFrame({"user": users}).write_parquet(folder / "users.parquet")
    pl.DataFrame({"item": items, "text": texts}).write_parquet(folder / "items.parquet")
    return Ids(name, folder / "users.parquet", folder / "items.parquet")


def audit(folder, train, test, drop=True):
    pairs, files = find_overlap(train, [test], folder, {"user": drop, "item": drop}, Resources(0.5, 1))
    return pairs[0], {file.name: pl.read_parquet(file).to_series().to_list() for file in files}


def test_ids_of_one_platform_are_looked_up(tmp_path):
    train = ids(tmp_path, "Games", AMAZON, ["0700026398", "B00004DSDE", "B00004T77P"], TITLES)
    test = ids(tmp_path, "Toys", [AMAZON[2], "A000000001"], ["B00004DSDE", "B009999999"], ["title: x", "title: y"])
    pair, files = audit(tmp_path, train, test)
    assert (pair.items_by, pair.items, pair.users_by, pair.users) == ("id", 1, "id", 1)
    assert files == {"item-0.parquet": ["B00004DSDE"], "user-0.parquet": [AMAZON[2]]}
    assert pair.line() == "Games / Toys: 1 item in both, dropped from training; 1 user in both, dropped from training"
    counted, files = audit(tmp_path, train, test, drop=False)
    assert not files and counted.items == 1 and "NOT dropped" in counted.line()


@pytest.mark.parametrize(
    ("users", "items"),
    [(["22512", "7", "88"], ["5323", "1", "10"]), (["A994", "A1", "A20"], ["0", "1", "2"]), (YELP, YELP)],
    ids=["numbers", "letter and number", "another platform"],
)
def test_what_cannot_be_looked_up_is_never_called_zero(tmp_path, users, items):
    other = ["title: something else entirely", "title: headphones", "title: blue garden hose, long"]
    train = ids(tmp_path, "Phones", users, items, TITLES)
    test = ids(tmp_path, "Beauty", AMAZON, ["7806397051", "B004756YJA", "B004ZT0SSG"], other)
    pair, files = audit(tmp_path, train, test)
    assert pair.users is None and pair.users_by == "cannot be checked"
    # Equal titles are found whatever their signs and case; a title of one word tells nothing.
    assert (pair.items_by, pair.items) == ("text", 1) and files == {"item-0.parquet": [items[2]]}
    assert "users cannot be checked" in pair.line() and "item ids cannot be checked, 1 equal title" in pair.line()


def test_without_titles_items_cannot_be_checked_either(tmp_path):
    train = ids(tmp_path, "Phones", ["1", "2"], ["1", "2"], ["na", "title: headphones"])
    test = ids(tmp_path, "Beauty", AMAZON, ["7806397051", "B004756YJA", "B004ZT0SSG"], TITLES)
    pair, files = audit(tmp_path, train, test)
    assert pair.items is None and pair.items_by == "cannot be checked" and not files
    assert " 0 " not in pair.line()


def test_numbers_of_one_source_are_not_ids_of_another(tmp_path):
    train = ids(tmp_path, "Phones", ["1", "2"], ["1", "2"], TITLES[:2])
    test = ids(tmp_path, "Office", ["1", "2"], ["1", "2"], ["title: a red tin kettle", "title: b"])
    pair, _ = audit(tmp_path, train, test)
    assert (pair.items_by, pair.items, pair.users) == ("text", 1, None)


def test_only_items_with_interactions_count(tmp_path):
    train = ids(tmp_path, "Games", AMAZON, ["0700026398", "B00004DSDE", "B00004T77P"], TITLES)
    events = tmp_path / "events.parquet"
    pl.DataFrame({"item": ["0700026398", "0700026398"]}).write_parquet(events)
    test = ids(tmp_path, "Toys", AMAZON, ["B00004DSDE", "0700026398"], TITLES[:2])
    pair, _ = audit(tmp_path, Ids(train.name, train.users, train.items, touched=events), test)
    assert pair.items == 1
