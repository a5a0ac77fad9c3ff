"""The catalogue of a data set: which items can be recommended, whoever is asked."""

from pathlib import Path

import pytest
from miniatures import amazon_2014, yelp
from raw_folders import plain

from shards.build.build import build
from shards.config import BuildConfig
from shards.registry import row
from shards.tables import load_holdout, load_items


def recbole(folder: Path, raw: Path) -> Path:
    """The plain folder Gifts as atomic files."""
    sequences, texts = plain(raw / "Gifts")
    out = folder / "Lamps"
    out.mkdir()
    lines = [f"{user}\t{item}\t{at}" for user, items in sequences.items() for at, item in enumerate(items)]
    (out / "Lamps.inter").write_text("\n".join(["user_id:token\titem_id:token\ttimestamp:float", *lines]))
    lines = [f"{item}\t{text}" for item, text in texts.items()]
    (out / "Lamps.item").write_text("\n".join(["item_id:token\ttitle:token_seq", *lines]))
    return out


FORMATS = {
    "plain": lambda folder, raw: raw / "Gifts",
    "recbole": recbole,
    "amazon-2014": lambda folder, raw: amazon_2014(folder, row("2014", "Beauty")),
    "yelp": lambda folder, raw: yelp(folder),
}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("clean_plain", [False, True])
def test_a_catalogue_does_not_shrink_because_users_were_drawn(kind, clean_plain, raw, built, tmp_path):
    folder = FORMATS[kind](tmp_path, raw)

    def made(users: int | None):
        out = tmp_path / f"out-{users}"
        manifest = build(
            BuildConfig(
                str(out), test=(str(folder),), tokenizer=str(built[0] / "tokenizer"), max_test_users=users, k_core=2,
                clean_plain=clean_plain,
            )
        )  # fmt: skip
        [member] = manifest.members
        assert member.source == kind
        return member, load_items(out, manifest, member.name), load_holdout(out, member)

    (whole, everything, _), (some, items, holdout) = made(None), made(3)
    assert (some.num_users, len(holdout)) == (3, 3) and whole.num_users > 3
    assert some.num_items == whole.num_items == len(items)
    assert (items.items, items.texts) == (everything.items, everything.texts)
    touched = {row for n in range(3) for row in (*holdout.histories[n], holdout.valid[n], holdout.test[n])}
    assert len(touched) < len(items), "or the draw would show nothing"


def test_the_items_of_a_train_category_are_those_of_the_users_drawn(raw, tmp_path):
    manifest = build(BuildConfig(str(tmp_path / "out"), train=(str(raw / "Garden"),), max_users=3, vocab_size=300))
    [member] = manifest.members
    holdout, items = load_holdout(tmp_path / "out", member), load_items(tmp_path / "out", manifest, member.name)
    touched = {int(row) for n in range(3) for row in (*holdout.histories[n], holdout.valid[n], holdout.test[n])}
    assert member.num_users == 3 and touched == set(range(len(items)))
