"""How large a clip may be before it is taken for an attack or a mistake; `--allow-huge` lifts all of this."""

from vsr.errors import InputError

MOST_PIXELS = 64 * 2**20
"""Of a frame that is read: twice 8K."""
MOST_SECONDS = 7 * 24 * 3600

HOW_TO_ALLOW = "vsr run --allow-huge reads it all the same"

HOW_FRAMES_ARE_LIMITED = f"frames of more than {MOST_PIXELS // 2**20} million pixels are left out; {HOW_TO_ALLOW}"


def limit_of_pixels(allow_huge: bool) -> dict[str, str]:
    """For libav, as an option of a container or of a decoder: larger frames are an error before they take memory."""
    return {} if allow_huge else {"max_pixels": str(MOST_PIXELS)}


def check_size(name: str, width: int, height: int) -> None:
    """Raises InputError for frames of more pixels than are expected of a video."""
    if width * height > MOST_PIXELS:
        raise InputError(
            f"{name}: its frames are {width}x{height}; expected at most {MOST_PIXELS // 2**20} million pixels; "
            f"{HOW_TO_ALLOW}"
        )


def check_duration(name: str, seconds: float | None) -> None:
    """Raises InputError for a clip that lasts longer than any film."""
    if seconds is not None and seconds > MOST_SECONDS:
        raise InputError(
            f"{name}: it lasts {seconds / 3600:.0f} hours; expected at most {MOST_SECONDS // 3600}; {HOW_TO_ALLOW}"
        )
