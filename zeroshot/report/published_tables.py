"""The IDGenRec paper's Tables 4, 6 and 7 as data, each cell with its protocol and its marks.

Leaves: `cells()`. What must hold: the values are the printed ones; a mark that can be derived is derived by a rule
and never set by hand. Rules on one model's four metrics on one data set, for one relevant item per user:

* impossible: HR and NDCG cannot fall with k, and NDCG@k cannot exceed HR@k.
* inconsistent: a hit at ranks 6 to 10 adds between 1/log2(11) and 1/log2(7) to NDCG, a hit at ranks 1 to 5 between
  1/log2(6) and 1; outside these bounds, with room for the rounding of the printed digits, no ranks give the four
  values.
* leaky: in the code released with the paper the user IDs are generated from the whole sequence, target included.
* by item id: the released Sports and Toys sequences are sorted by item id, so the "last" item is the largest id.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

METRICS = ("HR@5", "NDCG@5", "HR@10", "NDCG@10")
ROUNDING = 1e-4
"""Largest error of a difference of two values printed with four decimals."""
FOOTNOTES = {
    "impossible": "Impossible as printed: HR and NDCG cannot fall with k, and NDCG@k cannot exceed HR@k.",
    "inconsistent": "No set of ranks gives these four values together, even allowing for rounding.",
    "leaky": "In the released code the user IDs are generated from the whole sequence, the target included.",
    "by item id": "The released sequences are sorted by item id, not by time: leave-one-out asks for the largest id.",
}
AUTHORS_MODEL = "IDGenRec"
SORTED_BY_ID = ("Sports", "Toys")

# Columns of a row: HR@5, NDCG@5, HR@10, NDCG@10. Values in units of 0.0001, as printed.
TABLE_7 = {
    "Sports": {"UniSRec": (60, 34, 98, 46), "IDGenRec": (156, 134, 218, 154)},
    "Beauty": {"UniSRec": (118, 68, 206, 96), "IDGenRec": (174, 135, 310, 177)},
    "Toys": {"UniSRec": (97, 55, 175, 80), "IDGenRec": (103, 79, 215, 114)},
    "Music": {"UniSRec": (152, 87, 294, 133), "IDGenRec": (184, 148, 238, 165)},
    "Instruments": {"UniSRec": (154, 84, 280, 125), "IDGenRec": (203, 139, 440, 215)},
    "Yelp": {"UniSRec": (64, 51, 81, 57), "IDGenRec": (300, 248, 329, 258)},
}
TABLE_4 = {
    "Sports": {
        "GRU4Rec": (129, 86, 204, 110), "Caser": (116, 72, 194, 97), "HGN": (189, 120, 313, 159),
        "SASRec": (233, 154, 350, 192), "Bert4Rec": (115, 75, 191, 99), "FDSA": (182, 122, 288, 156),
        "S3Rec": (251, 161, 385, 204), "P5-SID": (264, 186, 358, 216), "P5-CID": (313, 224, 431, 262),
        "P5-SemID": (274, 193, 406, 235), "IDGenRec": (429, 326, 574, 372),
    },
    "Beauty": {
        "GRU4Rec": (164, 99, 283, 137), "Caser": (205, 131, 347, 176), "HGN": (325, 206, 512, 266),
        "SASRec": (387, 249, 605, 318), "Bert4Rec": (203, 124, 347, 170), "FDSA": (267, 163, 407, 208),
        "S3Rec": (387, 244, 647, 327), "P5-SID": (430, 288, 602, 368), "P5-CID": (489, 477, 680, 357),
        "P5-SemID": (433, 299, 652, 370), "IDGenRec": (618, 486, 814, 541),
    },
    "Toys": {
        "GRU4Rec": (97, 59, 176, 84), "Caser": (166, 107, 270, 141), "HGN": (321, 221, 497, 277),
        "SASRec": (463, 306, 675, 374), "Bert4Rec": (116, 71, 203, 99), "FDSA": (228, 140, 381, 189),
        "S3Rec": (443, 294, 700, 376), "P5-SID": (231, 159, 304, 183), "P5-CID": (215, 133, 327, 170),
        "P5-SemID": (247, 167, 376, 209), "IDGenRec": (655, 481, 870, 551),
    },
    "Yelp": {
        "GRU4Rec": (176, 110, 285, 145), "Caser": (150, 99, 263, 134), "HGN": (186, 115, 326, 159),
        "SASRec": (170, 110, 284, 147), "Bert4Rec": (51, 33, 90, 90), "FDSA": (158, 98, 276, 136),
        "S3Rec": (201, 123, 341, 168), "P5-SID": (346, 242, 486, 287), "P5-CID": (261, 171, 428, 225),
        "P5-SemID": (202, 131, 324, 170), "IDGenRec": (468, 368, 578, 404),
    },
}  # fmt: skip
TABLE_6 = {
    "Sports": {
        "User ID": (177, 118, 300, 141), "Item ID": (404, 308, 528, 348), "User & Item ID": (429, 326, 574, 372),
    },
    "Beauty": {
        "User ID": (202, 325, 138, 177), "Item ID": (577, 441, 778, 506), "User & Item ID": (618, 486, 814, 541),
    },
}  # fmt: skip
TABLES = {4: TABLE_4, 6: TABLE_6, 7: TABLE_7}


@dataclass(frozen=True)
class Cell:
    """One printed number: where it stands, how it was measured, and what is wrong with it."""

    table: int
    dataset: str
    model: str
    metric: str
    value: float
    protocol: str
    marks: tuple[str, ...]


def impossible_metrics(values: dict[str, float]) -> set[str]:
    """Metrics that contradict each other by order: each one of a pair that cannot both be right."""
    pairs = [("HR@5", "HR@10"), ("NDCG@5", "NDCG@10"), ("NDCG@5", "HR@5"), ("NDCG@10", "HR@10")]
    return {metric for low, high in pairs if values[low] > values[high] for metric in (low, high)}


def inconsistent_metrics(values: dict[str, float]) -> set[str]:
    """Metrics for which no ranks exist although their order is right: see the bounds at the top."""
    hit_gain, ndcg_gain = values["HR@10"] - values["HR@5"], values["NDCG@10"] - values["NDCG@5"]
    marked: set[str] = set()
    if not within(values["NDCG@5"], values["HR@5"], 6, 2):
        marked |= {"HR@5", "NDCG@5"}
    if not within(ndcg_gain, hit_gain, 11, 7):
        marked |= set(METRICS)
    return marked


def within(ndcg: float, hits: float, worst: int, best: int) -> bool:
    """Whether `hits` users can contribute `ndcg` when each adds 1/log2(worst) to 1/log2(best), up to rounding."""
    low, high = (hits - ROUNDING) / math.log2(worst), (hits + ROUNDING) / math.log2(best)
    return low - ROUNDING - 1e-12 <= ndcg <= high + ROUNDING + 1e-12


def uses_user_ids(table: int, model: str) -> bool:
    """Whether a row's prompts hold user IDs; Table 6 names the one that does not."""
    return model == AUTHORS_MODEL or (table == 6 and model != "Item ID")


def cells(tables: Iterable[int] = (4, 6, 7)) -> list[Cell]:
    """Every cell of the given tables of the paper, in the printed order, with its protocol and marks."""
    printed_cells: list[Cell] = []
    for table in tables:
        for dataset, models in TABLES[table].items():
            for model, printed in models.items():
                values = {metric: value / 10_000 for metric, value in zip(METRICS, printed, strict=True)}
                impossible = impossible_metrics(values)
                inconsistent = inconsistent_metrics(values) if not impossible else set()
                user_ids = uses_user_ids(table, model)
                authors_run = table != 4 or model == AUTHORS_MODEL
                by_id = authors_run and dataset in SORTED_BY_ID
                protocol = "all items, leave-one-out" + (", user IDs see the target" if user_ids else "")
                protocol += ", order as released (by item id)" if by_id else ""
                for metric, value in values.items():
                    rules = [
                        ("impossible", metric in impossible),
                        ("inconsistent", metric in inconsistent),
                        ("leaky", user_ids),
                        ("by item id", by_id),
                    ]
                    marks = tuple(mark for mark, holds in rules if holds)
                    printed_cells.append(Cell(table, dataset, model, metric, value, protocol, marks))
    return printed_cells
