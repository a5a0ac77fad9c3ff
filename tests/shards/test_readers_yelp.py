"""The Yelp reader on hand-made lines of the real schema. That its two paths agree stands in test_readers_amazon.py."""

import pytest
from raw_files import read, write

from shards.readers.folder import detect

REVIEW = {
    "review_id": "lWC-xP3rd6obsecCYsGZRg",
    "user_id": "ak0TdVmGKo4pwqdJSTLwWw",
    "business_id": "buF9druCkbuXLX526sGELQ",
    "stars": 4.0,
    "useful": 3,
    "funny": 1,
    "cool": 1,
    "text": "Apparently Prides Osteria had a rough summer.\n\u201cOk\u201d & good",
    "date": "2014-10-11 03:34:02",
}
BUSINESS = {
    "business_id": "buF9druCkbuXLX526sGELQ",
    "name": "Prides Osteria &amp; Bar",
    "address": "240 Rantoul St",
    "city": "Beverly",
    "state": "MA",
    "postal_code": "01915",
    "stars": 3.5,
    "attributes": {"RestaurantsGoodForGroups": "True", "Ambience": "{'romantic': False}"},
    "categories": "Restaurants, Italian; Wine Bars",
    "hours": None,
}


def yelp(folder, reviews, businesses=(BUSINESS,)):
    write(folder, "yelp_academic_dataset_review.json", reviews)
    return write(folder, "yelp_academic_dataset_business.json", list(businesses))


def test_reviews_and_businesses(tmp_path):
    bare = {"business_id": "b2", "name": "", "city": None, "categories": None}
    folder = yelp(tmp_path / "Yelp", [REVIEW, REVIEW], [BUSINESS, bare])
    assert detect(folder).format == "yelp"
    events, items, rejects = read(folder)
    row = ("ak0TdVmGKo4pwqdJSTLwWw", "buF9druCkbuXLX526sGELQ", 4.0, 1412998442000)
    assert events.rows() == [row, row] and rejects == []
    assert items.rows() == [
        (
            "buF9druCkbuXLX526sGELQ",
            "name: prides osteria & bar; city: beverly; categories: restaurants, italian, wine bars",
        ),
        ("b2", "name: na; city: na; categories: na"),
    ]


def test_short_names_and_gzip(tmp_path):
    write(tmp_path / "Yelp", "review.json.gz", [REVIEW])
    assert read(write(tmp_path / "Yelp", "business.json.gz", [BUSINESS]))[0].height == 1


@pytest.mark.parametrize(
    ("date", "time"),
    [
        ("1970-01-01 00:00:00", 0),
        ("2019-01-01 00:00:00", 1546300800000),
        # The paper's period ends at midnight of December 31: both moments must be exact.
        ("2019-12-31 00:00:00", 1577750400000),
        ("2019-12-31 00:00:01", 1577750401000),
        ("2019-12-31 23:59:59", 1577836799000),
        ("2020-02-29 12:00:00", 1582977600000),
        # Older dumps have days only.
        ("2012-08-01", 1343779200000),
    ],
)
def test_dates_are_utc_to_the_second(tmp_path, date, time):
    for others in ([], [REVIEW | {"user_id": 7}]):
        events, _, rejects = read(yelp(tmp_path / "Yelp", [REVIEW | {"date": date}, *others]))
        assert events["time"][0] == time and rejects == []


@pytest.mark.parametrize(
    "date",
    [
        *(None, 1412998442, "", "yesterday", "2019-02-30 00:00:00", "2019-02-29", "2019-01-01 24:00:00"),
        *("2019-01-01 10:11:60", "2019-1-1 00:00:00", "2019-01-01T00:00:00", "2019-01-01 00:00:00Z"),
        *("1969-12-31 23:59:59", "2100-01-01 00:00:01", "٢019-01-01 00:00:00"),
    ],
)
def test_other_dates_are_malformed(tmp_path, date):
    events, _, rejects = read(yelp(tmp_path / "Yelp", [REVIEW, REVIEW | {"date": date}]))
    assert events.height == 1 and [(file, line) for file, line, _ in rejects] == [
        ("yelp_academic_dataset_review.json", 2)
    ]
    assert rejects[0][2].startswith(("date ", "time is outside"))


def test_a_business_without_an_id_is_rejected(tmp_path):
    businesses = [BUSINESS, {"name": "No id"}, "not json", BUSINESS | {"business_id": "b2"}]
    _, items, rejects = read(yelp(tmp_path / "Yelp", [REVIEW], businesses))
    assert items["item"].to_list() == ["buF9druCkbuXLX526sGELQ", "b2"]
    assert [(line, reason) for _, line, reason in rejects] == [(2, "business_id is missing"), (3, "not JSON")]
