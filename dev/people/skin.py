"""The colours of skin, shirt and eyes. They are placed on the neutral head, so that they move with the face."""
from functools import cache

import numpy as np

from . import head

# the lowest place of hair over the angle from the front (radians): forehead, temple, sideburn, over the ear, nape
HAIRLINE = ([0.0, 0.45, 0.75, 0.98, 1.16, 1.30, 1.42, 1.52, 1.75, 2.1, 2.5, 3.15],
            [8.02, 8.00, 7.86, 7.62, 7.30, 7.12, 7.14, 7.52, 7.50, 6.95, 6.62, 6.55])
SKINS = np.array([[0.87, 0.62, 0.49], [0.62, 0.38, 0.23], [0.36, 0.15, 0.075], [0.08, 0.035, 0.02]])     # linear, light to dark


def linear(colour):
    """Returns linear RGB [3] of a colour written as six hexadecimal digits."""
    return (np.array(list(bytes.fromhex(colour))) / 255) ** 2.2


def smoothstep(value, low, high):
    """Returns 0 below low, 1 above high, and a smooth transition between."""
    part = np.clip((value - low) / (high - low), 0, 1)
    return part * part * (3 - 2 * part)


def noise(places, frequency, seed, waves=12):
    """Returns smooth noise [N] of about -1 to 1 at places [N, 3]."""
    random = np.random.default_rng(seed)
    return np.sin(places @ (random.normal(size=(3, waves)) * frequency) + random.uniform(0, 6.3, waves)).sum(axis=1) / 5


@cache
def places():
    """Returns the neutral body's vertices [N, 3], and where lips, beard, shirt, scalp and brows are on it: [N] each, 0 to 1."""
    neutral = np.array(head.Head({}).mesh.vertices)

    def moved(least, *names):
        amount = np.linalg.norm(head.Head(dict.fromkeys(names, 1)).mesh.vertices - neutral, axis=1)
        return smoothstep(amount / amount.max(), least, least + 0.3)
    lips = moved(0.1, "mouth-lowerlip-volume-incr", "mouth-upperlip-volume-incr")
    ears = moved(0.6, "l-ear-trans-up", "r-ear-trans-up")
    x, y, z = abs(neutral[:, 0]), *neutral[:, 1:].T
    line = np.interp(x, [0, 0.12, 0.3, 0.42, 0.6, 0.75], [6.48, 6.5, 6.58, 6.72, 6.92, 7.15])
    cheek = (1 - smoothstep(y, line - 0.06, line + 0.05)) * smoothstep(z, -0.05, 0.15) * smoothstep(y + 0.3 * z, 6.38, 6.6)
    lip = np.exp(-((y - 6.775 + 0.2 * x) / 0.05) ** 4) * (1 - smoothstep(x, 0.32, 0.40)) * (z > 0.9) * (z < 1.59)
    line = np.interp(np.arctan2(x, z - 0.25), *HAIRLINE) + 0.025 * np.sin(x * 31 + z * 17) + 0.02 * np.sin(x * 67 - y * 41)
    arch = 7.505 + 0.05 * np.sin(np.clip((x - 0.12) / 0.42, 0, 1) * 2.5)
    brows = np.exp(-((y - arch) / (0.026 - 0.015 * smoothstep(x, 0.22, 0.56))) ** 2) * smoothstep(x, 0.08, 0.19) * (z > 0.6)
    return (neutral, lips, np.maximum(cheek, lip) * (1 - lips) * (1 - ears), 1 - smoothstep(y + 0.42 * z, 5.918, 5.942),
            smoothstep(y - line, -0.05, 0.07) * (1 - ears), brows * (1 - smoothstep(x, 0.48, 0.58)))


def body(person):
    """Returns linear RGB [N, 3] of skin, scalp and shirt."""
    (rest, lips, beard, shirt, scalp, brows), hair, seed = places(), linear(person["hair_colour"]), person["seed"]
    skin = np.array([np.interp(person["tone"] * 3, range(4), channel) for channel in SKINS.T])
    x, y, front = abs(rest[:, 0]), rest[:, 1], smoothstep(rest[:, 2], 0.5, 0.9)

    def spot(across, up, wide, high):
        return np.exp(-((x - across) / wide) ** 2 - ((y - up) / high) ** 2) * front
    folds = (smoothstep(np.sin(y * 62 + np.sin(x * 5) + 0.5 * noise(rest, 4, seed)), 0.55, 1) * spot(0, 7.82, 0.36, 0.13)
             + 1.2 * np.exp(-((x - 0.30 - 0.55 * (6.98 - y)) / 0.028) ** 2) * spot(0.37, 6.87, 0.2, 0.14))
    result = skin * (1 + 0.045 * noise(rest, 9, seed) + 0.03 * noise(rest, 40, seed + 1))[:, None]
    for other, amount in (
            (skin * [0.98, 0.60, 0.55], 0.12 + 0.22 * spot(0.42, 6.98, 0.22, 0.17) + 0.24 * spot(0, 7.0, 0.13, 0.1)),
            (skin * [0.70, 0.56, 0.56], 0.35 * spot(0.31, 7.16, 0.17, 0.06) + 0.28 * spot(0.31, 7.36, 0.2, 0.06)),
            (skin * [0.62, 0.50, 0.46], 0.4 * folds * smoothstep(person["old"], 0.3, 0.95)),
            (skin * [0.68, 0.5, 0.4], person["freckles"] * smoothstep(noise(rest, 70, seed), 0.7, 1.4) * spot(0, 7, 0.5, 0.3)),
            (skin * [0.78, 0.36, 0.38], lips * person["lips"]),
            (skin * 0.35 + hair * 0.3, beard * (0.1 * person["male"] + 0.4 * (person["beard"] > 0))),
            (skin * 0.3 + hair * 0.4, 0.4 * brows),
            (hair * 0.55, 0.9 * scalp),
            (person["shirt"], shirt)):
        result += (other - result) * np.clip(amount, 0, 1)[:, None]
    return result


def eye(person, outward):
    """Returns linear RGB [M, 3] of an eye that looks along z. outward: unit vectors [M, 3] from its centre."""
    angle = np.arccos(np.clip(outward[:, 2:], -1, 1))
    iris = linear(person["iris"]) * (1.2 + 0.5 * noise(outward * [1, 1, 0.3], 14, person["seed"])[:, None])
    iris = iris * (1 + 0.9 * (1 - smoothstep(angle, 0.2, 0.36))) * (1 - 0.8 * smoothstep(angle, 0.40, 0.50))
    return (iris + ([0.66, 0.60, 0.56] - iris) * smoothstep(angle, 0.46, 0.53)) * (0.03 + 0.97 * smoothstep(angle, 0.17, 0.21))
