"""RecBole's atomic files, and CSV's and TSV's two paths: whole tables and line by line."""

import string

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_files import read, write

from shards.readers import delimited
from shards.readers.delimited import Columns
from shards.readers.events import EVENT_SCHEMA, parse_lines
from shards.readers.folder import detect
from shards.readers.lines import Batch
from shards.readers.rejects import Rejects

INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
ITEM = "item_id:token\tmovie_title:token_seq\tclass:token_seq"


def recbole(folder, inter, item=(ITEM, "242\tKolya\tComedy Drama")):
    write(folder, "ml.inter", list(inter))
    return write(folder, "ml.item", list(item))


def test_interactions_and_items(tmp_path):
    items = [ITEM, "242\tKolya &amp; Co; new\tComedy Drama", "302\t\tNA"]
    folder = recbole(tmp_path / "ml", [INTER, "196\t242\t3\t881250949", "186\t302\t3.5\t891717742.0"], items)
    assert detect(folder).format == "recbole"
    events, texts, rejects = read(folder)
    assert events.rows() == [("196", "242", 3.0, 881250949000), ("186", "302", 3.5, 891717742000)] and rejects == []
    assert texts.rows() == [
        ("242", "movie_title: kolya & co, new; class: comedy drama"),
        ("302", "movie_title: na; class: na"),
    ]


def test_columns_in_any_order_and_others_beside_them(tmp_path):
    header = "timestamp:float\titem_id:token\tsession:token\tuser_id:token\trating:float"
    assert read(recbole(tmp_path / "ml", [header, "5\ti1\ts\tu1\t2"]))[0].rows() == [("u1", "i1", 2.0, 5000)]


@pytest.mark.parametrize(
    "header",
    [
        "user_id:token\titem_id_list:token_seq\titem_id:token",
        "user_id:token\titem_id:token\ttimestamp_list:float_seq\ttimestamp:float",
        "user_id:token\titem_id:token_seq",
        "item_id:token\tuser_id:token\ttimestamp:float_seq",
    ],
)
def test_columns_that_hold_lists_are_refused(tmp_path, header):
    line = "\t".join("1 2 3" if name.endswith("_seq") else "7" for name in header.split("\t"))
    with pytest.raises(ValueError, match=r"ml.inter:1: \w+:\w+_seq holds lists, so a line is no interaction"):
        read(recbole(tmp_path / "ml", [header, line]))


def test_words_of_a_review_are_no_list(tmp_path):
    header = "user_id:token\titem_id:token\treview:token_seq"
    assert read(recbole(tmp_path / "ml", [header, "u1\ti1\tvery good"]))[0].rows() == [("u1", "i1", None, 2)]


def test_without_rating_and_timestamp_the_lines_are_in_order(tmp_path):
    lines = ["user_id:token\titem_id:token", "u1\ti1", "", "u1\ti2", "bad", "u2\ti1"]
    events, _, rejects = read(recbole(tmp_path / "ml", lines))
    assert events.rows() == [("u1", "i1", None, 2), ("u1", "i2", None, 4), ("u2", "i1", None, 6)]
    assert rejects == [("ml.inter", 5, "1 field(s) instead of 2")]
    # The same line numbers where nothing asks for the exact path.
    assert read(recbole(tmp_path / "ml", [lines[0], *lines[1:2], lines[3]]))[0]["time"].to_list() == [2, 3]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("u1\ti1\t3", "3 field(s) instead of 4"),
        ("u1\ti\t1\t3\t5", "5 field(s) instead of 4"),
        ("\ti1\t3\t5", "user_id is missing"),
        ("u1\t\t3\t5", "item_id is missing"),
        ("\t\t\t", "user_id is missing"),
        ("u 1\ti1\t3\t5", "user_id holds spaces or control characters"),
        ("u1\ti\x001\t3\t5", "item_id holds spaces or control characters"),
        ("u1\t" + "i" * 257 + "\t3\t5", "item_id is longer than 256 bytes"),
        ("u1\ti1\tgood\t5", "rating is missing or not a number"),
        ("u1\ti1\tnan\t5", "rating is missing or not a number"),
        ("u1\ti1\t1e999\t5", "rating is not finite"),
        ("u1\ti1\t1_0\t5", "rating is missing or not a number"),
        ("u1\ti1\t٣\t5", "rating is missing or not a number"),
        ("u1\ti1\t3\t", "time is missing or not a number"),
        ("u1\ti1\t3\t2019-01-01", "time is missing or not a number"),
        ("u1\ti1\t3\t-5", "time is outside 1970 to 2100 (it should be in seconds)"),
        ("u1\ti1\t3\t1588687728923", "time is outside 1970 to 2100 (it should be in seconds)"),
        (b"u1\ti\xff\t3\t5", "not UTF-8"),
    ],
)
def test_a_malformed_line_is_rejected_with_its_number(tmp_path, line, reason):
    events, _, rejects = read(recbole(tmp_path / "ml", [INTER, "u1\ti1\t3\t5", line, "u2\ti1\t\t6"]))
    assert events.rows() == [("u1", "i1", 3.0, 5000), ("u2", "i1", None, 6000)]
    assert rejects == [("ml.inter", 3, reason)]


def test_items_with_a_tab_too_many_are_rejected(tmp_path):
    items = [ITEM, "1\ttitle\tclass", "2\tti\ttle\tclass", "3\ttitle", "\ttitle\tclass", b"4\tt\xff\tclass", "5\ta\tb"]
    _, texts, rejects = read(recbole(tmp_path / "ml", [INTER, "u1\ti1\t3\t5"], items))
    assert texts["item"].to_list() == ["1", "5"]
    assert [(line, reason) for _, line, reason in rejects] == [
        (3, "4 field(s) instead of 3"),
        (4, "2 field(s) instead of 3"),
        (5, "item_id is missing"),
        (6, "not UTF-8"),
    ]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("u1\ti1\t3\t5", r"ml.inter:1: the header is .*; it must name each column once, with user_id, item_id"),
        ("user_id:token\tuser_id:token\titem_id:token", r"must name each column once"),
        ("user_id:token,item_id:token", r"ml.inter:1: the header is 'user_id:token,item_id:token'"),
        (b"\xff\xfeu\x00s\x00", r"ml.inter is UTF-16"),
    ],
)
def test_a_header_that_names_no_users_is_refused(tmp_path, header, message):
    with pytest.raises(ValueError, match=message) as error:
        read(recbole(tmp_path / "ml", [header, "u1\ti1\t3\t5"]))
    assert "\n" not in str(error.value)


def test_a_header_alone_and_blank_lines_before_it(tmp_path):
    events, texts, _ = read(recbole(tmp_path / "ml", ["", " ", INTER], [ITEM]))
    assert events.height == texts.height == 0
    assert read(recbole(tmp_path / "ml", ["", " ", "", INTER, "u\ti\t1\t1"]))[0].height == 1


CELLS = st.one_of(
    st.text(string.ascii_letters + string.digits, min_size=1, max_size=4),
    st.sampled_from(
        ["", "5", "5.0", "+5", "-5", "05", "1e3", "1e999", ".5", "5.", "nan", "NA", '"q"', '"', "#x", "5\r"]
    ),
    st.sampled_from(["1391040000", "1391040000.0", "4102444800", "4102444801", "9" * 15, "9" * 19, "9" * 400]),
    st.decimals(0, 10**9, places=3).map(str),
    st.text(max_size=3),
)
TSV = Columns(("user_id", "more", "item_id", "rating", "timestamp"), "\t", "user_id", "item_id", "rating", "timestamp")
CSV = Columns(("item", "user", "rating", "timestamp"), ",", "user", "item", "rating", "timestamp", "milliseconds")
BARE = Columns(("user_id", "item_id", "more"), "\t", "user_id", "item_id", None, None)


@st.composite
def rows_of(draw, columns):
    word = st.text(string.ascii_letters + string.digits, min_size=1, max_size=4)
    good = {
        columns.rating: st.sampled_from(["1", "5", "4.5", "0.1", "3.25"]),
        columns.time: st.integers(0, 4_102_444_800).map(str),
    }
    values = [draw(good.get(name, word)) for name in columns.names]
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        values[draw(st.integers(0, len(values) - 1))] = draw(CELLS)
    if draw(st.integers(0, 15)) == 0:
        values = values[: draw(st.integers(0, len(values)))]
    end = "\r" if draw(st.integers(0, 7)) == 0 else ""
    return (columns.separator.join(values) + end).encode("utf-8", errors="surrogatepass")


@pytest.mark.parametrize("columns", [TSV, CSV, BARE], ids=["tsv", "csv", "bare"])
def test_the_fast_path_and_the_exact_path_agree(columns, tmp_path_factory):
    path = tmp_path_factory.mktemp("rejects") / "ml.inter"
    taken = []

    @settings(max_examples=400, database=None, derandomize=True)
    @given(st.lists(rows_of(columns), min_size=1, max_size=3))
    def agree(lines):
        batch = Batch(3, b"\n".join(lines) + b"\n")
        fast = delimited.fast_events(batch, columns)
        if fast is not None:
            with Rejects(path, 1.0) as rejects:
                exact = parse_lines(batch, path, rejects, EVENT_SCHEMA, delimited.exact_event(columns))
            taken.append(fast.height)
            assert fast.equals(exact, null_equal=True) and fast.schema == pl.Schema(EVENT_SCHEMA), batch.data

    agree()
    assert sum(taken) > 50  # the property is about lines that the fast path takes
