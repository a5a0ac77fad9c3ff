"""The registry: which raw data the paper speaks of, as one table of facts.

Enters nothing; leave rows (release, category): role and density group (paper, Table 2), expected counts (Table 3), raw
file names with their mirrors, and the terms under which the data are given. It must hold that no number is invented: a
count carries its source, and what is not known is None. Categories go by the paper's names in every release.
"""

from dataclasses import dataclass

RELEASES = ("2014", "2018", "2023", "yelp")
MAX_USERS = 30_000
YELP_PAGE = "https://business.yelp.com/data/resources/open-dataset/"


@dataclass(frozen=True)
class Counts:
    """Users, items and interactions after the 5-core, and who says so."""

    users: int
    items: int
    interactions: int
    source: str

    @property
    def density(self) -> float:
        """Interactions over (user, item) pairs, in percent; 0 without pairs."""
        return 100 * self.interactions / max(self.users * self.items, 1)


@dataclass(frozen=True)
class RawFile:
    """One file. `urls`: mirrors, best first; none = to be fetched by hand.

    The last part of a URL is the file's name there: a mirror may have it without gzip. num_bytes, sha256: as published,
    None where nothing is.
    """

    name: str
    urls: tuple[str, ...]
    num_bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Row:
    """One category of one release. `source_name` is the release's own name; None (and no files) where it has none.

    role: train or test. expected: counts of that release, None where unknown.
    """

    release: str
    category: str
    role: str
    density_group: str
    source_name: str | None
    files: tuple[RawFile, ...]
    expected: Counts | None


@dataclass(frozen=True)
class Terms:
    """What a person may do with the data, where they come from, and whom to cite."""

    terms: str
    homepage: str
    citation: str


PAPER, PUBLISHED = "paper Table 3", "published 5-core files"
# Users and items as the literature has them; no public table was found that says so too.
UNCONFIRMED = "literature, unconfirmed"
PAPER_FUSION = Counts(183_918, 233_323, 2_875_446, PAPER)

DENSITY_GROUPS = ("Den. >= 0.5", "0.1 <= Den. < 0.5", "0.05 <= Den. < 0.1", "Den. <= 0.05")
NO_GROUP = "Not in Table 2"

# Table 2 in its order. Counts are those of the 2014 5-core files.
_CATEGORIES = (
    ("Instruments", "test", 0, "Musical_Instruments", Counts(1_429, 900, 10_261, PAPER)),
    ("Patio", "train", 0, "Patio_Lawn_and_Garden", Counts(1_686, 962, 13_272, UNCONFIRMED)),
    ("Automotive", "train", 1, "Automotive", Counts(2_928, 1_835, 20_473, PUBLISHED)),
    ("Instant", "train", 1, "Amazon_Instant_Video", Counts(5_130, 1_685, 37_126, UNCONFIRMED)),
    ("Office", "train", 1, "Office_Products", Counts(4_905, 2_420, 53_258, PUBLISHED)),
    ("Music", "test", 1, "Digital_Music", Counts(5_541, 3_568, 64_706, PAPER)),
    ("Grocery", "train", 1, "Grocery_and_Gourmet_Food", Counts(14_681, 8_713, 151_254, PUBLISHED)),
    ("Baby", "train", 1, "Baby", Counts(19_445, 7_050, 160_792, PUBLISHED)),
    ("Tools", "train", 2, "Tools_and_Home_Improvement", Counts(16_638, 10_217, 134_476, PUBLISHED)),
    ("Pet", "train", 2, "Pet_Supplies", Counts(19_856, 8_510, 157_836, PUBLISHED)),
    ("Toys", "test", 2, "Toys_and_Games", Counts(19_412, 11_924, 167_597, PAPER)),
    ("Phones", "train", 2, "Cell_Phones_and_Accessories", Counts(27_879, 10_429, 194_439, PUBLISHED)),
    ("Beauty", "test", 2, "Beauty", Counts(22_363, 12_101, 198_502, PAPER)),
    ("Games", "train", 2, "Video_Games", Counts(24_303, 10_672, 231_780, PUBLISHED)),
    ("Apps", "train", 2, "Apps_for_Android", Counts(87_271, 13_209, 752_937, UNCONFIRMED)),
    ("Clothing", "train", 3, "Clothing_Shoes_and_Jewelry", Counts(39_387, 23_033, 278_677, PUBLISHED)),
    ("Sports", "test", 3, "Sports_and_Outdoors", Counts(35_598, 18_357, 296_337, PAPER)),
    ("Health", "train", 3, "Health_and_Personal_Care", Counts(38_609, 18_534, 346_355, UNCONFIRMED)),
    ("Home", "train", 3, "Home_and_Kitchen", Counts(66_519, 28_237, 551_682, PUBLISHED)),
    ("Kindle", "train", 3, "Kindle_Store", Counts(68_223, 61_934, 982_619, PUBLISHED)),
    ("CDs", "train", 3, "CDs_and_Vinyl", Counts(75_258, 64_443, 1_097_592, PUBLISHED)),
    ("Electronics", "train", 3, "Electronics", Counts(192_403, 63_001, 1_689_188, PUBLISHED)),
    ("Movies", "train", 3, "Movies_and_TV", Counts(123_960, 50_052, 1_697_533, PUBLISHED)),
    ("Books", "train", 3, "Books", Counts(603_668, 367_982, 8_898_041, PUBLISHED)),
)
_YELP = Counts(30_431, 20_033, 316_354, PAPER)

# Where a later release calls a category otherwise; None: it has no successor of its own there.
_RENAMED: dict[str, dict[str, str | None]] = {
    "2014": {},
    "2018": {"Instant": None, "Baby": None, "Apps": None, "Health": None, "Beauty": "All_Beauty"},
    "2023": {
        "Instant": None,
        "Apps": None,
        "Baby": "Baby_Products",
        "Beauty": "Beauty_and_Personal_Care",
        "Health": "Health_and_Household",
    },
}

# Mirrors, best first: what stands before and behind the category's name, for reviews and for metadata.
_SNAP, _LAB = (
    "snap.stanford.edu/data/amazon/productGraph/categoryFiles/",
    "https://mcauleylab.ucsd.edu/public_datasets/",
)
_REPO = "https://datarepo.eng.ucsd.edu/mcauley_group/"
_MIRRORS = {
    "2014": [(base, "reviews_{}_5.json.gz", "meta_{}.json.gz")
             for base in (f"https://{_SNAP}", f"http://{_SNAP}", f"{_LAB}data/amazon/categoryFiles/")],
    "2018": [(base, "categoryFilesSmall/{}_5.json.gz", "metaFiles2/meta_{}.json.gz")
             for base in (f"{_LAB}data/amazon_v2/", f"{_REPO}data/amazon_v2/",
                          "https://jmcauley.ucsd.edu/data/amazon_v2/", "http://deepyeti.ucsd.edu/jianmo/amazon/")],
    "2023": [
        *((base, "raw/review_categories/{}.jsonl.gz", "raw/meta_categories/meta_{}.jsonl.gz")
          for base in (f"{_LAB}data/amazon_2023/", f"{_REPO}data/amazon_2023/")),
        ("https://huggingface.co/datasets/McAuley-Lab/Amazon-Reviews-2023/resolve/main/",
         "raw/review_categories/{}.jsonl", "raw/meta_categories/meta_{}.jsonl"),
    ],
}  # fmt: skip
# From a public log of a download; no checksum of these files is published.
_NUM_BYTES = {"reviews_Musical_Instruments_5.json.gz": 2_460_495}

_LAB_TERMS = (
    "No licence is published. The McAuley Lab offers the data for research and asks to be cited; "
    "the texts belong to those who wrote them. Do not pass them on."
)
_TERMS = {
    "amazon-2014": Terms(
        _LAB_TERMS,
        "https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html",
        "R. He, J. McAuley: Ups and Downs: Modeling the Visual Evolution of Fashion Trends with One-Class "
        "Collaborative Filtering. WWW 2016. J. McAuley, C. Targett, Q. Shi, A. van den Hengel: Image-based "
        "Recommendations on Styles and Substitutes. SIGIR 2015.",
    ),
    "amazon-2018": Terms(
        _LAB_TERMS,
        "https://cseweb.ucsd.edu/~jmcauley/datasets/amazon_v2/",
        "J. Ni, J. Li, J. McAuley: Justifying Recommendations using Distantly-Labeled Reviews and Fine-Grained "
        "Aspects. EMNLP 2019.",
    ),
    "amazon-2023": Terms(
        _LAB_TERMS,
        "https://amazon-reviews-2023.github.io/",
        "Y. Hou, J. Li, Z. He, A. Yan, X. Chen, J. McAuley: Bridging Language and Items for Retrieval and "
        "Recommendation. arXiv:2403.03952, 2024.",
    ),
    "yelp": Terms(
        "Yelp's dataset terms, accepted by whoever downloads: academic, non-commercial use; no redistribution of the "
        "data or of what is made from them.",
        YELP_PAGE,
        "Yelp Open Dataset. The paper's set is the reviews written in 2019, so any release from 2020 on holds them "
        "(later ones lack what was removed since).",
    ),
    "recbole": Terms(
        "Those of the data set that the atomic files were made from.",
        "https://github.com/RUCAIBox/RecSysDatasets",
        "W. X. Zhao et al.: RecBole: Towards a Unified, Comprehensive and Efficient Framework for Recommendation "
        "Algorithms. CIKM 2021; and the source of the data set.",
    ),
    "plain": Terms("Not stated by the files: ask whoever prepared them.", "not stated", "not stated"),
}


def rows(release: str) -> tuple[Row, ...]:
    """The rows of one of `RELEASES`: 24 in Table 2's order for Amazon, one for yelp; ValueError otherwise."""
    if release not in RELEASES:
        raise ValueError(f"there is no release {release!r}; choose one of {', '.join(RELEASES)}")
    if release == "yelp":
        names = ("yelp_academic_dataset_review.json", "yelp_academic_dataset_business.json")
        return (Row(release, "Yelp", "test", NO_GROUP, "Yelp", tuple(RawFile(name, ()) for name in names), _YELP),)
    table = []
    for category, role, group, name_of_2014, counts in _CATEGORIES:
        source_name = _RENAMED[release].get(category, name_of_2014)
        files = _amazon_files(release, source_name) if source_name else ()
        expected = counts if release == "2014" else None
        table.append(Row(release, category, role, DENSITY_GROUPS[group], source_name, files, expected))
    return tuple(table)


def row(release: str, category: str) -> Row:
    """The row of a category by the paper's name, in any case; ValueError lists the known ones."""
    known = rows(release)
    for candidate in known:
        if candidate.category.lower() == category.lower():
            return candidate
    raise ValueError(
        f"release {release} has no category {category!r}; choose from {', '.join(each.category for each in known)}"
    )


def paper_rows() -> tuple[Row, ...]:
    """The 25 data sets of the paper: the 24 of Amazon 2014 in Table 2's order, then Yelp."""
    return rows("2014") + rows("yelp")


def fusion_users_by_rule() -> int:
    """Users that the paper's own rule gives: min(users, 30,000) over the 19 train categories."""
    return sum(min(each.expected.users, MAX_USERS) for each in rows("2014") if each.role == "train" and each.expected)


def terms_for(format_or_release: str) -> Terms:
    """Terms by reader's format: amazon-2014, amazon-2018, amazon-2023, yelp, recbole or plain; ValueError otherwise."""
    if format_or_release not in _TERMS:
        raise ValueError(f"no terms are known for {format_or_release!r}; known are {', '.join(_TERMS)}")
    return _TERMS[format_or_release]


def _amazon_files(release: str, source_name: str) -> tuple[RawFile, RawFile]:
    """Reviews and metadata of a category, named as the first mirror has them."""
    reviews, metadata = [], []
    for base, review_path, metadata_path in _MIRRORS[release]:
        reviews.append(base + review_path.format(source_name))
        metadata.append(base + metadata_path.format(source_name))
    names = [urls[0].rsplit("/", 1)[-1] for urls in (reviews, metadata)]
    return (
        RawFile(names[0], tuple(reviews), _NUM_BYTES.get(names[0])),
        RawFile(names[1], tuple(metadata), _NUM_BYTES.get(names[1])),
    )
