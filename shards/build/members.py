"""The assembly: what the stages of a build found and wrote, as members of a manifest.

Enter the facts of each data set and the results of the stages that wrote; leave `Member`s in the order of their rows.
It must hold that everything that was removed, drawn or rejected is named with its number.
"""

import hashlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from shards.build import ingest
from shards.build.data_set import DataSet
from shards.config import BuildConfig
from shards.manifest import Manifest, Member, Tar, file_sha256

NOT_RULES = (
    *("train", "test", "out", "tokenizer", "lanes", "shuffle_tars", "seed", "tokenizer_text", "workers", "memory_gb"),
)
WRITERS = ("duckdb", "idgenrec", "numpy", "polars", "pyarrow", "sentencepiece", "tokenizers")
# Facts that have a field of their own in a member, or that only a build under way needs.
IN_FIELDS = (
    *("format", "cleaned", "events", "texts", "inputs", "users", "num_users", "num_items", "num_interactions"),
    "share_sorted_by_id",
)


def assemble(
    sets: Sequence[DataSet], facts: Mapping[str, Any], written: Mapping[str, Any], base: Manifest | None, work: Path
) -> list[Member]:
    """The new members. facts: by data set; written: result of each `tables` and `tars` stage by its name."""
    out = work / "out"
    offset = base.num_items if base else 0
    members = []
    for data in sets:
        fact = facts[data.name]
        tables = written[f"tables.{data.name}"]
        tars = [
            Tar(**tar) for name, result in written.items() if name.startswith(f"tars.{data.name}.") for tar in result
        ]
        files = dict(tables["files"])
        rejects = work / "stages" / f"ingest.{data.name}" / ingest.REJECTS
        if any(malformed for _, malformed in fact["lines"].values()):
            copy = out / data.name / ingest.REJECTS
            copy.write_bytes(rejects.read_bytes())
            files[f"{data.name}/{ingest.REJECTS}"] = file_sha256(copy)
        members.append(
            Member(
                name=data.name,
                role=data.role,
                source=fact["format"],
                num_users=fact["num_users"],
                num_items=fact["num_items"],
                num_interactions=fact["num_interactions"],
                row_offset=offset if data.role == "train" else 0,
                share_sorted_by_id=fact["share_sorted_by_id"],
                tars=tuple(sorted(tars, key=lambda tar: tar.file)),
                files=files,
                inputs=fact["inputs"],
                cleaning={
                    "taken_as_cleaned": data.cleaned(fact),
                    "users_before_sampling": fact["users"],
                    "users_held_out": tables["users_held_out"],
                    **{key: value for key, value in tables["texts"].items() if key != "items"},
                    **{key: value for key, value in fact.items() if key not in IN_FIELDS},
                },
            )
        )
        offset += fact["num_items"] if data.role == "train" else 0
    return members


def lane_totals(base: Manifest) -> list[int]:
    """Samples that each lane of a finished folder has."""
    totals = [0] * base.lanes
    for member in base.train_members:
        for tar in member.tars:
            totals[tar.lane] += tar.samples
    return totals


def rules(config: BuildConfig) -> dict[str, Any]:
    """The options that decide what is kept, as the manifest has them."""
    return {key: value for key, value in asdict(config).items() if key not in NOT_RULES}


def versions() -> dict[str, str]:
    """Versions of what wrote the bytes."""
    return {name: importlib.metadata.version(name) for name in WRITERS}


def code() -> str:
    """A hash of this package's sources: a build under way is not gone on with by other code."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
