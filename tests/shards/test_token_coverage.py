"""Item texts that say nothing: counted alike by console, card, manifest and audit; too many refuse the build."""

import json
import re
from pathlib import Path

import pytest
from raw_folders import write_raw

from shards.build.build import build
from shards.build.card import data_card
from shards.config import BuildConfig
from shards.tables import load_items
from shards.token_coverage import token_coverage
from shards.tokenizer import encode_texts, load_tokenizer
from zeroshot.audit.data_checks import texts_check
from zeroshot.tasks.suite import resolve
from zeroshot.tasks.task import load_task

ITEMS = [f"{number:010d}" for number in range(20)]


def amazon(folder: Path, texts: dict[str, dict[str, object]]) -> Path:
    """Twelve users and twenty items; metadata of those in `texts`."""
    folder = folder / "Tea"
    folder.mkdir()
    reviews = [
        {"reviewerID": f"A{user:09d}ZZ", "asin": ITEMS[(user * 7 + at * 3) % 20], "overall": 5.0, "unixReviewTime": at}
        for user in range(12)
        for at in range(20)
    ]
    (folder / "reviews_Tea_5.json").write_text("".join(json.dumps(line) + "\n" for line in reviews))
    lines = [{"asin": item, **fields} for item, fields in texts.items()]
    (folder / "meta_Tea.json").write_text("".join(f"{line!r}\n" for line in lines))
    return folder


@pytest.fixture
def made(built, tmp_path):
    """`made(texts)`: (lines of the console, manifest, folder) of a build."""

    def make(texts):
        lines: list[str] = []
        folder, out = amazon(tmp_path, texts), tmp_path / "out"
        manifest = build(
            BuildConfig(str(out), test=(str(folder),), tokenizer=str(built[0] / "tokenizer")), lines.append
        )
        return lines, manifest, out

    return make


def titled(*rows: int):
    return {ITEMS[row]: {"title": f"green tea {row}", "brand": "teaco"} for row in rows}


def test_console_card_and_audit_say_the_same_number(made):
    """Five items have a text; five lines say nothing, two of them in another script; ten are absent."""
    said_nothing = [{"imUrl": "x"}, {"title": "-", "brand": "N/A"}, {"title": "红茶"}, {"title": "龙井!"}, {}]
    lines, manifest, out = made(titled(*range(5)) | dict(zip(ITEMS[5:10], said_nothing, strict=True)))
    assert any(line.startswith("Tea: 15 of 20 items have no text; ") for line in lines), lines
    [member] = manifest.members
    facts = member.cleaning
    assert facts["items_without_text"] == 15 and 0 < facts["unknown_tokens"] < facts["tokens"]
    [row] = [line for line in data_card(manifest).splitlines() if re.match(r"\| Tea \| 240 \|", line)]
    assert row.split(" | ")[-3] == "15" and row.split(" | ")[-2].endswith("%")
    tokenizer = load_tokenizer(out / "tokenizer")
    [spec] = resolve(("Tea",), manifest)
    check = texts_check(load_task(out, spec), tokenizer)
    assert check.verdict == "note" and ", 15 have none; unknown tokens: " in check.words
    table = load_items(out, manifest, "Tea")
    assert facts["tokens"] == len(table.token_ids) and facts["unknown_tokens"] == int((table.token_ids == 2).sum())


def test_cards_of_older_folders_are_written_again(built):
    import dataclasses

    manifest = built[1]
    member = manifest.members[0]
    old = {key: value for key, value in member.cleaning.items() if key not in ("tokens", "unknown_tokens")}
    older = dataclasses.replace(manifest, members=(dataclasses.replace(member, cleaning=old),))
    assert "not counted" in data_card(older)


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        # Leading zeros were lost on the way.
        ({item.lstrip("0") or "0": {"title": f"green tea {item}"} for item in ITEMS}, ("'0000000000'", "has '0'")),
        ({f"B{item[1:]}": {"title": "another category"} for item in ITEMS}, ("name the same items",)),
        (titled(3) | {f"B{item[1:]}": {"title": "x1"} for item in ITEMS}, ("1 of 20 items have a text", "10%")),
        ({item: {"imUrl": "x"} for item in ITEMS}, ("0 of 20 items", "20 say nothing")),
        ({item: {"title": "红茶", "brand": "龙井"} for item in ITEMS}, ("0 of 20 items", "unknown to the tokenizer")),
    ],
)
def test_a_data_set_of_which_few_items_have_a_text_is_refused(made, texts, words):
    with pytest.raises(ValueError, match="^Tea: ") as caught:
        made(texts)
    line = str(caught.value)
    assert all(word in line for word in words) and "\n" not in line, line


def test_a_tenth_is_enough(made):
    assert made(titled(1, 2))[1].members[0].cleaning["items_without_text"] == 18


def test_what_counts_as_no_text(built, tmp_path):
    tokenizer = load_tokenizer(built[0] / "tokenizer")
    texts = {
        "title: red lamp; brand: na": False,
        "na": True,
        "": True,
        "title: na; brand: na": True,
        "title: --; brand: N/A": True,
        "title: 红茶; brand: 龙井": True,
        "title: 红茶 (!)": True,
        "title: 红茶 500g": False,
        "红茶": True,
        "12:30": False,
    }
    token_ids = encode_texts(tokenizer, list(texts))
    found = token_coverage(tokenizer, list(texts), token_ids)
    assert dict(zip(texts, found.bare, strict=True)) == texts
    assert found.tokens == sum(map(len, token_ids)) and found.unknown == sum(ids.count(2) for ids in token_ids) > 0


def test_the_plain_layout_too(built, tmp_path):
    users = "".join(f"u{n} c a d b\n" for n in range(4))
    folder = write_raw(tmp_path / "Toys", users, "a title: red\nb -\nc title: na\nd title: blue\n")
    lines: list[str] = []
    build(BuildConfig(str(tmp_path / "o"), test=(str(folder),), tokenizer=str(built[0] / "tokenizer")), lines.append)
    assert "Toys: 2 of 4 items have no text; unknown tokens: none" in lines
