"""Amazon's three releases, on hand-made files of the real schemas."""

import json

import pytest
from raw_files import read, write

from shards.readers.amazon import MAX_DEPTH, MAX_LITERAL_BYTES
from shards.readers.folder import detect

REVIEW = {
    "reviewerID": "A1YJEY40YUW4SE",
    "asin": "7806397051",
    "reviewerName": 'Andrea "Andi"',
    "helpful": [3, 4],
    "reviewText": "Very oily &amp; creamy.\nNot at all what I expected — \u201cmeh\u201d.",
    "overall": 1.0,
    "summary": "Don't waste your money",
    "unixReviewTime": 1391040000,
    "reviewTime": "01 30, 2014",
}
META_2014 = (
    "{'asin': '7806397051', 'description': \"WAWO 15 Color\\nPalette\", 'title': 'WAWO Palette &amp; Brush', "
    "'imUrl': 'http://x/y.jpg', 'price': 9.99, 'salesRank': {'Beauty': 6334}, "
    "'categories': [['Beauty', 'Makeup', 'Face'], ['Beauty', 'Makeup', 'Concealers']]}"
)


def test_2014(tmp_path):
    later = REVIEW | {"reviewerID": "A2", "unixReviewTime": 1391126400}
    folder = write(tmp_path / "Beauty", "reviews_Beauty_5.json.gz", [REVIEW, later, REVIEW])
    write(folder, "meta_Beauty.json.gz", [META_2014, {"asin": "0001048791", "title": "The Crucible"}])
    raw = detect(folder)
    assert (raw.name, raw.format, raw.cleaned) == ("Beauty", "amazon-2014", False)
    events, items, rejects = read(folder)
    first = ("A1YJEY40YUW4SE", "7806397051", 1.0, 1391040000_000)
    # A review that stands there twice is an interaction twice: repeats are the cleaning's business.
    assert events.rows() == [first, ("A2", "7806397051", 1.0, 1391126400_000), first] and rejects == []
    assert items.rows() == [
        (
            "7806397051",
            "title: wawo palette & brush; brand: na; categories: beauty, makeup, face, concealers; "
            "description: wawo 15 color palette",
        ),
        ("0001048791", "title: the crucible; brand: na; categories: na; description: na"),
    ]


def test_2014_ratings_without_reviews(tmp_path):
    folder = write(tmp_path / "Beauty", "ratings_Beauty.csv", ["A39H,0205616461,5.0,1369699200", "A3JM,0558925278,3,1"])
    write(folder, "meta_Beauty.json", [META_2014])
    assert read(folder)[0].rows() == [("A39H", "0205616461", 5.0, 1369699200000), ("A3JM", "0558925278", 3.0, 1000)]


def test_2018(tmp_path):
    review = REVIEW | {"verified": True, "vote": "3", "style": {"Size:": " Large"}, "image": ["http://x"]}
    meta = {
        "asin": "7806397051",
        "category": ["Beauty", "Makeup", "</span></span></span>", "Makeup"],
        "title": "Palette <span class='x'>new</span>",
        "brand": "Wawo",
        "description": ["<b>One</b>", "two;three", ""],
        "price": "$9.99",
        "rank": "2,938,573inBeauty(",
        "feature": ["x"],
    }
    dirty = meta | {"asin": "B2", "title": "var aPageStart = (new Date()).getTime();\nvar ue_t0=ue_t0||+new Date();"}
    folder = write(tmp_path / "Lux", "Luxury_Beauty_5.json.gz", [review])
    write(folder, "meta_Luxury_Beauty.json.gz", [meta, dirty])
    assert detect(folder).format == "amazon-2018"
    events, items, rejects = read(folder)
    assert events.rows() == [("A1YJEY40YUW4SE", "7806397051", 1.0, 1391040000_000)] and rejects == []
    rest = "brand: wawo; categories: beauty, makeup; description: one two,three"
    assert items.rows() == [("7806397051", f"title: palette new; {rest}"), ("B2", f"title: na; {rest}")]


def test_2018_ratings_name_the_item_first(tmp_path):
    folder = write(tmp_path / "Lux", "Luxury_Beauty.csv", ["0143026860,A1V6B6TNIC10QE,1.0,1424304000"])
    write(folder, "meta_Luxury_Beauty.json", [{"asin": "0143026860"}])
    assert read(folder)[0].rows() == [("A1V6B6TNIC10QE", "0143026860", 1.0, 1424304000000)]


def test_2023(tmp_path):
    review = {
        "rating": 5.0,
        "title": "ok",
        "text": "ok",
        "asin": "B00VARIANT",
        "parent_asin": "B00PARENT",
        "user_id": "AGKH",
        "timestamp": 1588687728923,
        "verified_purchase": True,
    }
    meta = {
        "main_category": "All Beauty",
        "title": "Howard Wax",
        "parent_asin": "B00PARENT",
        "store": "Howard Products",
        "price": None,
        "categories": ["Beauty", "Wax"],
        "description": ["A wax."],
        "features": ["Smells good", "Sticky"],
        "details": {"Brand": "Howard", "UPC": "1"},
    }
    other = {"parent_asin": "B2", "title": "T", "store": "The Store", "details": {}, "categories": [], "features": []}
    folder = write(tmp_path / "All", "All_Beauty.jsonl.gz", [review])
    write(folder, "meta_All_Beauty.jsonl.gz", [meta, other, other | {"details": None, "store": None}])
    assert detect(folder).format == "amazon-2023"
    events, items, rejects = read(folder)
    assert events.rows() == [("AGKH", "B00PARENT", 5.0, 1588687728923)] and rejects == []
    assert items["text"].to_list() == [
        "title: howard wax; brand: howard; categories: beauty, wax; description: a wax. smells good sticky",
        "title: t; brand: the store; categories: na; description: na",
        "title: t; brand: na; categories: na; description: na",
    ]


def test_2023_ratings_have_a_header(tmp_path):
    rows = ["user_id,parent_asin,rating,timestamp", "AGKH,B00PARENT,5.0,1588687728923", "AGKH,B2,4.0,1588687728924"]
    folder = write(tmp_path / "All", "All_Beauty.csv.gz", rows)
    write(folder, "meta_All_Beauty.jsonl", [{"parent_asin": "B2"}])
    assert detect(folder).format == "amazon-2023"
    assert read(folder)[0].row(1) == ("AGKH", "B2", 4.0, 1588687728924)
    write(folder, "All_Beauty.csv.gz", rows[1:])
    with pytest.raises(ValueError, match=r"All_Beauty.csv.gz:1: the header is 'AGKH,.*with user_id, parent_asin"):
        read(folder)


BAD_REVIEWS = [
    (b"{", "not JSON"),
    (b"[1, 2]", "not a JSON object"),
    (b"null", "not a JSON object"),
    (json.dumps(REVIEW).encode() + b"}", "not JSON"),
    (json.dumps(REVIEW).encode() * 2, "not JSON"),
    (json.dumps(REVIEW, ensure_ascii=False).encode("cp1252"), "not UTF-8"),
    (json.dumps(REVIEW).encode("utf-16"), "not UTF-8"),
    (b"[" * 100_000 + b"]" * 100_000, "not JSON"),
    ({k: v for k, v in REVIEW.items() if k != "reviewerID"}, "reviewerID is missing"),
    (REVIEW | {"asin": None}, "asin is missing"),
    (REVIEW | {"asin": ""}, "asin is missing"),
    (REVIEW | {"asin": ["B1"]}, "asin is not text"),
    (REVIEW | {"asin": True}, "asin is not text"),
    (REVIEW | {"asin": 1.5}, "asin is not text"),
    (REVIEW | {"asin": 7.0}, "asin is not text"),
    (REVIEW | {"asin": "B 1"}, "asin holds spaces or control characters"),
    (REVIEW | {"asin": "B1 "}, "asin holds spaces or control characters"),
    (REVIEW | {"asin": "B\u00a01"}, "asin holds spaces or control characters"),
    (REVIEW | {"asin": "B\0"}, "asin holds spaces or control characters"),
    (REVIEW | {"asin": "B\ud800"}, "asin is not UTF-8"),
    (REVIEW | {"asin": "é" * 129}, "asin is longer than 256 bytes"),
    (REVIEW | {"overall": "5"}, "rating is not a number"),
    (REVIEW | {"overall": True}, "rating is not a number"),
    (REVIEW | {"overall": float("nan")}, "rating is not finite"),
    (REVIEW | {"overall": float("inf")}, "rating is not finite"),
    (json.dumps(REVIEW).replace("1.0", "1" + "0" * 400), "rating is not finite"),
    (REVIEW | {"unixReviewTime": None}, "time is missing"),
    (REVIEW | {"unixReviewTime": "1391040000"}, "time is not a number"),
    (REVIEW | {"unixReviewTime": -1}, "time is outside 1970 to 2100 (it should be in seconds)"),
    (REVIEW | {"unixReviewTime": 1391040000000}, "time is outside 1970 to 2100 (it should be in seconds)"),
    (REVIEW | {"unixReviewTime": 1e300}, "time is outside 1970 to 2100 (it should be in seconds)"),
]


@pytest.mark.parametrize(("line", "reason"), BAD_REVIEWS, ids=[f"{n}-{r}" for n, (_, r) in enumerate(BAD_REVIEWS)])
def test_a_malformed_review_is_rejected_with_its_number(tmp_path, line, reason):
    folder = write(tmp_path / "Beauty", "reviews_Beauty.json", [REVIEW, "", line, REVIEW])
    write(folder, "meta_Beauty.json", [META_2014])
    events, _, rejects = read(folder)
    assert events.height == 2 and rejects == [("reviews_Beauty.json", 3, reason)]
    with pytest.raises(ValueError, match=r"1 of 3 lines \(33.3%\) of .*reviews_Beauty.json are malformed"):
        read(folder, max_share=0.3)


@pytest.mark.parametrize(
    ("changes", "row"),
    [
        ({"reviewerID": 7, "asin": 10}, ("7", "10", 1.0, 1391040000000)),
        ({"overall": None}, ("A1YJEY40YUW4SE", "7806397051", None, 1391040000000)),
        ({"overall": 4}, ("A1YJEY40YUW4SE", "7806397051", 4.0, 1391040000000)),
        ({"unixReviewTime": 1391040000.25}, ("A1YJEY40YUW4SE", "7806397051", 1.0, 1391040000250)),
        ({"unixReviewTime": 0}, ("A1YJEY40YUW4SE", "7806397051", 1.0, 0)),
        ({"asin": "é" * 128}, ("A1YJEY40YUW4SE", "é" * 128, 1.0, 1391040000000)),
        (
            {"price": float("nan"), "reviewText": "half a pair \ud83d"},
            ("A1YJEY40YUW4SE", "7806397051", 1.0, 1391040000000),
        ),
    ],
)
def test_odd_reviews_that_count(tmp_path, changes, row):
    folder = write(tmp_path / "Beauty", "reviews_Beauty.json", [REVIEW | changes])
    write(folder, "meta_Beauty.json", [META_2014])
    assert read(folder)[0].rows() == [row]


BAD_LITERALS = [
    ("{'title': 'no id'}", "asin is missing"),
    ("{'asin': None}", "asin is missing"),
    ("['asin']", "not a dictionary"),
    ("{'asin': 'B1', 'title': 'cut", "not a Python literal"),
    ("{'asin': __import__('os').getcwd()}", "not a Python literal"),
    ("{'asin': 'B1', 'price': 1+1}", "not a Python literal"),
    ("{'asin': 'B1', 'x': " + "-" * 100_000 + "1}", "not a Python literal"),
    ("{'asin': 'B1', 'x': 1" + "+1" * 50_000 + "}", "not a Python literal"),
    ("{'asin': 'B1', 'x': " + "9" * 5000 + "}", "not a Python literal"),
    ("{'asin': 'B1', 'x': {[]: 1}}", "not a Python literal"),
    ("{'asin': 'B1', 'x': " + "[" * 100 + "]" * 100 + "}", f"nested deeper than {MAX_DEPTH} levels"),
    ("[" * 100_000, f"nested deeper than {MAX_DEPTH} levels"),
    ("{'asin': 'B1', 'x': '" + "y" * MAX_LITERAL_BYTES + "'}", "a literal longer than 256 KiB"),
    (b"{'asin': 'B1', 'x': '\xff'}", "not UTF-8"),
    (b"{'asin': 'B1', 'x': '\x00'}", "not a Python literal"),
]


@pytest.mark.parametrize(("line", "reason"), BAD_LITERALS, ids=[f"{n}-{r}" for n, (_, r) in enumerate(BAD_LITERALS)])
def test_a_malformed_literal_is_rejected_and_never_run(tmp_path, line, reason):
    folder = write(tmp_path / "Beauty", "reviews_Beauty.json", [REVIEW])
    write(folder, "meta_Beauty.json", [META_2014, line, META_2014.replace("7806397051", "B9")])
    _, items, rejects = read(folder)
    assert items["item"].to_list() == ["7806397051", "B9"] and rejects == [("meta_Beauty.json", 2, reason)]


def test_odd_literals_that_count(tmp_path):
    lines = [
        "{'asin': 'B1', 'title': '((([[[ \\'quoted\\' " + "(" * 100 + " text', 'price': -1.5e3, 'x': (1, True, None)}",
        "{'asin': 'B2', 'title': u'caf\\xe9', \"brand\": \"it's\"}  ",
        "{'asin': 'B3', 'title': 'a \\d odd escape'}",
        "{'asin': 'B1', 'title': 'a second line of B1'}",
    ]
    folder = write(tmp_path / "Beauty", "reviews_Beauty.json", [REVIEW])
    write(folder, "meta_Beauty.json", lines)
    _, items, rejects = read(folder)
    titles = [text.split("; ")[0] for text in items["text"]]
    assert rejects == [] and items["item"].to_list() == ["B1", "B2", "B3", "B1"]
    assert titles[1:] == ["title: café", "title: a \\d odd escape", "title: a second line of b1"]
    assert titles[0].startswith("title: ((([[[ 'quoted' (((")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "holds no known format: no file; expected: reviews_<Category>_5.json.gz"),
        (["notes.md"], "holds no known format: notes.md; expected:"),
        (["reviews_Beauty_5.json.gz"], "but no item texts; amazon-2014 needs reviews_<Category>"),
        (["meta_Beauty.json.gz"], "but no interactions; amazon-2014 needs"),
        (["reviews_Beauty_5.json.gz", "meta_Toys.json.gz"], "are of two categories"),
        (["Beauty_5.json.gz", "meta_Toys.json.gz"], "are of two categories"),
        (
            ["reviews_Beauty.json", "reviews_Beauty_5.json.gz", "meta_Beauty.json"],
            "is ambiguous: it holds reviews_",
        ),
        (["reviews_Beauty.json", "ratings_Beauty.csv", "meta_Beauty.json"], "is ambiguous"),
        (["Beauty.json", "meta_Beauty.json", "meta_Beauty.json.gz"], "is ambiguous"),
        (["Beauty.jsonl", "meta_Beauty.jsonl", "a.inter", "a.item"], "is ambiguous: .*a.inter"),
        (["user_sequence.txt", "item_plain_text.txt", "item_plain_text.txt.gz"], "is ambiguous"),
        (["user_sequence.txt"], "but no item texts; plain needs user_sequence.txt and item_plain_text.txt"),
    ],
)
def test_detect_says_what_is_there_and_what_is_expected(tmp_path, names, message):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=message) as error:
        detect(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("names", "form"),
    [
        (("reviews_Toys_and_Games_5.json.gz", "meta_Toys_and_Games.json.gz"), "amazon-2014"),
        (("ratings_Toys_and_Games.csv", "meta_Toys_and_Games.json"), "amazon-2014"),
        (("Toys_and_Games.json", "meta_Toys_and_Games.json.gz"), "amazon-2018"),
        (("Toys_and_Games.csv.gz", "meta_Toys_and_Games.json.gz"), "amazon-2018"),
        (("Toys_and_Games.jsonl.gz", "meta_Toys_and_Games.jsonl.gz"), "amazon-2023"),
        (("Toys_and_Games.csv", "meta_Toys_and_Games.jsonl.gz"), "amazon-2023"),
        (("review.json", "business.json"), "yelp"),
        (("yelp_academic_dataset_review.json.gz", "yelp_academic_dataset_business.json"), "yelp"),
        (("ml-100k.inter", "ml-100k.item"), "recbole"),
        (("user_sequence.txt.gz", "item_plain_text.txt"), "plain"),
    ],
)
def test_detect_knows_each_format(tmp_path, names, form):
    for name in (*names, "SHA256SUMS", "README.md", "yelp_academic_dataset_user.json", "ml-100k.user"):
        (tmp_path / name).touch()
    raw = detect(tmp_path)
    assert (raw.format, raw.events.name, raw.items.name) == (form, *names)
    assert raw.name == tmp_path.name and raw.cleaned == (form == "plain")


def test_long_files_come_in_bounded_frames_in_order(tmp_path):
    reviews = [REVIEW | {"reviewerID": f"A{n}", "unixReviewTime": n} for n in range(60_000)]
    reviews[30_000] |= {"reviewerID": 30_000}
    folder = write(tmp_path / "Beauty", "reviews_Beauty.json.gz", reviews)
    write(folder, "meta_Beauty.json", [META_2014])
    events, _, rejects = read(folder)
    assert rejects == [] and events["time"].to_list() == [n * 1000 for n in range(60_000)]
    assert events["user"][29_999:30_002].to_list() == ["A29999", "30000", "A30001"]
    (folder / "meta_Beauty.json").write_bytes(b"")
    with pytest.raises(ValueError, match=r"meta_Beauty.json is empty"):
        read(folder)
