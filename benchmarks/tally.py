"""Counts of trials that go on from one call of a command to the next."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self


@dataclass
class Tally:
    """What came of the trials so far. A benchmark adds counters of its own."""

    trials: int = 0
    moments: Counter[str] = field(default_factory=Counter)
    """By what was there when it happened."""
    same: Counter[str] = field(default_factory=Counter)
    """Trials with the result of a command that nothing disturbed, by case."""
    faults: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path | None) -> Self:
        """What an earlier call left in a file, where there is one."""
        tally = cls()
        if path is not None and path.exists():
            for name, value in json.loads(path.read_text()).items():
                setattr(tally, name, Counter(value) if isinstance(value, dict) else value)
        return tally

    def save(self, path: Path | None) -> None:
        """Leave it for the next call."""
        if path is not None:
            path.write_text(json.dumps(vars(self), indent=1))

    def show_faults(self) -> None:
        print(f"\n{self.trials} trials, {len(self.faults)} faults")
        for fault in self.faults:
            print(f"- {fault}")
