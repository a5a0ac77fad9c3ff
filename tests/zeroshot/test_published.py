"""The paper's tables: marks come from rules."""

from zeroshot.report import published_tables


def marked(mark: str) -> set[tuple[int, str, str, str]]:
    return {
        (cell.table, cell.dataset, cell.model, cell.metric) for cell in published_tables.cells() if mark in cell.marks
    }


def test_impossible_cells_are_found_by_rule() -> None:
    beauty = {(6, "Beauty", "User ID", metric) for metric in published_tables.METRICS}
    assert marked("impossible") == beauty | {(4, "Beauty", "P5-CID", "NDCG@5"), (4, "Beauty", "P5-CID", "NDCG@10")}


def test_the_gain_rule_accepts_real_ranks_and_refuses_what_no_ranks_give() -> None:
    possible = {"HR@5": 0.5, "NDCG@5": 0.3155, "HR@10": 0.75, "NDCG@10": 0.4046}  # ranks 2, 7, 8 and a miss, in turns
    assert not published_tables.inconsistent_metrics(possible | {"HR@5": 0.5})
    assert published_tables.inconsistent_metrics(possible | {"NDCG@10": 0.5})
    found = {row[:3] for row in marked("inconsistent")}
    assert (4, "Yelp", "Bert4Rec") in found
    assert not any(table == 7 for table, _, _ in found)


def test_tables_have_all_columns_and_printed_values() -> None:
    cells = published_tables.cells([4, 7])
    assert len(cells) == 4 * 11 * 4 + 6 * 2 * 4
    values = {(cell.table, cell.dataset, cell.model, cell.metric): cell.value for cell in cells}
    assert values[7, "Music", "UniSRec", "HR@10"] == 0.0294
    assert values[4, "Yelp", "IDGenRec", "NDCG@10"] == 0.0404


def test_leaks_and_order_are_marked_where_the_released_code_has_them() -> None:
    assert all(model in ("IDGenRec", "User ID", "User & Item ID") for _, _, model, _ in marked("leaky"))
    assert {dataset for _, dataset, _, _ in marked("by item id")} == {"Sports", "Toys"}
    assert (4, "Sports", "SASRec", "HR@10") not in marked("by item id")
    protocols = {cell.protocol for cell in published_tables.cells([7]) if cell.dataset == "Yelp"}
    assert protocols == {"all items, leave-one-out", "all items, leave-one-out, user IDs see the target"}
