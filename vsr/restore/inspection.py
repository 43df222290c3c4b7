"""The stage that looks at the first frames of each shot, before anything is made of them."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain, groupby, islice

from vsr.records import from_table, to_table
from vsr.restore.data_term import known_degradation, trust_for
from vsr.restore.degradation import estimate_degradation, num_probe_frames
from vsr.video.step import Degradation, State, Step


class Inspection:
    """Finds out how each shot is degraded, and how far its input is to be trusted. Implements
    Stage.

    The first frames of a shot wait until they have been looked at. To go on in the middle of a shot
    the estimates of that shot are enough.
    """

    name = "inspect"
    rewind = 0

    def __init__(
        self,
        strength: float,
        notify: Callable[[str], None] = lambda _: None,
        *,
        looks: bool = True,
        looks_back: bool = True,
    ) -> None:
        """A `strength`, 0 to 1, is how much of what is found counts for the trust in the input;
        `looks_back` asks for what an earlier encoder did."""
        self._strength, self._looks, self._looks_back = strength, looks, looks_back
        self._notify = notify
        self.found: dict[int, Degradation] = {}
        """By first frame of the shot."""

    def through(self, steps: Iterator[Step]) -> Iterator[Step]:
        """Mark the steps of a clip with what is known of their shot."""
        if not self._looks:
            yield from steps
            return
        for first_frame, group in groupby(steps, key=lambda step: step.shot.first_frame):
            shot = iter(group)
            probe: list[Step] = []
            if first_frame not in self.found:
                probe = list(islice(shot, 1))
                probe += islice(shot, num_probe_frames(probe[0].frame) - 1)
                self.found[first_frame] = estimate_degradation(
                    [step.frame for step in probe], looks_back=self._looks_back
                )
            degradation = self.found[first_frame]
            trust = trust_for(degradation, self._strength)
            known = known_degradation(degradation, self._strength)
            if probe and not trust.is_full:
                self._notify(f"shot from frame {first_frame}: {summary(degradation)}")
            for step in chain(probe, shot):
                marked = replace(step.shot, degradation=degradation, trust=trust, known=known)
                yield replace(step, shot=marked)

    def state(self) -> State:
        """The estimates of all shots up to that of the last step."""
        found = [{"first_frame": frame, **to_table(each)} for frame, each in self.found.items()]
        return State(log={"shots": found})

    def restore(self, state: State) -> None:
        """Know the estimates again."""
        for entry in state.log.get("shots", ()):
            values = dict(entry)
            first_frame = values.pop("first_frame")
            self.found[first_frame] = from_table(Degradation, values)


def summary(degradation: Degradation) -> str:
    """Tell of a degradation in a few words."""
    told = []
    if degradation.earlier_qp is not None:
        told.append(f"quantizer {degradation.earlier_qp:.0f} of an earlier encoder")
    elif degradation.qp is not None:
        told.append(f"quantizer {degradation.qp:.0f}")
    if degradation.noise_sigma:
        told.append(f"noise of {degradation.noise_sigma:.1f} levels")
    return ", ".join(told) or "clean"
