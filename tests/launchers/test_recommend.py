"""`idgenrec recommend` as a person gives it."""

import json

import pytest


@pytest.fixture
def shop(items, tmp_path):
    """(items.jsonl, histories.jsonl) of 20 items with fields, and four users."""
    rows = [{"item": f"s{row}", "title": f"{text[:40]} {row}"} for row, text in enumerate(items.texts[:20])]
    users = [{"user": f"u{user}", "history": [f"s{user}", f"s{user + 5}"]} for user in range(4)]
    for name, lines in (("items.jsonl", rows), ("histories.jsonl", users)):
        (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path / "items.jsonl", tmp_path / "histories.jsonl"


def words(run, shop, *more):
    return ("recommend", run, "--items", shop[0], "--histories", shop[1], *more)


def test_lists_go_to_standard_output_alone(idgenrec, trained_run, shop):
    status, out, err = idgenrec(*words(trained_run[1], shop, "--top", 3))
    assert status == 0, err
    lists = [json.loads(line) for line in out.splitlines()]
    assert [entry["user"] for entry in lists] == ["u0", "u1", "u2", "u3"]
    assert all(set(entry["items"][0]) == {"item", "id", "score", "text"} for entry in lists)
    assert all(len(entry["items"]) == 3 for entry in lists) and "20 IDs of" in err


def test_a_share_of_the_prior_can_be_taken_off(idgenrec, trained_run, shop):
    plain, same, other = (
        [json.loads(line) for line in idgenrec(*words(trained_run[1], shop, *more))[1].splitlines()]
        for more in ((), ("--prior-weight", 0), ("--prior-weight", 0.5))
    )
    assert plain == same
    best = [{entry["item"]: entry["score"] for entry in lists[0]["items"]} for lists in (plain, other)]
    shared = set(best[0]) & set(best[1])
    assert shared and all(best[1][item] > best[0][item] for item in shared), "a logarithm below 0 was taken off"
    status, _, wrong = idgenrec(*words(trained_run[1], shop, "--prior-weight", "nan"))
    assert status == 2 and "--prior-weight is nan; it must be finite" in wrong
    status, _, wrong = idgenrec(*words(trained_run[1], shop, "--popularity-weight", -1))
    assert status == 2 and "--popularity-weight is -1.0; it must be at least 0" in wrong


def test_a_book_is_saved_and_extended(idgenrec, trained_run, shop, tmp_path):
    out, book = tmp_path / "lists.jsonl", tmp_path / "book.arrow"
    status, said, err = idgenrec(*words(trained_run[1], shop, "--out", out, "--save-book", book, "--new"))
    assert (status, err) == (0, "") and f"4 lists: {out}" in said and f"ID book: {book}" in said
    first = {found["item"]: found["id"] for line in out.open() for found in json.loads(line)["items"]}
    for line in out.open():
        user = json.loads(line)
        number = int(user["user"][1:])
        assert not {found["item"] for found in user["items"]} & {f"s{number}", f"s{number + 5}"}
    with shop[0].open("a") as file:
        file.write(json.dumps({"item": "fresh", "title": "something that was not there"}) + "\n")
    more = ("--book", book, "--save-book", book, "--out", out, "--top", 21)
    assert idgenrec(*words(trained_run[1], shop, *more))[0] == 0
    second = {found["item"]: found["id"] for line in out.open() for found in json.loads(line)["items"]}
    assert len(second) == 21 and len(set(second.values())) == 21 and first.items() <= second.items()
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "book.arrow", "histories.jsonl", "items.jsonl", "lists.jsonl",
    ]  # fmt: skip


def test_a_mistake_is_one_line_and_leaves_what_was_there(idgenrec, trained_run, shop, tmp_path):
    run, out, book = trained_run[1], tmp_path / "lists.jsonl", tmp_path / "book.arrow"
    out.write_text("older lists\n")
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"user": "u", "history": ["s1", "nothing"]}\n')
    for given, expected in (
        (words(run, (shop[0], bad)), "bad.jsonl, line 1: user 'u' has item 'nothing'"),
        (words(run, (tmp_path / "no", shop[1])), "no file at"),
        (words(run, shop, "--top", 21), "--top is 21; the catalogue has 20 items, so give 1 to 20"),
        (words(run, shop, "--top", 0), "--top is 0"),
        (words(run, shop, "--threads", 0), "threads is 0"),
        (words(tmp_path, shop), "neither a checkpoint nor a run folder"),
        (words(run, shop, "--book", tmp_path / "none.arrow"), "no ID book at"),
        (words(run, shop, "--save-book", tmp_path / "no" / "b.arrow"), "no folder"),
    ):
        status, said, err = idgenrec(*given, "--out", out)
        assert (status, said) == (2, "") and expected in err, err
        assert err.startswith("error: ") and len(err.splitlines()) == 1, err
        assert out.read_text() == "older lists\n" and not book.exists()
    assert {file.name for file in tmp_path.iterdir()} == {"bad.jsonl", "histories.jsonl", "items.jsonl", "lists.jsonl"}
