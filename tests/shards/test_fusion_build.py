"""The paper's whole data in miniature: 19 categories and six unseen sets from raw-schema files to tars."""

import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from miniatures import amazon_2014, yelp

from shards.build.build import add, build
from shards.config import AddConfig, BuildConfig
from shards.inspect.statistics import inspect_lines
from shards.inspect.verify import verify
from shards.manifest import Manifest
from shards.registry import paper_rows
from shards.stream.stream import Stream
from shards.tables import load_holdout, load_items

USERS, ITEMS, LENGTH = 30, 24, 8


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    """Raw folders of all 25 data sets: (train, test)."""
    raw = tmp_path_factory.mktemp("paper")
    folders = {"train": [], "test": []}
    for row in paper_rows():
        folder = yelp(raw) if row.category == "Yelp" else amazon_2014(raw, row, users=USERS, items=ITEMS, length=LENGTH)
        folders[row.role].append(str(folder))
    return folders


def config(paper, out, **changes):
    settings: dict[str, Any] = {
        "lanes": 4,
        "records_per_tar": 8,
        "vocab_size": 300,
        "max_users": 25,
        "k_core": 2,
    } | changes
    return BuildConfig(out=str(out), train=tuple(paper["train"]), test=tuple(paper["test"]), **settings)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def fusion(paper, tmp_path_factory):
    out = tmp_path_factory.mktemp("fusion") / "shards"
    lines = []
    return out, build(config(paper, out), lines.append), lines


def test_all_25_data_sets_arrive(fusion):
    folder, manifest, _ = fusion
    assert verify(folder) == manifest
    assert len(manifest.train_members) == 19 and len(manifest.test_members) == 6
    for member in manifest.train_members:
        facts = member.cleaning
        assert facts["interactions_read"] == USERS * LENGTH
        assert facts["overlap_removed"] == LENGTH, "the one user whom the test sets have too"
        assert facts["users_before_sampling"] == USERS - 1 and member.num_users == 25, "the cap"
        assert member.source == "amazon-2014" and member.tars
    offsets = [member.row_offset for member in manifest.train_members]
    assert offsets == [sum(m.num_items for m in manifest.train_members[:n]) for n in range(19)]
    items = load_items(folder, manifest)
    assert len(set(items.items)) == len(items) == manifest.num_items, "ids are in the name space of their data set"
    assert all(
        item.startswith(f"{name}/") for name, (start, stop) in items.members.items() for item in items.items[start:stop]
    )
    assert "&amp;" not in items.texts[0] and items.texts[0].startswith("title: ") and "& more" in items.texts[0]


def test_every_history_is_in_the_order_of_time(paper, fusion):
    import gzip
    import json

    folder, manifest, _ = fusion
    name = manifest.train_members[3].name
    reviews = next(Path(paper["train"][3]).glob("reviews_*"))
    when = {}
    for line in gzip.decompress(reviews.read_bytes()).decode().splitlines():
        review = json.loads(line)
        when[review["reviewerID"], review["asin"]] = review["unixReviewTime"]
    items = load_items(folder, manifest, name)
    holdout = load_holdout(folder, name)
    assert len(holdout) == 25
    for n, user in enumerate(holdout.users):
        rows = [*holdout.histories[n].tolist(), int(holdout.valid[n]), int(holdout.test[n])]
        times = [when[user, items.items[row].removeprefix(f"{name}/")] for row in rows]
        assert len(times) == LENGTH and times == sorted(times)


def test_yelp_is_the_papers_year_and_its_overlap_cannot_be_checked(fusion):
    _, manifest, lines = fusion
    yelp_member = manifest.member("Yelp")
    assert yelp_member.cleaning["outside_dates"] == USERS * LENGTH // 10
    pairs = {(pair["train"], pair["test"]): pair for pair in manifest.overlap}
    assert len(pairs) == 19 * 6
    for train in manifest.train_members:
        amazon, other = pairs[train.name, "Beauty"], pairs[train.name, "Yelp"]
        assert (amazon["users_by"], amazon["users"], amazon["users_dropped"]) == ("id", 1, True)
        assert (amazon["items_by"], amazon["items"]) == ("id", 0)
        assert (other["users_by"], other["users"]) == ("cannot be checked", None)
        assert other["items_by"] in ("text", "cannot be checked")
    assert any("users cannot be checked" in line for line in lines)


def test_the_stream_reads_it(fusion):
    folder, manifest, _ = fusion
    stream = Stream(folder, manifest, seed=0)
    samples = [sample for _, batch in stream.batches(stream.start(), 64) for sample in batch if sample is not None]
    assert len(samples) == manifest.num_samples == 19 * 25 * (LENGTH - 3)
    assert len({(sample.key, sample.prefix_end) for sample in samples}) == len(samples)


def test_inspection_names_every_row_of_the_paper(fusion):
    printed = "\n".join(inspect_lines(fusion[1]))
    assert all(row.category in printed for row in paper_rows()) and "183,918" in printed


def test_the_card_says_what_a_person_wants_to_know(fusion):
    folder, manifest, _ = fusion
    card = (folder / "README.md").read_text()
    for word in ("Books", "Yelp", "research", "leave-one-out", "cannot be checked", "sha", "25 of 29", "dropped from"):
        assert word.lower() in card.lower(), word
    assert all(f"{member.num_interactions:,}" in card for member in manifest.members)


def test_tar_reads_them(fusion):
    folder, manifest, _ = fusion
    with tarfile.open(folder / manifest.train_members[0].tars[0].file) as archive:
        assert archive.getnames()[0].startswith("Patio/") and archive.getnames()[0].endswith(".json")


@pytest.mark.processes
def test_bytes_do_not_depend_on_processes(paper, fusion, tmp_path):
    build(config(paper, tmp_path / "out", workers=3, memory_gb=3.0))
    assert contents(tmp_path / "out") == contents(fusion[0])


SCRIPT = """
import dataclasses, json, os, signal, sys
from shards.build import stages
from shards.build.build import build
from shards.config import BuildConfig

def killed(folder, stage):
    def work(*arguments):
        value = stage.function(*arguments)
        if stage.name == sys.argv[2]:
            os.kill(os.getpid(), signal.SIGKILL)
        return value
    return run(folder, dataclasses.replace(stage, function=work))

run, stages._run = stages._run, killed
if __name__ == "__main__":
    value = {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(sys.argv[1]).items()}
    build(BuildConfig(**value))
"""


@pytest.mark.processes
@pytest.mark.parametrize("stop", ["clean.Toys", "tars.Home.0"])
def test_a_killed_build_goes_on_where_it_was(paper, fusion, tmp_path, stop):
    import dataclasses
    import json

    out = tmp_path / "out"
    wanted = config(paper, out, workers=1)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    value = json.dumps(dataclasses.asdict(wanted))
    ended = subprocess.run([sys.executable, str(script), value, stop], stdout=subprocess.DEVNULL, check=False)
    assert ended.returncode == -signal.SIGKILL, "before the stage has a result"
    work = tmp_path / ".out.building"
    assert (work / "stages" / stop).is_dir()
    assert not out.exists(), "nothing looks finished"
    done = {path: path.stat().st_mtime_ns for path in work.glob("stages/*/result.json")}
    assert done
    lines = []
    seen = {}

    def progress(line):
        lines.append(line)
        seen.update({path: path.stat().st_mtime_ns for path in done if path.exists()})

    build(wanted, progress)
    assert "going on with the build that was stopped" in lines[0]
    assert seen == done, "finished stages were not run again"
    assert contents(out) == contents(fusion[0]) and not work.exists()


@pytest.fixture(scope="module")
def few(paper):
    """Three categories and one unseen set."""
    return {"train": paper["train"][:3], "test": paper["test"][:1]}


def test_other_settings_start_anew(few, tmp_path):
    broken = config(few, tmp_path / "out", tokenizer=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="nowhere"):
        build(broken)
    assert (tmp_path / ".out.building").is_dir() and not (tmp_path / "out").exists()
    lines = []
    build(config(few, tmp_path / "out"), lines.append)
    assert "going on" not in lines[0] and not (tmp_path / ".out.building").exists()


def test_two_builds_of_one_folder_are_refused(few, tmp_path):
    wanted, refused = config(few, tmp_path / "out"), []

    def meanwhile(line):
        if not wanted_is_there():
            with pytest.raises(ValueError, match="another process is building"):
                build(wanted)
            refused.append(line)

    def wanted_is_there():
        return (tmp_path / "out").exists()

    build(wanted, meanwhile)
    assert len(refused) > 8 and wanted_is_there()


def test_data_sets_are_added_without_rewriting(paper, few, tmp_path, monkeypatch):
    folder = tmp_path / "shards"
    before = build(config(few, folder))
    files = {file: (body, (folder / file).stat().st_mtime_ns) for file, body in contents(folder).items()}
    wanted = AddConfig(to=str(folder), train=tuple(paper["train"][3:5]), test=(paper["test"][-1],))
    with monkeypatch.context() as killed:
        killed.setattr(Manifest, "save", lambda self, folder: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            add(wanted)
    assert Manifest.load(folder) == before == verify(folder), "until the manifest is there, the folder is the old one"
    after = add(wanted)
    assert verify(folder) == after and Manifest.load(folder) == after
    assert after.members[: len(before.members)] == before.members
    assert [member.role for member in after.members[len(before.members) :]] == ["train", "train", "test"]
    for file, (body, written) in files.items():
        if file.name not in ("manifest.json", "README.md"):
            assert (folder / file).read_bytes() == body and (folder / file).stat().st_mtime_ns == written
    totals = [0] * after.lanes
    for member in after.train_members:
        for tar in member.tars:
            totals[tar.lane] += tar.samples
    assert max(totals) - min(totals) < LENGTH, "the lanes stay level"
    pairs = {(pair["train"], pair["test"]): pair for pair in after.overlap}
    names = [member.name for member in after.train_members]
    assert set(pairs) == {(train, test.name) for train in names for test in after.test_members}
    assert pairs[names[-1], Path(few["test"][0]).name]["users_dropped"], "a new category is kept apart from old tests"
    stream = Stream(folder, after, seed=0)
    count = sum(sample is not None for _, batch in stream.batches(stream.start(), 64) for sample in batch)
    assert count == after.num_samples == before.num_samples + 2 * 25 * (LENGTH - 3)
    with pytest.raises(ValueError, match="already"):
        add(AddConfig(to=str(folder), train=(paper["train"][0],)))
