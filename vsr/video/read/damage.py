"""An account of what was damaged in a clip."""

from dataclasses import dataclass

from vsr.errors import InputError


@dataclass(frozen=True)
class Damage:
    """One kind of harm found in a clip."""

    kind: str
    count: int
    detail: str
    """What happened, and where it was first seen."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}" + (f" ({self.count} in all)" if self.count > 1 else "")


class DamageLog:
    """Counts harm by kind and keeps what was said of the first case; one that `stops` raises
    InputError instead."""

    def __init__(self, name: str = "", stops: bool = False) -> None:
        self._name = name
        self._stops = stops
        self._counts: dict[str, int] = {}
        self._details: dict[str, str] = {}

    def add(self, kind: str, detail: str, count: int = 1) -> None:
        if self._stops:
            raise InputError(
                f"{self._name}: damaged, {kind}: {detail}; --on-damage keep goes on where it can"
            )
        self._counts[kind] = self._counts.get(kind, 0) + count
        self._details.setdefault(kind, detail)

    def records(self) -> tuple[Damage, ...]:
        return tuple(
            Damage(kind, count, self._details[kind]) for kind, count in self._counts.items()
        )
