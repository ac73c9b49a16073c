"""Hairs of scalp, brows, lashes and beard: roots on a mesh, and strands that grow from them. Lengths are in decimetres."""
import numpy as np
from scipy.spatial import cKDTree
from trimesh.util import unitize

from . import head, skin
from .skin import smoothstep

POINTS = 16     # along a strand
# length, lift from the skin, gravity, how it bends to the head, wildness, radius
STYLES = {"shaved": (0.05, 0.9, 0.0, 0.0, 0.00, 0.004), "crop": (0.26, 0.50, 0.4, 2.0, 0.05, 0.006),
          "parted": (0.80, 0.30, 1.0, 5.0, 0.03, 0.006), "back": (1.00, 0.12, 0.8, 6.0, 0.03, 0.006),
          "bob": (1.45, 0.30, 1.8, 3.0, 0.03, 0.006), "long": (2.7, 0.30, 1.6, 2.5, 0.03, 0.006),
          "afro": (0.50, 1.0, 0.05, 0.5, 0.6, 0.006), "brows": (0.065, 0.05, 0.0, 0.0, 0.0, 0.002),
          "lashes": (0.034, 0.0, -4.0, 0.0, 0.0, 0.0015), "beard": (0.08, 0.3, 2.0, 0.0, 0.05, 0.0025)}


def grow(mesh, neutral, density, count, style, comb, random):
    """Returns strands [S, POINTS, 3] from places on a mesh that are drawn with a density [N], and their places when neutral.

    neutral: [N, 3], the vertices of the neutral mesh. comb: function that returns directions at places x, y, z of it.
    """
    length, lift, gravity, hug, wild, _ = STYLES[style]
    area = mesh.area_faces * density[mesh.faces].mean(axis=1)
    corners, parts = mesh.faces[random.choice(len(area), count, p=area / area.sum())], random.dirichlet([1, 1, 1], (count, 1))
    start, normal, roots = (np.matmul(parts, values[corners])[:, 0] for values in (mesh.vertices, mesh.vertex_normals, neutral))
    heading = np.stack([np.broadcast_to(part, count) for part in comb(*roots.T)], 1)
    heading = unitize(heading - normal * (heading * normal).sum(axis=1, keepdims=True) * (lift > 0)) + lift * normal
    heading = unitize(heading + random.normal(size=heading.shape) * 0.1)
    step = length * random.uniform(0.6, 1.0, (count, 1)) / (POINTS - 1)
    if style in ("crop", "parted"):      # shorter at the sides
        step = step * (0.18 + 0.82 * smoothstep(roots[:, 1:2], 7.2, 8.1))
    strands, tree = [start], cKDTree(mesh.vertices[::4])
    for number in range(1, POINTS):
        place = strands[-1]
        heading = heading + np.array([0, -1, 0]) * gravity * step + random.normal(size=heading.shape) * wild
        if hug:         # it lies on the head, further out towards the tip, and does not enter it
            near = tree.query(place)[1] * 4
            over = ((place - mesh.vertices[near]) * mesh.vertex_normals[near]).sum(axis=1, keepdims=True)
            heading = heading - mesh.vertex_normals[near] * np.clip(over * 4, 0, 1) * hug * step
            place = place + mesh.vertex_normals[near] * np.clip(0.01 + np.minimum(0.012, 0.25 * step) * number - over, 0, 0.5)
        strands.append(place + unitize(heading) * step)
        heading = unitize(strands[-1] - strands[-2])
    return np.stack(strands, 1), roots


def hairs(person, body, count, random):
    """Yields the strands [S, POINTS, 3] of a person's hair, brows, lashes and beard, their radius, and their colour [3]."""
    style, colour = person["hair"], skin.linear(person["hair_colour"])
    neutral, _, beard, _, scalp, brows = skin.places()

    def combed(x, y, z):
        side = np.where(x < person["part"], -1, 1)
        top = smoothstep(y, *{"back": (6.9, 7.5), "afro": (0, 1), "shaved": (0, 1)}.get(style, (7.75, 8.15)))
        over = (0.12 * side, 0.1, -1) if style == "back" else (side, -0.05, 0.30 - 0.55 * abs(x))
        return [above * top + below * (1 - top) for above, below in zip(over, (0.1 * side, -1, -0.3), strict=True)]
    strands, roots = grow(body.mesh, neutral, scalp, count * (1 + (style == "shaved")), style, combed, random)
    guide = random.choice(len(strands), count // 40)        # of the lock to which a hair is drawn
    guide = guide[cKDTree(roots[guide]).query(roots)[1]]
    strands = strands + (strands[guide] - strands) * 0.4 * smoothstep(np.linspace(0, 1, POINTS), 0, 0.9)[:, None]
    x, y, z = np.moveaxis(strands, -1, 0)
    strands = strands[~((abs(x) < 0.5) & (y < body.eyes[0][1] + 0.6) & (z > 0.6)).any(axis=1)]      # not before the face
    for part in range(4):
        yield strands[part::4], STYLES[style][-1], colour * (0.75 + 0.2 * part)
    coarse = head.base()[0]
    for kind, mesh, rest, density, number, shade, comb in (
            ("brows", body.mesh, neutral, brows, 900 * person["brow"], colour * 0.8,
             lambda x, y, z: (np.sign(x), 0.5 - 1.4 * smoothstep(abs(x), 0.12, 0.5), 0)),
            ("lashes", body.lids, coarse, np.ones(len(coarse)), 300, colour * 0.1,
             lambda x, y, z: (0.5 * np.sign(x) * smoothstep(abs(x), 0.2, 0.45), 0.6, 0.9)),
            ("beard", body.mesh, neutral, beard, 7000 * person["beard"], colour, lambda x, y, z: (0.3 * x, -1, 0.3))):
        if number:
            yield grow(mesh, rest, density, int(number), kind, comb, random)[0], STYLES[kind][-1], shade
