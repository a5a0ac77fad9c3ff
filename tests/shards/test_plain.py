import gzip

import pytest
from raw_folders import write_raw

from shards.readers.plain import read_plain

TEXTS = "a title: one\nb title: two\nc title: three\nd title: four\n"
SEQUENCES = "u1 a b c\nu2 c b a b\n"


def test_reads_users_items_and_hashes(tmp_path):
    data = read_plain(write_raw(tmp_path / "Shop", SEQUENCES, TEXTS))
    assert data.name == "Shop" and data.source == "plain"
    assert data.interactions.rows()[3:] == [("u2", "c", 0), ("u2", "b", 1), ("u2", "a", 2), ("u2", "b", 3)]
    assert data.items.rows()[2] == ("c", "title: three")
    assert sorted(data.inputs) == ["item_plain_text.txt", "user_sequence.txt"]


def test_gzip_reads_the_same(tmp_path):
    plain = read_plain(write_raw(tmp_path / "Shop", SEQUENCES, TEXTS))
    folder = tmp_path / "packed" / "Shop"
    folder.mkdir(parents=True)
    (folder / "user_sequence.txt.gz").write_bytes(gzip.compress(SEQUENCES.encode()))
    (folder / "item_plain_text.txt.gz").write_bytes(gzip.compress(TEXTS.encode()))
    packed = read_plain(folder)
    assert packed.interactions.equals(plain.interactions) and packed.items.equals(plain.items)


def test_a_sample_of_users_is_seeded_whole_and_in_order(tmp_path):
    lines = [f"u{n} " + " ".join("abcd"[(n + k) % 4] for k in range(3)) for n in range(50)]
    folder = write_raw(tmp_path / "Shop", "\n".join(lines), TEXTS)

    def sample(seed):
        return read_plain(folder, max_users=10, seed=seed).interactions

    users = sample(0)["user"].unique(maintain_order=True).to_list()
    assert len(users) == 10 and users == sorted(users, key=lambda user: int(user[1:]))
    assert sample(0).equals(sample(0)) and not sample(0).equals(sample(1))
    assert sample(0).height == 30


def test_items_nobody_touched_go_unless_all_are_kept(tmp_path):
    folder = write_raw(tmp_path / "Shop", SEQUENCES, TEXTS)
    assert read_plain(folder, keep_all_items=True).items["item"].to_list() == ["a", "b", "c", "d"]
    assert read_plain(folder, keep_all_items=False).items["item"].to_list() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("sequences", "texts", "message"),
    [
        (
            SEQUENCES,
            TEXTS.replace("two", "two\nb title: again"),
            r"item_plain_text.txt:3: item 'b' occurs a second time",
        ),
        (SEQUENCES, TEXTS.replace(" title: two", " "), r"item_plain_text.txt:2: item 'b' has no text"),
        (SEQUENCES + "u1 a b c\n", TEXTS, r"user_sequence.txt:3: user 'u1' occurs a second time"),
        ("u1 a b c\nu2 a x b\n", TEXTS, r"user_sequence.txt:2: item 'x' has no text"),
        ("u1 a b\n", TEXTS, r"user_sequence.txt:1: user 'u1' has 2 item\(s\); leave-one-out needs 3"),
        ("\n", TEXTS, r"user_sequence.txt: no users"),
        ("u1 a a a\n", "a title: one\n", r"item_plain_text.txt: a catalogue of 1 item"),
    ],
)
def test_errors_name_file_and_line(tmp_path, sequences, texts, message):
    folder = write_raw(tmp_path / "Shop", sequences, texts)
    with pytest.raises(ValueError, match=message) as error:
        read_plain(folder)
    assert "\n" not in str(error.value)


def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        read_plain(tmp_path / "nowhere")
    folder = write_raw(tmp_path / "Shop", SEQUENCES, TEXTS)
    (folder / "user_sequence.txt").write_bytes(b"u1 a b c\nu2 a b \xff\n")
    with pytest.raises(ValueError, match=r"user_sequence.txt:2: not UTF-8"):
        read_plain(folder)
    (folder / "user_sequence.txt").unlink()
    with pytest.raises(ValueError, match=r"user_sequence.txt is missing"):
        read_plain(folder)
    (folder / "user_sequence.txt.gz").write_bytes(gzip.compress(SEQUENCES.encode())[:-9])
    with pytest.raises(ValueError, match=r"user_sequence.txt.gz cannot be read"):
        read_plain(folder)
    (folder / "user_sequence.txt").write_text(SEQUENCES)
    with pytest.raises(ValueError, match="holds both"):
        read_plain(folder)
