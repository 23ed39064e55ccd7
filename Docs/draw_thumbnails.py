"""Draw the small pictures of the zoo's models that the panel's list shows. Run it from anywhere."""

import numpy as np
from draw_icon import DARK, PALE, ROOT, canvas, ellipse, finished, head, soft
from PIL import Image

ZOO = ROOT / "MedXAILib" / "models" / "zoo"
SIZE = 64
X, Y = canvas(SIZE)
ANTERIOR, POSTERIOR = (0.973, 0.553, 0.133), (0.333, 0.663, 0.902)
"""Of the heat maps' ramps: colour-blind readers tell them apart too."""
STROKE = 0.06
"""Half the width of a glyph's lines: 2 pixels, 1 where the list is small."""


def painted(picture: np.ndarray, where: np.ndarray, color) -> np.ndarray:
    return np.where(where[..., None], color, picture)


def curve(points: np.ndarray, radius=STROKE) -> tuple[np.ndarray, np.ndarray]:
    """A thick line.

    :param points: (count, 2) x and y along it, close to each other.
    :param radius: half its width, one or one for each point.
    :return: depth in it, above 0 inside, and the number of the point that is nearest to each sample.
    """
    depth, nearest = np.full_like(X, -np.inf), np.zeros(X.shape, int)
    for number, ((px, py), r) in enumerate(zip(points, np.broadcast_to(radius, len(points)), strict=True)):
        here = r - np.hypot(X - px, Y - py)
        nearest[here > depth] = number
        depth = np.maximum(depth, here)
    return depth, nearest


def arc(cx: float, cy: float, radius: float, first: float, last: float) -> np.ndarray:
    """Points of a circle between two angles in degrees, clockwise from the right."""
    turn = np.radians(np.linspace(first, last, 80))
    return np.column_stack([cx + radius * np.cos(turn), cy + radius * np.sin(turn)])


def line(*corners) -> np.ndarray:
    """Points along straight lines."""
    ends = np.asarray(corners, float)
    return np.concatenate([np.linspace(a, b, 40) for a, b in zip(ends[:-1], ends[1:], strict=True)])


def triangle(*corners) -> np.ndarray:
    """Where the inside of a triangle is."""
    ends = np.asarray(corners, float)
    sides = [
        (bx - ax) * (Y - ay) - (by - ay) * (X - ax)
        for (ax, ay), (bx, by) in zip(ends, np.roll(ends, -1, 0), strict=True)
    ]
    return np.all(np.array(sides) > 0, 0) | np.all(np.array(sides) < 0, 0)


def tumor() -> np.ndarray:
    """A head with a bright tumour around a dark core, in swollen tissue."""
    picture = head(X / 1.08, Y / 1.08)
    radius = ellipse(X, Y, 0.25, -0.22, 0.24, 0.27) * (1 + 0.05 * np.sin(3 * np.arctan2(Y + 0.22, X - 0.25) + 1))
    brain = ellipse(X, Y, 0, 0.01, 0.59, 0.76) < 1
    picture = np.maximum(picture - 0.3 * (soft(radius / 1.45, 0.5) * brain)[..., None], 0.06)
    picture = painted(picture, radius < 1, (1.0, 0.80, 0.52))
    return painted(picture, radius < 0.45, (0.55, 0.16, 0.12))


def lesion() -> np.ndarray:
    """A brain without its skull and with a round hole, as dark as fluid; its outline says that it was put there."""
    picture = head(X / 1.24, Y / 1.24, skull=False)
    radius = ellipse(X, Y, -0.33, -0.26, 0.18, 0.18)
    picture = painted(picture, radius < 1.4, ANTERIOR)
    return painted(picture, radius < 1, (0.03, 0.03, 0.05))


def hippocampus(glyph: np.ndarray) -> np.ndarray:
    """A hippocampus from the side in its crop, the thick anterior and the thin posterior part, above a glyph."""
    tissue = 0.34 + 0.05 * np.sin(5 * X + 2 * np.sin(3 * Y)) * np.sin(4 * Y + 1)
    picture = painted(np.broadcast_to(DARK, (*X.shape, 3)), Y < 0.12, tissue[..., None])
    along = np.linspace(0, 1, 80)
    points = np.column_stack([-0.60 + 1.26 * along, -0.24 - 0.36 * np.sin(np.pi * along**0.85) - 0.04 * along])
    depth, nearest = curve(points, 0.26 - 0.14 * along**0.8)
    picture = painted(picture, depth > -0.05, DARK)
    picture = painted(picture, depth > 0, POSTERIOR)
    picture = painted(picture, (depth > 0) & (nearest < 33), ANTERIOR)
    return painted(picture, glyph, PALE)


def two_us() -> np.ndarray:
    """One U after the other."""

    def u(cx: float) -> np.ndarray:
        left, right = (cx - 0.2, 0.32), (cx + 0.2, 0.32)
        bend = arc(cx, 0.58, 0.2, 180, 0)
        return curve(np.concatenate([line(left, bend[0]), bend, line(bend[-1], right)]))[0] > 0

    return u(-0.36) | u(0.36)


def loop() -> np.ndarray:
    """An arrow that comes back to where it began."""
    way = curve(arc(0, 0.56, 0.28, -5, 275))[0] > 0
    return way | triangle((0.02, 0.12), (0.02, 0.44), (0.30, 0.28))


def gate() -> np.ndarray:
    """A valve in a line, with its wheel."""
    valve = triangle((-0.40, 0.36), (-0.40, 0.90), (0.08, 0.63)) | triangle((0.40, 0.36), (0.40, 0.90), (-0.08, 0.63))
    lines = line((-0.62, 0.63), (0.62, 0.63)), line((0, 0.63), (0, 0.28)), line((-0.2, 0.28), (0.2, 0.28))
    return valve | (np.max([curve(each)[0] for each in lines], 0) > 0)


DRAWINGS = {
    "planted-lesion": lesion,
    "brain-tumor-slices": tumor,
    "hippocampus-doubleunet": lambda: hippocampus(two_us()),
    "hippocampus-r2unet": lambda: hippocampus(loop()),
    "hippocampus-mcgunet": lambda: hippocampus(gate()),
}


def thumbnail(name: str) -> Image.Image:
    return finished(DRAWINGS[name]())


if __name__ == "__main__":
    for model in DRAWINGS:
        thumbnail(model).save(ZOO / f"{model}.png", optimize=True)
