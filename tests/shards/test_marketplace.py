import re
from collections import Counter

import numpy as np
import pytest
from raw_folders import SIZES

from shards.readers.marketplace import (
    NOUNS,
    PRETRAINING,
    TASTES,
    UNSEEN,
    MarketplaceSizes,
    draw_catalogue,
    draw_histories,
    write_marketplace,
)

TASTE_OF_WORD = {word: taste for taste, words in enumerate(TASTES) for word in words}
FULL = MarketplaceSizes()


def spoken_tastes(text: str) -> set[int]:
    return {TASTE_OF_WORD[word] for word in re.findall(r"[\w-]+", text) if word in TASTE_OF_WORD}


def test_taste_words_belong_to_one_taste_and_no_word_does_two_jobs():
    nouns = {noun for nouns in NOUNS.values() for noun in nouns.split()}
    assert len(TASTE_OF_WORD) == 48 and all(len(words) == 4 for words in TASTES)
    known = {noun for name in PRETRAINING for noun in NOUNS[name].split()}
    assert set(NOUNS["Gifts"].split()) <= known
    assert not set(NOUNS["Places"].split()) & known
    assert not nouns & set(TASTE_OF_WORD)


@pytest.mark.parametrize("name", UNSEEN)
def test_popularity_beats_chance_but_tastes_matter_more(name):
    catalogue = draw_catalogue(0, name, FULL.test_items, transfer=True)
    histories = draw_histories(0, name, catalogue, FULL.test_users, FULL)
    counts = Counter(row for history in histories for row in history[:-2])
    top = {row for row, _ in counts.most_common(10)}
    popularity, chance = np.mean([history[-1] in top for history in histories]), 10 / FULL.test_items
    assert 2 * chance < popularity < 6 * chance
    same = [np.mean(catalogue.tastes[history[:-1]] == catalogue.tastes[history[-1]]) for history in histories]
    assert np.mean(same) > 4 / len(TASTES)


@pytest.mark.parametrize("name", ["Garden", *UNSEEN])
def test_words_tell_the_taste_only_when_transfer_is_on(name):
    on = draw_catalogue(0, name, 240, transfer=True)
    off = draw_catalogue(0, name, 240, transfer=False)
    assert all(spoken_tastes(text) == {taste} for text, taste in zip(on.texts, on.tastes.tolist(), strict=True))
    agree = np.mean(
        [spoken_tastes(text) == {taste} for text, taste in zip(off.texts, off.tastes.tolist(), strict=True)]
    )
    assert all(len(spoken_tastes(text)) == 1 for text in off.texts)
    assert agree == pytest.approx(1 / len(TASTES), abs=0.06)


def test_transfer_changes_words_and_nothing_else(tmp_path):
    write_marketplace(tmp_path / "on", 5, True, SIZES)
    write_marketplace(tmp_path / "off", 5, False, SIZES)
    for name in ("Garden", "Places"):
        sequence, text = f"{name}/user_sequence.txt.gz", f"{name}/item_plain_text.txt.gz"
        assert (tmp_path / "on" / sequence).read_bytes() == (tmp_path / "off" / sequence).read_bytes()
        assert (tmp_path / "on" / text).read_bytes() != (tmp_path / "off" / text).read_bytes()
    on, off = draw_catalogue(5, "Places", 60, True), draw_catalogue(5, "Places", 60, False)

    def filler(catalogue):
        return [[word for word in text.split() if word.strip(",;") not in TASTE_OF_WORD] for text in catalogue.texts]

    assert filler(on) == filler(off)


def test_same_seed_same_bytes(tmp_path):
    names = write_marketplace(tmp_path / "a", 1, sizes=SIZES)
    assert names == write_marketplace(tmp_path / "b", 1, sizes=SIZES)
    write_marketplace(tmp_path / "c", 2, sizes=SIZES)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.gz"))
    assert len(files) == 2 * len(names) == 12
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
        assert (tmp_path / "a" / file).read_bytes() != (tmp_path / "c" / file).read_bytes()
    with pytest.raises(ValueError, match="exists already"):
        write_marketplace(tmp_path / "a", 1, sizes=SIZES)


def test_histories_repeat_in_places_alone():
    for name, low, high in (("Gifts", 0.0, 0.0), ("Places", 0.02, 0.08)):
        catalogue = draw_catalogue(0, name, 240, transfer=True)
        histories = draw_histories(0, name, catalogue, 300, FULL)
        share = 1 - sum(len(set(history)) for history in histories) / sum(map(len, histories))
        assert low <= share <= high
        assert {len(history) for history in histories} == set(range(FULL.min_length, FULL.max_length + 1))


def test_some_items_share_words_and_noun_but_texts_mostly_differ():
    texts = draw_catalogue(0, "Gifts", 240, transfer=True).texts
    titles = Counter(frozenset(re.findall(r"[\w-]+", text.split(";")[0])) for text in texts)
    assert 0.05 < sum(count for count in titles.values() if count > 1) / 240 < 0.5
    assert len(set(texts)) > 230
