"""The manifest: what a shard folder holds, with counts and hashes (docs/contracts.md, version 2).

Enters and leaves `manifest.json`. It must hold that the file and the dataclasses say the same: unknown keys, missing
keys and unknown versions are refused, and `sha256()` of the canonical JSON names the data in checkpoints and results.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from shards.files import store
from shards.files.atomic import write_whole

MANIFEST_VERSION = 2
MANIFEST_FILE = "manifest.json"
TOKENIZER_FOLDER = "tokenizer"


@dataclass(frozen=True)
class Tar:
    """One tar: file relative to the shard folder, its lane, counts of records, samples and bytes, and its SHA-256."""

    file: str
    lane: int
    records: int
    samples: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Member:
    """One data set. `row_offset` is the first row of a train member in the Fusion; a test member stands alone (0).

    source: format of the raw folder. num_users: records. cleaning: what was read, removed and drawn, by name. inputs,
    files: SHA-256 by name of each raw file and of each file written that is not a tar.
    """

    name: str
    role: str
    source: str
    num_users: int
    num_items: int
    num_interactions: int
    row_offset: int
    share_sorted_by_id: float
    tars: tuple[Tar, ...]
    files: Mapping[str, str]
    inputs: Mapping[str, str]
    cleaning: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Of all files of the data set, by their hashes."""
        hashes = {tar.file: tar.sha256 for tar in self.tars} | dict(self.files)
        return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()

    def __post_init__(self) -> None:
        if self.role not in ("train", "test"):
            raise ValueError(f"{self.name}: role is train or test, not {self.role!r}")


@dataclass(frozen=True)
class TokenizerInfo:
    """`vocab_size` is padded to a multiple of 128, the number of embedding rows of a model."""

    fingerprint: str
    vocab_size: int


@dataclass(frozen=True)
class Manifest:
    """The whole Fusion: members in the order of their rows.

    rules: the options of the build that decide what is kept. overlap: the audit of train against test members, one
    mapping a pair (`shards.build.overlap.Overlap`). versions: of what wrote the bytes.
    """

    tokenizer: TokenizerInfo
    lanes: int
    shuffle_tars: int
    seed: int
    members: tuple[Member, ...]
    order: str = "chronological"
    split: str = "leave-one-out"
    rules: Mapping[str, Any] = field(default_factory=dict)
    overlap: tuple[Mapping[str, Any], ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    version: int = MANIFEST_VERSION

    @property
    def train_members(self) -> tuple[Member, ...]:
        return tuple(member for member in self.members if member.role == "train")

    @property
    def test_members(self) -> tuple[Member, ...]:
        return tuple(member for member in self.members if member.role == "test")

    @property
    def num_items(self) -> int:
        """Items of the Fusion (train members only)."""
        return sum(member.num_items for member in self.train_members)

    @property
    def num_samples(self) -> int:
        """Training samples of one epoch, fillers not counted."""
        return sum(tar.samples for member in self.train_members for tar in member.tars)

    def member(self, name: str) -> Member:
        """The member of that name; ValueError if there is none."""
        for member in self.members:
            if member.name == name:
                return member
        raise ValueError(f"no data set {name!r} in the manifest; it has {', '.join(m.name for m in self.members)}")

    def canonical_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    def sha256(self) -> str:
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()

    def save(self, folder: str | Path) -> None:
        """Writes `folder/manifest.json`, whole or not at all."""
        text = json.dumps(asdict(self), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        write_whole(Path(folder) / MANIFEST_FILE, text.encode())

    @staticmethod
    def load(folder: str | Path) -> "Manifest":
        """Reads `folder/manifest.json`; ValueError names a missing, corrupt or unknown file."""
        data = store.read_bytes(folder, MANIFEST_FILE)
        try:
            value = json.loads(data)
            if value["version"] != MANIFEST_VERSION:
                raise ValueError(f"version {value['version']} is unknown, this code reads {MANIFEST_VERSION}")
            return _manifest(value)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{folder}/{MANIFEST_FILE} cannot be read ({error}); build the shards again") from error


def _checked(kind: type, value: Any) -> dict[str, Any]:
    names = {known.name for known in fields(kind)}
    if not isinstance(value, dict) or set(value) != names:
        raise ValueError(f"{kind.__name__.lower()} must have the keys {', '.join(sorted(names))}")
    return value


def _manifest(value: Any) -> Manifest:
    value = _checked(Manifest, value)
    members = []
    for member in value["members"]:
        member = _checked(Member, member)
        tars = tuple(Tar(**_checked(Tar, tar)) for tar in member["tars"])
        members.append(Member(**{**member, "tars": tars}))
    tokenizer = TokenizerInfo(**_checked(TokenizerInfo, value["tokenizer"]))
    return Manifest(**{**value, "members": tuple(members), "tokenizer": tokenizer, "overlap": tuple(value["overlap"])})


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
