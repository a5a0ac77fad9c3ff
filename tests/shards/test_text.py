import pytest

from shards.text import DESCRIPTION_WORDS, FIELD_CHARACTERS, field_values, item_text


def text(value, field="title"):
    return item_text({field: value}).removeprefix(f"{field}: ")


def test_the_layout_is_that_of_the_reference():
    fields = {
        "title": "Xtreme Brite Brightening Gel 1oz.",
        "brand": "Xtreme Brite",
        "categories": [["Beauty", "Hair Care"], ["Beauty", "Styling Products"]],
        "description": None,
    }
    assert item_text(fields) == (
        "title: xtreme brite brightening gel 1oz.; brand: xtreme brite; "
        "categories: beauty, hair care, styling products; description: na"
    )


@pytest.mark.parametrize(
    "missing",
    [
        *(None, "", "  ", "N/A", "nan", "None", "null", [], [[]], [None, ""], {}, True, {"a": 1}),
        *("-", " -- ", "—", "?", "...", "*", "N/A ", "&ndash;", "<b>-</b>", ["-", "--"], "❤"),
    ],
)
def test_missing_values_read_na(missing):
    assert text(missing) == "na" and text(missing, "description") == "na"


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("Tom &amp; Jerry", "tom & jerry"),
        ("Tom &amp;amp; Jerry", "tom & jerry"),
        ("caf&eacute; &#233; &#xe9;", "café é é"),
        ("a;b; c", "a,b, c"),
        ("one\t two\r\n\x00three\x1f \x85four", "one two three four"),
        ("zero\u200bwidth\ufeff so\u00adft", "zerowidth soft"),
        ("half \ud83d of a pair", "half of a pair"),
        ('<b>Bold</b> <br/>new <span class="x">line</span>', "bold new line"),
        ("&lt;b&gt;hidden&lt;/b&gt; tags", "hidden tags"),
        ("before <script>var a = 1 < 2;</script> after", "before after"),
        ("cut <style>.a{color:red}", "cut"),
        ("cut <span class='a-size", "cut"),
        ("<!-- a comment --> kept", "kept"),
        ("i <3 you, 1 < 2 > 0", "i <3 you, 1 < 2 > 0"),
        ("ÉCLAIR Straße", "éclair straße"),
        ("日本 語", "日本 語"),
        ("-5", "-5"),
        ("c++", "c++"),
        (["Tea", "-", "Green"], "tea, green"),
        ("var aPageStart = (new Date()).getTime();\nvar ue_t0=1", "na"),
        (12, "12"),
        (9.99, "9.99"),
        (3.0, "3"),
        (float("nan"), "na"),
    ],
)
def test_one_value(raw, clean):
    assert text(raw) == clean


def test_numbers_that_python_refuses_to_read_or_write():
    digits = "9" * 5000
    assert text(f"&#{digits}; huge") == text(f"&amp;#{digits}; huge") == "huge"
    assert text(10**5000) == "na"


def test_lists_are_flattened_in_order_without_repeats():
    nested = ["Toys", ["Games", ["toys", "<b>Games</b>"], "Puzzles & more"], ("Dolls",), ""]
    assert text(nested, "categories") == "toys, games, puzzles & more, dolls"


def test_a_list_nested_ten_thousand_times_is_read():
    nested = ["deep"]
    for _ in range(10_000):
        nested = [nested]
    assert text(nested, "categories") == "deep"


def test_descriptions_are_joined_by_spaces_and_stop_at_the_limit():
    assert text(["First part.", "Second part."], "description") == "first part. second part."
    words = [f"w{n}" for n in range(200)]
    assert text([" ".join(words)], "description").split() == words[:DESCRIPTION_WORDS]
    assert text(" ".join(words[:100])).split() == words[:100]


def test_no_field_grows_without_bound():
    for field in ("title", "description", "categories"):
        assert len(text("x" * 5_000_000, field)) == FIELD_CHARACTERS
        assert len(text([f"w{n}" for n in range(100_000)], field)) <= FIELD_CHARACTERS
    assert text("<script " * 100_000) == "na"


def test_the_values_of_a_text_are_those_that_say_something():
    assert field_values("title: red ball; brand: na; categories: toys, balls") == ["red ball", "toys, balls"]
    assert field_values("no fields at all") == ["no fields at all"]
    assert field_values("title: na; ") == []
