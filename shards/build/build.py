"""The build: folders of raw data in, one shard folder out, in one call.

Enters a `BuildConfig`; leaves the folder of docs/contracts.md and its `Manifest`. It must hold that the folder appears
whole or not at all, that a build that was killed goes on where it was, that the same input gives the same bytes
whatever the number of processes, and that a tokenizer trained here sees the item text of train categories only.

Data fall through five stages: ingest (any format to Parquet) -> clean (order, k-core) -> catalogue (which users, which
rows) -> write (tables, tars) -> manifest and card. Test sets are cleaned first: what they hold is kept out of training.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from shards.build import card, catalogue, data_set, members
from shards.build.data_set import DataSet
from shards.build.ingest import REJECTS
from shards.build.overlap import Ids, Overlap
from shards.build.stages import RESULT, Advance, Stage, Stages, no_advance
from shards.build.write import deal
from shards.config import AddConfig, BuildConfig
from shards.files.atomic import locked, write_whole
from shards.files.database import Resources
from shards.manifest import TOKENIZER_FOLDER, Manifest, TokenizerInfo
from shards.workers import cores

Progress = Callable[[str], None]
PLAN = "plan.json"


def build(config: BuildConfig, progress: Progress = lambda line: None, advance: Advance = no_advance) -> Manifest:
    """Builds the shard folder `config.out`. ValueError when it exists or an input is wrong; nothing is left there then.

    What is under way stands in `.<out>.building` beside it; the same call goes on with that.
    """
    out = Path(config.out)
    if out.exists():
        raise ValueError(f"{out} exists already; remove it or name another output folder")
    with _workshop(out, config, progress) as work:
        manifest = _fill(config, None, work, progress, advance)
        if config.train and not manifest.num_samples:
            raise ValueError(
                "no user of the train categories has four items, so there is no training sample; add users"
            )
        manifest.save(work / "out")
        write_whole(work / "out" / card.FILE, card.data_card(manifest))
        (work / "out").rename(out)
    progress(f"{out}: {manifest.num_items:,} items, {manifest.num_samples:,} samples in {manifest.lanes} lanes")
    return manifest


def add(config: AddConfig, progress: Progress = lambda line: None, advance: Advance = no_advance) -> Manifest:
    """Adds data sets to the shard folder `config.to` by the rules it was built with; no other file is rewritten.

    New train categories stand behind the present rows. The manifest is replaced last: until then the folder is the old
    one. ValueError as in `build`, and when a name is taken.
    """
    folder = Path(config.to)
    base = Manifest.load(folder)
    # A total was shared out among the old categories; a new one gives what its cap allows.
    rules = {**base.rules, "total_users": None, "mixture": "proportional"}
    wanted = BuildConfig(
        **rules,
        train=config.train, test=config.test, out=config.to, tokenizer=str(folder / TOKENIZER_FOLDER),
        lanes=base.lanes, shuffle_tars=base.shuffle_tars, seed=base.seed,
        workers=config.workers, memory_gb=config.memory_gb,
    )  # fmt: skip
    taken = {member.name for member in base.members} & {Path(path).resolve().name for _, path in wanted.folders}
    if taken:
        raise ValueError(f"{folder} has {', '.join(sorted(taken))} already; rename the folder of the new data set")
    with _workshop(folder, wanted, progress) as work:
        manifest = _fill(wanted, base, work, progress, advance)
        for member in manifest.members[len(base.members) :]:
            _link(work / "out" / member.name, folder / member.name)
        manifest.save(folder)
        write_whole(folder / card.FILE, card.data_card(manifest))
    progress(f"{folder}: {manifest.num_items:,} items, {manifest.num_samples:,} samples in {manifest.lanes} lanes")
    return manifest


def _link(source: Path, target: Path) -> None:
    """`source` under the name `target` too: what was built stays in its place, should this be killed half-way."""
    fresh = target.with_name(f".{target.name}")
    for path in (fresh, target):
        shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(source, fresh, copy_function=os.link)
    fresh.rename(target)


@contextmanager
def _workshop(out: Path, config: BuildConfig, progress: Progress) -> Iterator[Path]:
    """The folder of a build under way: of this very build, or empty; removed when all is done."""
    work = out.absolute().with_name(f".{out.name}.building")
    work.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        try:
            held.enter_context(locked(work / "lock", wait=False))
        except BlockingIOError as error:
            raise ValueError(
                f"another process is building {out}; wait for it, or name another output folder"
            ) from error
        plan, plan_file = _plan(config), work / PLAN
        if plan_file.is_file() and plan_file.read_text() == plan:
            progress(f"going on with the build that was stopped in {work}")
        else:
            for path in work.iterdir():
                if path.name != "lock":
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            write_whole(plan_file, plan)
        try:
            yield work
        except ValueError:
            # Nothing to go on with and nothing to look at.
            if not [*work.glob(f"stages/*/{RESULT}"), *work.glob(f"stages/*/{REJECTS}")]:
                shutil.rmtree(work)
            raise
        shutil.rmtree(work)


def _plan(config: BuildConfig) -> str:
    """What decides the bytes: the configuration without processes and memory, and the raw files as they stand."""
    value = asdict(replace(config, workers=1, memory_gb=4.0))
    inputs = [
        [str(path), path.stat().st_size, path.stat().st_mtime_ns]
        for folder in (*config.train, *config.test, *([config.tokenizer] if config.tokenizer else []))
        for path in sorted(Path(folder).resolve().glob("*"))
        if path.is_file()
    ]
    return json.dumps({"config": value, "inputs": inputs, "code": members.code()}, sort_keys=True, indent=1)


def _fill(config: BuildConfig, base: Manifest | None, work: Path, progress: Progress, advance: Advance) -> Manifest:
    """Runs all stages into `work/out`; returns the manifest of the base and the new members together."""
    (work / "out").mkdir(exist_ok=True)
    resources = Resources(config.memory_gb / config.workers, max(1, cores() // config.workers))
    with Stages(work / "stages", config.workers, advance) as stages:
        sets = [DataSet(Path(folder).resolve().name, role, folder, config) for role, folder in config.folders]
        train = [data for data in sets if data.role == "train"]
        test = [data for data in sets if data.role == "test"]
        facts: dict[str, dict[str, Any]] = {data.name: {} for data in sets}
        # Read, cleaned, selected, tables; of a train category also the audit and, mostly, one piece of tars.
        stages.expect(4 * len(sets) + 2 * len(train) + 1)

        def note(stage: Stage, result: dict[str, Any]) -> None:
            facts[stage.name.split(".")[1]] |= result
            progress(data_set.line(stage.name, result))

        stages.run([data.ingest() for data in sets], note)
        stages.run([data.clean(stages, facts[data.name], (), resources) for data in test], note)
        stages.run([data.select(stages, facts[data.name], config.max_test_users) for data in test], note)

        new_ids = [Ids(data.name, *data.ids(stages)) for data in test]
        against = new_ids + data_set.base_ids(config.out, base, "test", work)
        audits = stages.run([data.audit(stages, against, resources) for data in train])
        overlap = [Overlap(**pair) for audit in audits for pair in audit["pairs"]]
        for old in data_set.base_ids(config.out, base, "train", work):
            overlap += data_set.audit_old(old, new_ids, work, resources)
        for pair in overlap:
            progress(pair.line())
        stages.run(
            [
                data.clean(stages, facts[data.name], tuple(audit["files"]), resources)
                for data, audit in zip(train, audits, strict=True)
            ],
            note,
        )
        users = catalogue.allocate(
            {data.name: facts[data.name]["users"] for data in train},
            config.max_users, config.total_users, config.exponent,
        )  # fmt: skip
        stages.run([data.select(stages, facts[data.name], users[data.name]) for data in train], note)

        [info] = stages.run([data_set.tokenizer_stage(stages, train, config)])
        tokenizer = stages.path("tokenizer") / TOKENIZER_FOLDER
        totals = members.lane_totals(base) if base else [0] * config.lanes
        written = _write(stages, sets, facts, totals, work / "out", tokenizer, progress)
        if base is None:
            shutil.copytree(tokenizer, work / "out" / TOKENIZER_FOLDER, dirs_exist_ok=True)
        added = members.assemble(sets, facts, written, base, work)
        return Manifest(
            tokenizer=base.tokenizer if base else TokenizerInfo(**info),
            lanes=config.lanes,
            shuffle_tars=config.shuffle_tars,
            seed=config.seed,
            members=(*(base.members if base else ()), *added),
            order="chronological" if config.order == "time" else "released",
            split=config.split,
            rules=members.rules(config),
            overlap=(*(base.overlap if base else ()), *(asdict(pair) for pair in overlap)),
            versions=members.versions(),
        )


def _write(
    stages: Stages, sets: list[DataSet], facts: dict[str, dict[str, Any]], totals: list[int], out: Path,
    tokenizer: Path, progress: Progress,
) -> dict[str, Any]:  # fmt: skip
    """Tables and tars of all data sets into `out`; returns the result of each stage by its name. totals: samples that
    each lane has already."""
    pieces: list[Stage] = []
    for data in sets:
        (out / data.name).mkdir(exist_ok=True)
        pieces.append(data.tables(stages, facts[data.name], out, tokenizer))
        if data.role == "train":
            lanes, totals = deal(data.lengths(stages), totals)
            pieces += data.tars(stages, facts[data.name], out, lanes)
    stages.expect(3 * len(sets) + sum(data.role == "train" for data in sets) + 1 + len(pieces))
    results = stages.run(pieces, lambda stage, result: progress(data_set.line(stage.name, result)))
    return {stage.name: result for stage, result in zip(pieces, results, strict=True)}
