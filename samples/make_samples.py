"""Makes `clip_truth.mkv` and `clip.mp4` beside this file: a drawn street, seen by a moving camera,
with sound.

A wall in perspective shows the same bricks, windows and leaves at many sizes, which is what
internal learning lives on. Everything is drawn here from a fixed seed: nothing is taken from
elsewhere.
"""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import torch

from vsr.image.resample import resize

FRAMES, FRAMES_PER_SECOND = 40, 12
WIDTH, HEIGHT, SCALE = 384, 256, 4
SUPERSAMPLING = 3
"""The scene is rendered this much larger and averaged, so that the truth is not aliased."""
WALL_WIDTH, WALL_HEIGHT = 2900, 1250
PAVEMENT_TOP = 1010
SAMPLE_RATE = 44100

BRICK, MORTAR, CREAM, GREEN, NAVY, RED = (
    (164, 88, 66),
    (186, 172, 154),
    (240, 230, 205),
    (44, 84, 62),
    (38, 46, 70),
    (176, 44, 44),
)


def main() -> None:
    folder = Path(__file__).resolve().parent
    truth = list(render())
    small = [reduce(picture) for picture in truth]
    write(folder / "clip_truth.mkv", truth, crf=10)
    write(folder / "clip.mp4", small, crf=8)


def render() -> Iterator[np.ndarray]:
    """The truth's frames, uint8 RGB (HEIGHT, WIDTH, 3)."""
    wall, tram = draw_wall(np.random.default_rng(2)), draw_tram()
    for i in range(FRAMES):
        progress = i / (FRAMES - 1)
        view = view_wall(wall, progress)
        place_tram(view, tram, progress)
        draw_lamp_post(view, progress)
        yield cv2.resize(view, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)


def reduce(picture: np.ndarray) -> np.ndarray:
    """The low resolution of a picture as the product defines it, rounded to 8 bit."""
    pixels = torch.from_numpy(picture).permute(2, 0, 1) / 255
    small = resize(pixels, HEIGHT // SCALE, WIDTH // SCALE)
    return (small.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def view_wall(wall: np.ndarray, progress: float) -> np.ndarray:
    """What the camera sees: it walks along the wall, comes nearer, and rolls a little."""
    left = 400 + 220 * progress
    center = 620 - 25 * progress
    near, far = 240 - 20 * progress, 560 - 70 * progress
    length = 740 - 100 * progress
    corners = np.array(
        [
            [left, center - near / 2],
            [left + length, center - far / 2],
            [left + length, center + far / 2],
            [left, center + near / 2],
        ]
    )
    angle = np.deg2rad(1.6 * np.sin(2.2 * np.pi * progress))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = corners.mean(axis=0)
    corners = (corners - middle) @ turn.T + middle
    width, height = WIDTH * SUPERSAMPLING, HEIGHT * SUPERSAMPLING
    screen = np.array([[0, 0], [width, 0], [width, height], [0, height]])
    homography = cv2.getPerspectiveTransform(corners.astype(np.float32), screen.astype(np.float32))
    return cv2.warpPerspective(wall, homography, (width, height), flags=cv2.INTER_CUBIC)


def draw_wall(rng: np.random.Generator) -> np.ndarray:
    """The whole street front, uint8 RGB."""
    wall = np.full((WALL_HEIGHT, WALL_WIDTH, 3), MORTAR, np.uint8)
    draw_bricks(wall, rng)
    for column, x in enumerate(range(120, WALL_WIDTH - 300, 420)):
        draw_window(wall, x, 250, 1.0)
        draw_window(wall, x + 20, 40, 0.6)
        draw_window(wall, x + 140, 40, 0.6)
        draw_shop(wall, x - 30, 640, column)
    draw_pavement(wall, rng)
    draw_fence(wall)
    for x, y, spread in (
        (330, 560, 90),
        (1010, 330, 120),
        (1290, 930, 100),
        (1860, 420, 140),
        (2350, 700, 120),
    ):
        draw_ivy(wall, rng, x, y, spread)
    return shade(wall, rng)


def draw_bricks(wall: np.ndarray, rng: np.random.Generator) -> None:
    course, length, joint = 32, 80, 6
    for row, y in enumerate(range(0, WALL_HEIGHT, course)):
        for x in range(-(row % 2) * length // 2, WALL_WIDTH, length):
            tone = np.array(BRICK) * rng.uniform(0.72, 1.16) + rng.normal(0, 7, 3)
            right, bottom = x + length - joint, y + course - joint
            cv2.rectangle(wall, (x, y), (right, bottom), color(tone * 0.68), -1)
            cv2.rectangle(wall, (x, y), (right - 3, bottom - 4), color(tone), -1)
            cv2.line(wall, (x, y), (right - 3, y), color(tone * 1.2), 3)


def draw_window(wall: np.ndarray, x: int, y: int, size: float) -> None:
    """A window with glazing bars between slatted shutters, 260 x 300 px at size 1."""

    def box(
        left: float, top: float, right: float, bottom: float, fill: tuple[int, int, int]
    ) -> None:
        cv2.rectangle(
            wall,
            (round(x + left * size), round(y + top * size)),
            (round(x + right * size), round(y + bottom * size)),
            fill,
            -1,
        )

    box(46, 12, 222, 300, (104, 62, 50))
    box(40, 0, 220, 30, (214, 205, 188))
    box(52, 30, 208, 276, CREAM)
    for row in range(4):
        for column in range(3):
            left, top = 62 + column * 48, 40 + row * 58
            box(left, top, left + 40, top + 50, (52 + 16 * row, 70 + 18 * row, 92 + 20 * row))
            box(left, top, left + 14, top + 50, (92 + 14 * row, 116 + 14 * row, 140 + 14 * row))
    for left in (2, 214):
        box(left, 30, left + 44, 276, GREEN)
        for top in range(38, 268, 13):
            box(left + 6, top, left + 38, top + 6, (92, 146, 112))
    box(36, 276, 224, 292, (224, 216, 200))


SIGNS = (
    ("BOOKS", "old & rare, bought and sold", RED),
    ("BAKERY", "fresh bread at seven", NAVY),
    ("CLOCKS", "repairs while you wait", GREEN),
    ("FLOWERS", "roses, ferns, wreaths", RED),
    ("TAILOR", "suits from finest wool", NAVY),
    ("COFFEE", "roasted on the premises", GREEN),
    ("MUSIC", "scores, strings and reeds", RED),
)


def draw_shop(wall: np.ndarray, x: int, y: int, number: int) -> None:
    """A shop front, 330 px wide: sign, striped awning, and a display of boxes that shrink from
    shelf to shelf."""
    name, motto, paint = SIGNS[number % len(SIGNS)]
    cv2.rectangle(wall, (x, y), (x + 330, PAVEMENT_TOP), color(np.array(paint) * 0.55), -1)
    cv2.rectangle(wall, (x, y), (x + 330, y + 92), paint, -1)
    cv2.rectangle(wall, (x + 6, y + 6), (x + 324, y + 86), CREAM, 2, cv2.LINE_AA)
    put_centred(wall, name, x + 165, y + 54, 1.7, 4)
    put_centred(wall, motto, x + 165, y + 78, 0.62, 1)
    cv2.rectangle(wall, (x + 20, y + 96), (x + 310, PAVEMENT_TOP - 30), (62, 54, 50), -1)
    for shelf, size in enumerate((38, 27, 19, 14)):
        bottom = PAVEMENT_TOP - 44 - [0, 56, 100, 136][shelf]
        for item, left in enumerate(range(x + 26, x + 308 - size, size + 4)):
            fill = ((212, 164, 84), (196, 92, 62), (118, 150, 160), (226, 208, 164))[
                (item * 7 + shelf + number) % 4
            ]
            cv2.rectangle(wall, (left, bottom - size), (left + size, bottom), fill, -1)
            cv2.line(
                wall, (left, bottom - size // 2), (left + size, bottom - size // 2), (70, 50, 40), 2
            )
        cv2.line(wall, (x + 20, bottom + 4), (x + 310, bottom + 4), (150, 120, 84), 4)
    for stripe in range(15):
        left = x - 8 + stripe * 23
        fill = CREAM if stripe % 2 else color(np.array(paint) * 1.25)
        cv2.rectangle(wall, (left, y + 94), (left + 23, y + 140), fill, -1)
        cv2.ellipse(wall, (left + 11, y + 140), (12, 11), 0, 0, 180, fill, -1, cv2.LINE_AA)


def put_centred(
    picture: np.ndarray, text: str, x: int, y: int, size: float, thickness: int
) -> None:
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, size, thickness)
    cv2.putText(
        picture,
        text,
        (x - width // 2, y),
        cv2.FONT_HERSHEY_DUPLEX,
        size,
        CREAM,
        thickness,
        cv2.LINE_AA,
    )


def draw_pavement(wall: np.ndarray, rng: np.random.Generator) -> None:
    """Kerb and cobbles, which grow towards the viewer."""
    wall[PAVEMENT_TOP:] = (70, 68, 66)
    cv2.rectangle(wall, (0, PAVEMENT_TOP), (WALL_WIDTH, PAVEMENT_TOP + 16), (186, 180, 170), -1)
    top, height, row = PAVEMENT_TOP + 30, 18.0, 0
    while top < WALL_HEIGHT + height:
        for x in np.arange(-(row % 2) * height, WALL_WIDTH + height, 2 * height):
            tone = np.array((146, 142, 138)) * rng.uniform(0.7, 1.15)
            center, axes = (round(x), round(top)), (round(height * 0.92), round(height * 0.46))
            cv2.ellipse(wall, center, axes, 0, 0, 360, color(tone), -1, cv2.LINE_AA)
            cv2.ellipse(
                wall,
                center,
                (axes[0] - 4, axes[1] - 3),
                0,
                190,
                300,
                color(tone * 1.3),
                2,
                cv2.LINE_AA,
            )
        top, height, row = top + height, height * 1.07, row + 1


def draw_fence(wall: np.ndarray) -> None:
    """Iron railings between the shops and, above, the wires of the tram."""
    for start in range(426, WALL_WIDTH, 420):
        for x in range(start, start + 78, 13):
            cv2.line(wall, (x, 880), (x, PAVEMENT_TOP), (30, 30, 34), 3, cv2.LINE_AA)
            cv2.drawMarker(wall, (x, 876), (30, 30, 34), cv2.MARKER_DIAMOND, 9, 3, cv2.LINE_AA)
        for y in (900, 990):
            cv2.line(wall, (start - 4, y), (start + 70, y), (30, 30, 34), 4, cv2.LINE_AA)
    for y, sag in ((600, 22), (618, 30)):
        x = np.arange(0, WALL_WIDTH, 4)
        points = np.stack([x, y + sag * np.sin(np.pi * (x % 840) / 840)], axis=1)
        cv2.polylines(
            wall,
            [np.rint(points * 16).astype(np.int32)],
            False,
            (24, 24, 30),
            2,
            cv2.LINE_AA,
            shift=4,
        )


def draw_ivy(wall: np.ndarray, rng: np.random.Generator, x: int, y: int, spread: int) -> None:
    """A bush of leaves, the lit ones last; leaves are alike and of every size."""
    for depth in np.linspace(0.3, 1.0, 4 * spread):
        center = np.array([x, y]) + rng.normal(0, 1, 2) * (spread * 0.55, spread)
        size, angle = 34 * rng.uniform(0.3, 1.0) ** 1.5 + 6, rng.uniform(0, 2 * np.pi)
        tone = np.array((78, 128, 48)) * depth * rng.uniform(0.75, 1.3) + (0, 0, rng.uniform(0, 16))
        axis = np.array([np.cos(angle), np.sin(angle)]) * size
        side = np.array([-axis[1], axis[0]]) * 0.45
        outline = [
            center - axis,
            center - 0.3 * axis + side,
            center + 0.4 * axis + side * 0.8,
            center + axis,
            center + 0.4 * axis - side * 0.8,
            center - 0.3 * axis - side,
        ]
        cv2.fillPoly(
            wall,
            [np.rint(np.array(outline) * 16).astype(np.int32)],
            color(tone),
            cv2.LINE_AA,
            shift=4,
        )
        ends = np.rint(np.array([center - axis, center + axis]) * 16).astype(int)
        cv2.line(
            wall,
            tuple(ends[0].tolist()),
            tuple(ends[1].tolist()),
            color(tone * 1.4),
            2,
            cv2.LINE_AA,
            shift=4,
        )


def shade(wall: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Weathering and sunlight: smooth stains whose contrast falls with their fineness, as in
    photographs."""
    stains = np.zeros(wall.shape[:2], np.float32)
    for cell in (320, 160, 80, 40, 20, 10):
        grid = rng.normal(0, 1, (WALL_HEIGHT // cell + 2, WALL_WIDTH // cell + 2)).astype(
            np.float32
        )
        stains += (
            cv2.resize(grid, (WALL_WIDTH, WALL_HEIGHT), interpolation=cv2.INTER_CUBIC)
            * (cell / 320) ** 0.7
        )
    light = 1.0 + 0.06 * stains
    return np.clip(wall * light[:, :, None], 0, 255).astype(np.uint8)


def draw_tram() -> np.ndarray:
    """A tram from the side, float32 RGB premultiplied by the alpha of its fourth channel."""
    tram = np.zeros((330, 900, 4), np.uint8)
    cv2.rectangle(tram, (20, 30), (880, 270), (*CREAM, 255), -1)
    cv2.rectangle(tram, (20, 160), (880, 270), (*RED, 255), -1)
    cv2.rectangle(tram, (10, 16), (890, 36), (96, 92, 90, 255), -1)
    for left in range(50, 840, 118):
        cv2.rectangle(tram, (left, 56), (left + 96, 146), (58, 74, 92, 255), -1)
        cv2.line(tram, (left + 20, 144), (left + 60, 58), (128, 150, 168, 255), 8, cv2.LINE_AA)
        cv2.rectangle(tram, (left, 56), (left + 96, 146), (120, 60, 44, 255), 5)
    cv2.line(tram, (20, 172), (880, 172), (*CREAM, 255), 4)
    cv2.putText(
        tram,
        "7  CENTRAL STATION",
        (90, 240),
        cv2.FONT_HERSHEY_DUPLEX,
        1.9,
        (*CREAM, 255),
        4,
        cv2.LINE_AA,
    )
    for x in (150, 260, 640, 750):
        cv2.circle(tram, (x, 278), 44, (34, 34, 38, 255), -1, cv2.LINE_AA)
        cv2.circle(tram, (x, 278), 26, (138, 136, 134, 255), 7, cv2.LINE_AA)
    layer = tram.astype(np.float32)
    layer[:, :, :3] *= layer[:, :, 3:] / 255
    return layer


def place_tram(view: np.ndarray, tram: np.ndarray, progress: float) -> None:
    """Lay the tram over the view in place: it overtakes the camera and grows as it comes nearer."""
    size = 0.62 + 0.1 * progress
    move = np.array(
        [[size, -0.03, 1080 - 1150 * progress], [0.03 * size, size, 548 + 10 * progress]]
    )
    layer = cv2.warpAffine(tram, move, (view.shape[1], view.shape[0]), flags=cv2.INTER_AREA)
    view[:] = np.clip(view * (1 - layer[:, :, 3:] / 255) + layer[:, :, :3], 0, 255).astype(np.uint8)


def draw_lamp_post(view: np.ndarray, progress: float) -> None:
    """A post close to the camera, which passes faster than the wall."""
    x = round((1010 - 620 * progress) * 16)
    for width, tone in ((26, 26), (8, 92)):
        cv2.line(
            view,
            (x, 130 * 16),
            (x, view.shape[0] * 16),
            (tone, tone + 4, tone + 8),
            width,
            cv2.LINE_AA,
            shift=4,
        )
    cv2.circle(view, (x, 96 * 16), 44 * 16, (250, 238, 196), -1, cv2.LINE_AA, shift=4)
    cv2.circle(view, (x, 96 * 16), 44 * 16, (40, 42, 46), 8, cv2.LINE_AA, shift=4)


def color(tone: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = np.clip(np.rint(tone), 0, 255).astype(int).tolist()
    return red, green, blue


def beat() -> np.ndarray:
    """As long as the clip: a plucked note on every half second over a quiet drone, float32 in [-1,
    1], (1, samples)."""
    seconds = np.arange(FRAMES * SAMPLE_RATE // FRAMES_PER_SECOND) / SAMPLE_RATE
    notes = 220 * 2 ** (np.array([0, 4, 7, 12, 7, 4, 2]) / 12)
    pitch = notes[(seconds * 2).astype(int) % len(notes)]
    pluck = np.exp(-6 * (seconds % 0.5)) * np.sin(2 * np.pi * pitch * (seconds % 0.5))
    return (0.5 * pluck + 0.1 * np.sin(2 * np.pi * 110 * seconds))[None].astype(np.float32)


def write(path: Path, pictures: list[np.ndarray], crf: int) -> None:
    """H.264 4:2:0 with BT.709 tags, and AAC. Bit-exact: Matroska would else get a random
    identity."""
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as out:
        video = out.add_stream(
            "libx264", rate=FRAMES_PER_SECOND, options={"crf": str(crf), "preset": "veryslow"}
        )
        video.height, video.width = pictures[0].shape[:2]
        video.pix_fmt = "yuv420p"
        context = video.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = (
            1,
            1,
            1,
            1,
        )
        audio = out.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        sound = av.AudioFrame.from_ndarray(beat(), format="fltp", layout="mono")
        sound.sample_rate, sound.pts = SAMPLE_RATE, 0
        packets = [*audio.encode(sound), *audio.encode(None)]
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame = frame.reformat(
                format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
            )
            frame.pts, frame.time_base = i, Fraction(1, FRAMES_PER_SECOND)
            packets += video.encode(frame)
        packets += video.encode(None)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            out.mux(packet)


if __name__ == "__main__":
    main()
