"""The registry against the paper's own words and against itself."""

import re

import pytest

from shards import registry
from shards.registry import (
    DENSITY_GROUPS,
    PAPER,
    PAPER_FUSION,
    PUBLISHED,
    RELEASES,
    UNCONFIRMED,
    paper_rows,
    row,
    rows,
    terms_for,
)

TABLE_2 = {
    "Den. >= 0.5": "Instruments, Patio",
    "0.1 <= Den. < 0.5": "Automotive, Instant, Office, Music, Grocery, Baby",
    "0.05 <= Den. < 0.1": "Tools, Pet, Toys, Phones, Beauty, Games, Apps",
    "Den. <= 0.05": "Clothing, Sports, Health, Home, Kindle, CDs, Electronics, Movies, Books",
}
TABLE_3 = {
    "Sports": (35_598, 18_357, 296_337, 0.0453),
    "Beauty": (22_363, 12_101, 198_502, 0.0734),
    "Toys": (19_412, 11_924, 167_597, 0.0724),
    "Music": (5_541, 3_568, 64_706, 0.3273),
    "Instruments": (1_429, 900, 10_261, 0.7978),
    "Yelp": (30_431, 20_033, 316_354, 0.0519),
}
BOUNDS: dict[str, tuple[float, float]] = dict(
    zip(DENSITY_GROUPS, ((0.5, 100), (0.1, 0.5), (0.05, 0.1), (0, 0.05)), strict=True)
)


def test_table_2_is_the_papers():
    for group, names in TABLE_2.items():
        assert [each.category for each in rows("2014") if each.density_group == group] == names.split(", ")
    assert len(rows("2014")) == 24
    assert [each.category for each in paper_rows()] == [each.category for each in rows("2014")] + ["Yelp"]


def test_roles_are_the_papers():
    assert {each.category for each in paper_rows() if each.role == "test"} == set(TABLE_3)
    assert sum(each.role == "train" for each in paper_rows()) == 19


@pytest.mark.parametrize("name", TABLE_3)
def test_table_3_is_the_papers(name: str):
    counts = next(each.expected for each in paper_rows() if each.category == name)
    assert counts is not None and counts.source == PAPER
    assert (counts.users, counts.items, counts.interactions, round(counts.density, 4)) == TABLE_3[name]


def test_the_fusion_row_is_the_papers_and_not_its_rule():
    assert (PAPER_FUSION.users, PAPER_FUSION.items, PAPER_FUSION.interactions) == (183_918, 233_323, 2_875_446)
    assert round(PAPER_FUSION.density, 4) == 0.0067
    # Nine categories above the cap are cut to 30,000, ten stay as they are.
    assert registry.fusion_users_by_rule() == 407_451


def test_counts_lie_in_their_density_group_and_are_a_5_core():
    for each in rows("2014"):
        counts = each.expected
        assert counts is not None and counts.source in (PAPER, PUBLISHED, UNCONFIRMED)
        low, high = BOUNDS[each.density_group]
        assert low <= counts.density <= high, each.category
        assert counts.interactions >= 5 * max(counts.users, counts.items), each.category


def test_later_releases_claim_no_counts_and_name_their_successors():
    for release in ("2018", "2023"):
        assert all(each.expected is None for each in rows(release))
        assert [(each.category, each.role) for each in rows(release)] == [(e.category, e.role) for e in rows("2014")]
        assert all((each.source_name is None) == (not each.files) for each in rows(release))
    assert {each.category for each in rows("2018") if not each.files} == {"Instant", "Baby", "Apps", "Health"}
    assert {each.category for each in rows("2023") if not each.files} == {"Instant", "Apps"}
    assert row("2018", "Beauty").source_name == "All_Beauty"
    assert row("2023", "baby").source_name == "Baby_Products"


@pytest.mark.parametrize(
    ("release", "category", "names"),
    [
        (
            "2014",
            "Phones",
            ["reviews_Cell_Phones_and_Accessories_5.json.gz", "meta_Cell_Phones_and_Accessories.json.gz"],
        ),
        ("2018", "Games", ["Video_Games_5.json.gz", "meta_Video_Games.json.gz"]),
        ("2023", "Health", ["Health_and_Household.jsonl.gz", "meta_Health_and_Household.jsonl.gz"]),
        ("yelp", "Yelp", ["yelp_academic_dataset_review.json", "yelp_academic_dataset_business.json"]),
    ],
)
def test_raw_files_are_called_as_published(release: str, category: str, names: list[str]):
    assert [raw.name for raw in row(release, category).files] == names


def test_mirrors_are_whole_addresses_of_the_same_file():
    for release in RELEASES:
        for each in rows(release):
            for raw in each.files:
                assert bool(raw.urls) == (release != "yelp")
                assert len(set(raw.urls)) == len(raw.urls)
                for url in raw.urls:
                    assert re.fullmatch(r"https?://[a-z0-9.]+/[A-Za-z0-9_./-]+", url) and "{" not in url
                    assert url.rsplit("/", 1)[-1].removesuffix(".gz") == raw.name.removesuffix(".gz")
    assert row("2014", "Books").files[0].urls[0] == (
        "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/reviews_Books_5.json.gz"
    )


def test_file_names_are_unique_within_a_release():
    """A checksums file names files without folders."""
    for release in RELEASES:
        names = [raw.name for each in rows(release) for raw in each.files]
        assert len(names) == len(set(names))


def test_terms_of_every_format():
    for name in ("amazon-2014", "amazon-2018", "amazon-2023", "yelp", "plain", "recbole"):
        terms = terms_for(name)
        assert terms.terms and terms.homepage and terms.citation
    assert "redistribution" in terms_for("yelp").terms


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="no release '2015'.*2014, 2018, 2023, yelp"):
        rows("2015")
    with pytest.raises(ValueError, match="no category 'Cars'.*Instruments.*Automotive"):
        row("2014", "Cars")
    with pytest.raises(ValueError, match="'amazon'.*amazon-2014.*plain"):
        terms_for("amazon")
