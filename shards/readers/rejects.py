"""Rejects: malformed lines of raw files, counted always and kept as samples in `rejects.jsonl`.

Enter the lines seen and the malformed ones with file, number and reason; leave `rejects.jsonl` (only where there is a
malformed line) and the counts. It must hold that no line is dropped without being counted, and that a file with too
large a share of malformed lines stops the build with one clear line.
"""

import json
from pathlib import Path
from types import TracebackType
from typing import IO

# Lines after which a share means something before the file has ended.
EARLY_LINES = 10_000
SAMPLE_CHARACTERS = 300
# A character of UTF-8 takes four bytes at most.
SAMPLE_BYTES = 4 * SAMPLE_CHARACTERS


class Rejects:
    """Counts and samples of malformed lines; a context manager, for the file of samples.

    path: the file of samples. max_share: the share of malformed lines of a file above which reading stops.
    """

    def __init__(self, path: Path, max_share: float, samples_per_file: int = 100) -> None:
        self.counts: dict[str, tuple[int, int]] = {}
        """File name -> (lines seen, lines rejected)."""
        self._path, self._max_share, self._samples_per_file = path, max_share, samples_per_file
        self._first: dict[str, str] = {}
        self._out: IO[str] | None = None

    def __enter__(self) -> "Rejects":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._out is not None:
            self._out.close()
            self._out = None

    def count(self, file: Path, lines: int) -> None:
        """`lines` more of `file` were seen. ValueError when it is clear already that too many are malformed."""
        seen, rejected = self.counts.get(file.name, (0, 0))
        self.counts[file.name] = (seen + lines, rejected)
        if seen >= EARLY_LINES and rejected > 2 * self._max_share * seen:
            raise ValueError(self._complaint(file, seen, rejected, " so far"))

    def reject(self, file: Path, line: int, reason: str, raw: bytes) -> None:
        """Line number `line` (from 1) of `file` is malformed; `raw` is the line, or its beginning."""
        seen, rejected = self.counts.get(file.name, (0, 0))
        self.counts[file.name] = (seen, rejected + 1)
        self._first.setdefault(file.name, f"{file.name}:{line}: {reason}")
        if rejected < self._samples_per_file:
            if self._out is None:
                self._out = open(self._path, "w", encoding="utf-8")  # noqa: SIM115 - closed by __exit__
            text = raw[:SAMPLE_BYTES].decode("utf-8", errors="replace")[:SAMPLE_CHARACTERS]
            sample = {"file": file.name, "line": line, "reason": reason, "text": text}
            self._out.write(json.dumps(sample) + "\n")  # ASCII: Unicode knows more ends of lines than a newline

    def check(self, file: Path) -> None:
        """The end of a file. ValueError when more than the share allowed is malformed."""
        seen, rejected = self.counts.get(file.name, (0, 0))
        assert rejected <= seen, f"{file}: {rejected} of {seen} lines rejected"
        if rejected > self._max_share * seen:
            raise ValueError(self._complaint(file, seen, rejected, ""))

    def _complaint(self, file: Path, seen: int, rejected: int, when: str) -> str:
        if self._out is not None:
            self._out.flush()
        return (
            f"{rejected:,} of {seen:,} lines ({rejected / seen:.1%}) of {file} are malformed{when}, more than "
            f"max_reject_share {self._max_share:.4g}; first: {self._first[file.name]}; see {self._path}; "
            "mend or fetch the file again, or raise max_reject_share"
        )
