"""Anyone's own catalogue: what is read, what is refused and with which words, and the lists."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pretrain.export.hugging_face import export
from pretrain.runtime.progress import SILENT
from zeroshot.baselines.text_popularity import expert_of
from zeroshot.own_catalogue import item_table, read_histories, read_items
from zeroshot.protocol.config import POPULARITY_BLEND
from zeroshot.recommend import book_of, load_models, recommend

LAMPS = [
    {"item": "b1", "title": "Red desk LAMP", "brand": "Lumo", "categories": ["lamps", ["office"]]},
    {"item": 17, "text": "title: blue   floor lamp; brand: na"},
    {"item": "Chair no. 3", "name": "Oak chair", "price": 12.5, "colour": None},
]


def write(path, *lines):
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def test_items_are_texts_or_fields(tmp_path):
    names, texts = read_items(write(tmp_path / "items.jsonl", *LAMPS[:2], "", LAMPS[2]))
    assert names == ["b1", "17", "Chair no. 3"]
    assert texts == [
        "title: red desk lamp; brand: lumo; categories: lamps, office",
        "title: blue floor lamp; brand: na",
        "name: oak chair; price: 12.5; colour: na",
    ]
    packed = tmp_path / "items.jsonl.gz"
    packed.write_bytes(gzip.compress(b"\xef\xbb\xbf" + (tmp_path / "items.jsonl").read_bytes()))
    assert read_items(packed) == (names, texts)
    file = write(tmp_path / "h.jsonl", {"user": "ann", "history": [17, "b1", "17"]}, {"user": 5, "history": ["b1"]})
    found = read_histories(file, names)
    assert found.users == ["ann", "5"] and [rows.tolist() for rows in found.rows] == [[1, 0, 1], [0]]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([LAMPS[0], {"item": "b1", "text": "x"}], r"line 2: item 'b1' is there twice, first in line 1"),
        ([LAMPS[0], '{"item": "b2",'], r"line 2: not JSON"),
        ([LAMPS[0], "", '["b2"]'], r"line 3: not a JSON object"),
        ([{"text": "a lamp"}], r"line 1: `item` is missing"),
        ([{"item": ["b"], "text": "a lamp"}], r"line 1: `item` is \"\['b'\]\", which is no name"),
        ([{"item": " ", "text": "a lamp"}], r"line 1: `item` is ' '"),
        ([{"item": "b\n1", "text": "a lamp"}], r"line 1: item 'b\\n1' holds control characters"),
        ([{"item": "b1"}], r"line 1: item 'b1' has no text"),
        ([{"item": "b1", "text": " \t "}], r"line 1: item 'b1' has no text"),
        ([{"item": "b1", "title": "", "brand": None}], r"line 1: item 'b1' has no text"),
        ([{"item": "b1", "text": 7}], r"line 1: the text of item 'b1' is '7', which is no text"),
        ([{"item": "b1", "text": "a", "title": "b"}], r"line 1: item 'b1' has `text` and `title`"),
        ([""], "holds no item"),
        ([], "is empty"),
    ],
)
def test_items_that_are_wrong_are_named_with_their_line(tmp_path, lines, message):
    file = write(tmp_path / "items.jsonl", *lines)
    with pytest.raises(ValueError, match=message) as found:
        read_items(file)
    assert str(file) in str(found.value) and len(str(found.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"user": "u", "history": ["b1", "b9"]}], r"line 1: user 'u' has item 'b9', which is not among the items"),
        ([{"user": "u", "history": []}], r"line 1: user 'u' has no history"),
        ([{"user": "u", "history": "b1"}], r"line 1: user 'u' has no history"),
        ([{"user": "u"}], r"line 1: user 'u' has no history"),
        ([{"history": ["b1"]}], r"line 1: `user` is missing"),
        ([{"user": "u", "history": [None]}], r"line 1: `item` is missing"),
        ([{"user": "u", "history": ["b1"], "target": "b1"}], r"line 1: unknown key 'target'"),
        ([{"user": "u", "history": ["b1"]}] * 2, r"line 2: user 'u' is there twice, first in line 1"),
        (["", " "], "holds no user"),
    ],
)
def test_histories_that_are_wrong_are_named_with_their_line(tmp_path, lines, message):
    with pytest.raises(ValueError, match=message):
        read_histories(write(tmp_path / "h.jsonl", *lines), ["b1", "b2"])


def test_what_is_no_utf8_or_not_there(tmp_path):
    file = tmp_path / "items.jsonl"
    file.write_bytes(b'{"item": "b1", "text": "a lamp"}\n{"item": "b2", "text": "caf\xe9"}\n')
    with pytest.raises(ValueError, match="line 2: not UTF-8"):
        read_items(file)
    file.write_text('{"item": "b1", "text": "\\ud800"}\n')
    with pytest.raises(ValueError, match="line 1: item 'b1' has no text"):
        read_items(file)
    file.write_text('{"item": "b1", "text": "' + "x" * (5 << 20) + '"}\n')
    with pytest.raises(ValueError, match="line 1: longer than 4 MiB"):
        read_items(file)
    with pytest.raises(ValueError, match="no file at"):
        read_items(tmp_path / "nothing")


@pytest.fixture(scope="module")
def models(trained_run):
    return load_models(Path(trained_run[1]), torch.device("cpu"))


@pytest.fixture(scope="module")
def catalogue(models, items, tmp_path_factory):
    """Items of another shop: the texts of the training items in another order, and three histories."""
    folder = tmp_path_factory.mktemp("shop")
    lines = [{"item": f"s{row}", "text": text} for row, text in enumerate(reversed(items.texts[:30]))]
    names, texts = read_items(write(folder / "items.jsonl", *lines))
    histories = [{"user": f"u{user}", "history": [f"s{user + step}" for step in range(3)]} for user in range(5)]
    found = read_histories(write(folder / "h.jsonl", *histories), names)
    return item_table(names, texts, models.tokenizer), found


def test_lists_hold_real_items_their_ids_and_texts(models, catalogue):
    items, histories = catalogue
    book = book_of(models, items, None, None, SILENT)
    lists = list(recommend(models, items, book, histories, 12, False, SILENT))
    assert [entry["user"] for entry in lists] == histories.users
    for entry in lists:
        assert len(entry["items"]) == 12 and len({found["item"] for found in entry["items"]}) == 12
        scores = [found["score"] for found in entry["items"]]
        assert scores == sorted(scores, reverse=True) and max(scores) < 0
        for found in entry["items"]:
            row = items.items.index(found["item"])
            assert (found["id"], found["text"]) == (book.texts[row], items.texts[row])
    shorter = list(recommend(models, items, book, histories, 3, False, SILENT))
    for long, short in zip(lists, shorter, strict=True):
        assert [found["item"] for found in long["items"][:3]] == [found["item"] for found in short["items"]]
    for entry, rows in zip(recommend(models, items, book, histories, 30, True, SILENT), histories.rows, strict=True):
        listed = {found["item"] for found in entry["items"]}
        assert listed == set(items.items) - {items.items[row] for row in rows}, "all but the history"


def test_what_the_histories_show_counts_by_its_weight(models, catalogue):
    items, histories = catalogue
    book = book_of(models, items, None, None, SILENT)
    prior_NI = expert_of(POPULARITY_BLEND, items.texts, histories.rows).log_probs(histories.rows)

    def scores(weight):
        lists = recommend(models, items, book, histories, len(items.items), False, SILENT, weight)
        return [{items.items.index(one["item"]): one["score"] for one in entry["items"]} for entry in lists]

    for with_prior, plain, prior_I in zip(scores(2.0), scores(0.0), prior_NI, strict=True):
        assert len(with_prior) == len(items.items)
        for row, score in with_prior.items():
            assert score == pytest.approx(plain[row] + 2.0 * prior_I[row], abs=1e-3)


def test_new_items_get_ids_and_the_others_keep_theirs(models, catalogue, tmp_path):
    items, _ = catalogue
    first = book_of(models, items.take(np.arange(20)), None, None, SILENT)
    first.save(tmp_path / "first.arrow")
    grown = book_of(models, items, tmp_path / "first.arrow", None, SILENT)
    assert grown.texts[:20] == first.texts and len(set(grown.texts)) == 30
    assert grown.sha256 == book_of(models, items, None, None, SILENT).sha256, "as if they had come later"
    moved = book_of(models, items.take(np.arange(29, 4, -1)), tmp_path / "first.arrow", None, SILENT)
    assert moved.texts[-15:] == first.texts[5:][::-1]
    (tmp_path / "broken.arrow").write_text("no book")
    with pytest.raises(ValueError, match="no ID book"):
        book_of(models, items, tmp_path / "broken.arrow", None, SILENT)


def test_a_run_a_checkpoint_and_an_export_say_the_same(models, trained_run, catalogue, tmp_path):
    from pretrain.training import checkpoint

    items, histories = catalogue
    book = book_of(models, items, None, None, SILENT)
    expected = list(recommend(models, items, book, histories, 5, False, SILENT))
    source = checkpoint.resolve(Path(trained_run[1]))
    export(source, tmp_path / "export", "float32", None)
    for folder in (source, tmp_path / "export"):
        other = load_models(folder, torch.device("cpu"))
        assert (other.ids, other.prompt, other.search) == (models.ids, models.prompt, models.search)
        assert book_of(other, items, None, None, SILENT).sha256 == book.sha256
        assert list(recommend(other, items, book, histories, 5, False, SILENT)) == expected
    (tmp_path / "export" / "settings.json").unlink()
    with pytest.raises(ValueError, match="settings.json is missing: .* export the checkpoint again"):
        load_models(tmp_path / "export", torch.device("cpu"))
    with pytest.raises(ValueError, match="no folder at"):
        load_models(tmp_path / "nothing", torch.device("cpu"))
    with pytest.raises(ValueError, match="neither a checkpoint nor a run"):
        load_models(tmp_path, torch.device("cpu"))


def test_texts_outside_the_vocabulary(tokenizer):
    lines: list[str] = []
    item_table(["a", "b"], ["title: red lamp", "title: blue 红茶 chair"], tokenizer, lines.append)
    assert lines[0].startswith("2 items; unknown tokens in their texts: ") and lines[0].endswith("%")
    item_table(["a"], ["title: red lamp"], tokenizer, lines.append)
    assert lines[1:] == ["1 items; unknown tokens in their texts: none"]
    with pytest.raises(ValueError, match=r"texts of 1 of 2 items .* as that of 'b'; .*unknown tokens: \d") as caught:
        item_table(["a", "b"], ["title: red lamp", "title: 红茶; brand: 龙井"], tokenizer)
    assert "\n" not in str(caught.value)


def test_a_catalogue_of_one_item(models):
    table = item_table(["only"], ["title: a lamp"], models.tokenizer)
    book = book_of(models, table, None, None, SILENT)
    from zeroshot.own_catalogue import Histories

    one = Histories(["u"], [np.array([0])])
    [listed] = recommend(models, table, book, one, 1, False, SILENT)
    assert [found["item"] for found in listed["items"]] == ["only"]
    [nothing] = recommend(models, table, book, one, 1, True, SILENT)
    assert nothing["items"] == []
