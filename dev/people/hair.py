"""Hairs of the scalp, of brows, lashes and beards: roots on the mesh, and strands that grow from them."""
import numpy as np
from scipy.spatial import cKDTree

from .mesh import SKIN
from .rendering import smoothstep, unit

POINTS = 22     # along a strand
# the lowest place of hair over the angle from the front (radians): forehead, temple, sideburn, over the ear, nape
HAIRLINE = ([0.0, 0.45, 0.75, 0.98, 1.16, 1.30, 1.42, 1.52, 1.75, 2.1, 2.5, 3.15],
            [8.02, 8.00, 7.86, 7.62, 7.30, 7.12, 7.14, 7.52, 7.50, 6.95, 6.62, 6.55])


def scalp(rest, ears, recession=0.0, lift=0.0):
    """Returns how much hair grows at places [N, 3] of the neutral head: [N], 0 to 1. ears: [N], 1 on them."""
    x, y, z = rest.T
    angle = np.arctan2(abs(x), z - 0.25)
    line = np.interp(angle, *HAIRLINE) + lift * (angle < 1.2)
    line = line + recession * smoothstep(angle, 0.15, 0.5) * (1 - smoothstep(angle, 0.8, 1.2))
    ragged = 0.025 * np.sin(x * 31 + z * 17) + 0.02 * np.sin(x * 67 - y * 41)
    return smoothstep(y + ragged - line, -0.05, 0.07) * (1 - smoothstep(ears, 0.05, 0.3))


def roots(mesh, points, density, count, random):
    """Returns vertices [S, 3] and weights [S, 3] of places on the mesh, drawn with a density [N] given at its vertices."""
    a, b, c = (points[mesh.triangles[:, corner]] for corner in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) * density[mesh.triangles].mean(axis=1)
    triangle = np.searchsorted(np.cumsum(area) / area.sum(), random.random(count))
    u, v = random.random((2, count))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    return mesh.triangles[np.minimum(triangle, len(area) - 1)], np.stack([1 - u - v, u, v], 1)


def at(values, place):
    """Returns values [N, K] of the vertices at the places of `roots`: [S, K]."""
    return (values[place[0]] * place[1][..., None]).sum(axis=1)


def grow(start, direction, length, gravity=0.0, body=None, hug=0.0, wild=0.0, random=None, curtain=None):
    """Returns strands [S, POINTS, 3] from start [S, 3] along direction [S, 3].

    length: [S]. gravity: how fast they bend down. wild: how far they stray. body: (points, normals) that they stay outside of,
    and to which they bend by `hug`. curtain: (side [S], -1 or 1, height), to keep strands out of the face below a height.
    """
    strands, place, heading = [start], start, unit(direction)
    tree = cKDTree(body[0]) if body else None
    step = (length / (POINTS - 1))[:, None]
    for number in range(1, POINTS):
        bend = np.array([0, -1, 0]) * gravity * step + (random.normal(size=heading.shape) * wild if wild else 0)
        if body:
            _, near = tree.query(place)
            over = ((place - body[0][near]) * body[1][near]).sum(axis=1, keepdims=True)
            bend = bend - body[1][near] * np.clip(over * 4, 0, 1) * hug * step
        heading = unit(heading + bend)
        place = place + heading * step
        if body:
            over = ((place - body[0][near]) * body[1][near]).sum(axis=1, keepdims=True)
            place = place + body[1][near] * np.clip(0.02 + np.minimum(0.012 * number, 0.25 * step * number) - over, 0, 0.5)
            if curtain is not None:
                least = 0.68 * smoothstep(curtain[1] - place[:, 1], 0.0, 0.42) * (place[:, 2] > -0.1)
                aside = np.clip(least - place[:, 0] * curtain[0], 0, 2 * step[:, 0])
                place = place + np.stack([curtain[0] * aside, 0 * aside, 0 * aside], 1)
            heading = unit(place - strands[-1])
        strands.append(place)
    return np.stack(strands, 1)


def clumped(strands, count, strength, random):
    """Returns strands drawn together into `count` locks, more so towards the tips."""
    guides = strands[random.choice(len(strands), count, replace=False)]
    apart = [[4.0, 1.0, 1.0]]       # so that no lock has hairs of both sides of a parting
    guide = guides[cKDTree(guides[:, 1] * apart).query(strands[:, 1] * apart)[1]]
    pull = strength * smoothstep(np.linspace(0, 1, POINTS), 0.0, 0.9)[None, :, None]
    return strands * (1 - pull) + guide * pull + (strands[:, :1] - guide[:, :1]) * pull * 0.35


def curled(strands, radius, turns, random):
    """Returns strands wound into curls: radius in decimetres, turns along each."""
    along = unit(strands[:, -1] - strands[:, 0])
    side = unit(np.cross(along, [0.31, 0.2, 0.93]))
    phase = np.floor(strands[:, 0] @ [5.0, 5.1, 4.9] * 1.7)[:, None] * 2.4 + random.normal(size=(len(strands), 1)) * 0.35
    part = np.linspace(0, 1, POINTS)
    angle = (phase + 2 * np.pi * turns * part)[..., None]
    wide = radius * smoothstep(part, 0, 0.35)[None, :, None]
    return strands + wide * (np.cos(angle) * side[:, None] + np.sin(angle) * np.cross(along, side)[:, None])


# name: length, lift from the scalp, gravity, hug, wildness, radius and turns of curls, pull into locks
STYLES = {
    "shaved": (0.05, 0.9, 0.0, 0.0, 0.00, 0.0, 0, 0.0),
    "crop": (0.26, 0.50, 0.4, 2.0, 0.05, 0.0, 0, 0.35),
    "quiff": (0.50, 0.70, 0.3, 4.0, 0.04, 0.02, 0.6, 0.45),
    "parted": (0.80, 0.30, 1.0, 5.0, 0.03, 0.02, 0.5, 0.45),
    "bob": (1.45, 0.30, 1.8, 3.0, 0.015, 0.03, 0.8, 0.40),
    "long": (2.7, 0.30, 1.6, 2.5, 0.012, 0.04, 1.2, 0.45),
    "waves": (2.5, 0.38, 1.4, 2.0, 0.02, 0.08, 2.6, 0.55),
    "curls": (0.85, 0.70, 1.0, 2.0, 0.02, 0.07, 2.0, 0.6),
    "afro": (0.34, 1.0, 0.05, 0.5, 0.12, 0.05, 2.0, 0.3),
    "back": (1.00, 0.12, 0.15, 6.0, 0.01, 0.0, 0, 0.35),
}


def hairdo(mesh, points, normals, ears, scalp, height, person, random, count):
    """Returns the strands [S, POINTS, 3] of a person's head hair, without a turn.

    points, normals: [N, 3] of the person's own shape. ears, scalp: [N], 0 to 1. height: of the eyes. random: the generator.
    """
    style = person["hair"]
    length, lift, gravity, hug, wild, radius, turns, pull = STYLES[style]
    place = roots(mesh, points, scalp, count, random)
    start, normal, rest = at(points, place), at(normals, place), at(mesh.rest, place)
    x, y, z = rest.T
    part = np.where(x < person["part"], -1, 1) * np.clip(abs(x - person["part"]) * 6, 0.6, 1)
    if style in ("back", "quiff"):
        comb = np.stack([0.12 * part, np.full_like(x, 0.1), np.full_like(x, -1.0)], 1)
    else:
        comb = np.stack([part, np.full_like(x, -0.05), 0.30 - 0.55 * abs(x)], 1)
    if style not in ("back", "afro", "curls"):
        top = smoothstep(y, 7.75, 8.15)[:, None]
        down = np.stack([0.1 * np.sign(x), np.full_like(x, -1.0), np.full_like(x, -0.3)], 1)
        comb = comb * top + down * (1 - top)
    comb = comb + 0.25 * np.stack([np.sin(rest @ wave) for wave in ([9, 5, 7], [4, 11, 6], [7, 6, 10])], 1)
    tangent = unit(comb - normal * (comb * normal).sum(axis=1, keepdims=True))
    short = style in ("crop", "quiff", "parted", "back")
    full = smoothstep(y, 7.2, 8.1) if short else np.ones_like(y)      # shorter at the sides
    lengths = length * person["length"] * (0.18 + 0.82 * full) * random.uniform(0.82, 1.08, count)
    near = (mesh.kind == SKIN) & (ears < 0.1)
    body = points[near], unit(mesh.smooth(normals, 25))[near]
    curtain = (np.sign(part), height + 0.72) if length > 1 and style != "back" else None
    towards = tangent + normal * (lift * (0.25 + 0.75 * full))[:, None]
    strands = grow(start, towards, lengths, gravity, body if length > 0.1 else None, hug, wild, random, curtain)
    if pull:
        strands = clumped(strands, min(260, count // 8), pull, random)
    if radius:
        strands = curled(strands, radius, turns * person["length"], random)
    x, y, z = np.moveaxis(strands, -1, 0)
    over_face = (abs(x) < 0.5) & (y < height - 0.2) & (z > 0.1)
    if curtain is not None:
        over_face |= (abs(x) < 0.45) & (y < height + 0.6) & (z > 0.9)
    return strands[~over_face.any(axis=1)]
