"""The configuration of a pretraining run: frozen dataclasses, one per owner.

Enters: keyword arguments or a nested dict (from JSON). Leaves: values that cannot change. Must hold: an unknown key or
an impossible combination fails here, before any process starts, with a line that says what to change.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_origin, get_type_hints

C = TypeVar("C")


@dataclass(frozen=True)
class ModelConfig:
    """A T5: a Hugging Face folder or hub name to start from, or, without one, the shape of a T5 from scratch."""

    start_from: str | None = None
    """Hugging Face folder or hub name; none = from scratch with the shape below."""
    d_model: int = 128
    """Width of the residual stream."""
    d_ff: int = 256
    """Width of the gated feed-forward layers."""
    num_layers: int = 2
    """Layers of encoder and of decoder."""
    num_heads: int = 4
    """Attention heads."""

    def __post_init__(self) -> None:
        if self.start_from is None and self.d_model % self.num_heads:
            raise ValueError(
                f"d_model {self.d_model} is not divisible by num_heads {self.num_heads}; change one of them"
            )


@dataclass(frozen=True)
class IdConfig:
    """Algorithm 1 (section 2.3, implementation details 3.2): k groups, penalty 0.1 to 1.0, tiers of new tokens."""

    groups: int = 5
    """k, the groups of diverse beam search; one candidate ID each."""
    penalty_start: float = 0.1
    """First diversity penalty lambda."""
    penalty_step: float = 0.1
    """Added to lambda for each further attempt."""
    penalty_max: float = 1.0
    """Last lambda before the next length tier."""
    tier_tokens: int = 10
    """Width of a length tier: 10 gives 1-9, 10-19, 20-29 new tokens."""
    max_tiers: int = 3
    """Tiers before numeric suffixes."""
    item_text_tokens: int = 256
    """Item texts are cut to this many tokens, EOS included."""
    block_size: int = 32
    """Items decoded at once, a fixed shape; a quarter of it for further attempts."""
    blocks_per_wave: int = 32
    """Blocks a rank decodes between two reconciliations; a killed job loses at most these. Changes no ID."""
    encoder_cache_gb: float = 1.0
    """Memory per rank for encoded texts of items that may need another attempt. Changes no ID."""

    FREE: ClassVar[tuple[str, ...]] = ("blocks_per_wave", "encoder_cache_gb")

    def check(self) -> None:
        """Raise ValueError for values no schedule of attempts can be made of. Owners call it when built."""
        for name in ("groups", "max_tiers", "block_size", "blocks_per_wave"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("tier_tokens", "item_text_tokens"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 2")
        if not self.penalty_step > 0:
            raise ValueError(f"penalty_step is {self.penalty_step}; it must be above 0")
        if not 0 <= self.penalty_start <= self.penalty_max:
            raise ValueError(
                f"penalties go from {self.penalty_start} to {self.penalty_max}; penalty_max must not be below "
                "penalty_start, nor that below 0"
            )

    def options(self) -> dict[str, Any]:
        """What an item's candidates depend on."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in self.FREE}

    @property
    def num_penalties(self) -> int:
        """Attempts per length tier."""
        return round((self.penalty_max - self.penalty_start) / self.penalty_step) + 1

    @property
    def num_attempts(self) -> int:
        """Attempts of the generator before numeric suffixes."""
        return self.max_tiers * self.num_penalties

    def tier_range(self, tier: int) -> tuple[int, int]:
        """Fewest and most tokens of an ID in a tier, EOS not counted: 1-9, 10-19, 20-29, ..."""
        return max(1, tier * self.tier_tokens), (tier + 1) * self.tier_tokens - 1


@dataclass(frozen=True)
class PromptConfig:
    """What a history becomes: its last `max_history` items, cut by whole oldest items to `max_tokens` tokens."""

    max_history: int = 20
    """Most recent items of a history that are read."""
    max_tokens: int = 512
    """Longest prompt; whole oldest items are dropped to fit."""


@dataclass(frozen=True)
class SearchConfig:
    """Beam search over the trie of IDs (section 2.4)."""

    beam: int = 20
    """Hypotheses kept per user."""
    list_length: int | None = None
    """Items of a list; none = as many as the beam is wide. A shorter list is found sooner."""
    length_penalty: float = 0.0
    """A score is the sum of log-probabilities over length ** this (0 = the sum, equation 3)."""

    def check(self) -> None:
        """Raise ValueError for a beam or list without items. Owners call it when built, searches when they start."""
        for name in ("beam", "list_length"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        if not math.isfinite(self.length_penalty):
            raise ValueError(f"length_penalty is {self.length_penalty}; it must be a number")

    @property
    def length(self) -> int:
        """Items of a list."""
        return self.beam if self.list_length is None else self.list_length


@dataclass(frozen=True)
class ScheduleConfig:
    """The alternation (section 2.5). Epochs may be fractions; an epoch is every sample once.

    `teaching_epochs`: a generator from scratch first learns to write an item's most informative words (epochs over the
    items). `warmup_epochs`: the recommender trains before the generator gets its first signal (0 = the paper's order).
    """

    teaching_epochs: float = 10.0
    """Epochs over the items (a generator from scratch only)."""
    teaching_words: int = 3
    """Words of an item it is taught to write."""
    warmup_epochs: float = 1.0
    """Recommender epochs before the first round (0 = the paper's order)."""
    rounds: int = 1
    """Alternations of generator and recommender."""
    generator_epochs: float = 1.0
    """Epochs of the generator per round."""
    recommender_epochs: float = 1.0
    """Epochs of the recommender per round."""
    validation_users: int = 256
    """Users of the pretraining categories that pick the checkpoint."""

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"rounds is {self.rounds}; at least one round is needed")


@dataclass(frozen=True)
class PretrainConfig:
    """One pretraining run over a shard folder.

    Learning rates: decoupled AdamW, linear warm-up over `warmup_share` of a model's steps, linear decay to zero.
    """

    shards: str
    """Shard folder, made by `idgenrec shard`."""
    out: str
    """Run folder: checkpoints and metrics."""
    recommender: ModelConfig = field(default_factory=ModelConfig)
    generator: ModelConfig = field(default_factory=ModelConfig)
    ids: IdConfig = field(default_factory=IdConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    batch_size: int = 64
    """Samples per optimiser step, all ranks together."""
    micro_batch_size: int = 32
    """Samples one rank computes at a time."""
    recommender_lr: float = 1e-3
    """Peak learning rate."""
    generator_lr: float = 1e-5
    """Peak learning rate of the soft-ID phases."""
    teaching_lr: float = 1e-3
    """Peak learning rate of the teaching phase."""
    weight_decay: float = 0.01
    """Decoupled (AdamW)."""
    clip_norm: float = 1.0
    """Largest global gradient norm."""
    warmup_share: float = 0.05
    """Share of a model's steps with rising learning rate."""
    zero_stage: Literal[0, 1, 2] = 1
    """DeepSpeed ZeRO stage."""
    search: SearchConfig = field(default_factory=SearchConfig)
    seed: int = 0
    """Of every draw."""
    threads: int = 1
    """CPU threads per rank."""
    length_window: int = 0
    """Samples of a lane sorted by history length together, so that batches are of like lengths (0 = not sorted)."""
    stream_workers: int = 0
    """Processes per rank that read shards ahead (0 = the rank reads them itself); they change no batch."""
    checkpoint_steps: int = 500
    """Steps between checkpoints inside a phase."""
    keep_checkpoints: int = 2
    """Newest checkpoints kept, beside the best."""
    log_steps: int = 10
    """Steps between logged figures."""
    tracking_uri: str | None = None
    """MLflow store; none = mlflow.db beside the run folder."""
    experiment: str = "idgenrec"
    """MLflow experiment."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "micro_batch_size", "threads", "checkpoint_steps", "log_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("length_window", "stream_workers"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0")
        self.search.check()
        self.ids.check()

    def micro_batches(self, world_size: int) -> int:
        """Micro-batches per rank and optimiser step.

        Raises ValueError when the batch does not divide over the ranks.
        """
        if self.batch_size % world_size:
            raise ValueError(f"batch_size {self.batch_size} is not divisible by {world_size} ranks; change one of them")
        return -(-self.batch_size // world_size // self.micro_batch_size)


def from_dict(kind: type[C], values: dict[str, Any]) -> C:
    """Build a config dataclass from nested dicts. Raises ValueError for an unknown key (naming the nearest) or type."""
    hints = get_type_hints(kind)
    known = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    built: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(key, sorted(known), 1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; known keys: {', '.join(sorted(known))}"
            raise ValueError(f"unknown key '{key}' in {kind.__name__}{hint}")
        built[key] = _convert(hints[key], value, f"{kind.__name__}.{key}")
    missing = [
        f.name
        for f in dataclasses.fields(kind)  # type: ignore[arg-type]
        if f.name not in built and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"{kind.__name__} needs a value for {', '.join(missing)}")
    return kind(**built)


def _convert(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise ValueError(f"{where} must be an object, not {value!r}")
        return from_dict(hint, value)  # type: ignore[arg-type]
    options = get_args(hint)
    if options and not isinstance(options[0], type):
        if value not in options:
            raise ValueError(f"{where} is {value!r}; allowed: {', '.join(map(str, options))}")
        return value
    kinds = tuple(get_origin(kind) or kind for kind in (options if isinstance(hint, UnionType) else (hint,)))
    if tuple in kinds and isinstance(value, list):
        return tuple(value)
    if float in kinds and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ValueError(f"{where} must be {' or '.join(kind.__name__ for kind in kinds)}, not {value!r}")
    return value
