"""Pixels and light: a z-buffer in numpy, soft light from many directions, and the shadows of heads and hair."""
import cv2
import numpy as np

SIZES = (2, 4, 8, 16, 32, 64, 128, 256)     # pixels; triangles are drawn in groups of about the same size
DIRECTIONS = 30
CELL = 0.05        # decimetres, of the grids in which shadows are found
NEAR, SOFT = 0.07, 0.12     # decimetres: what is this near throws no shadow, what is further throws a whole one


def smoothstep(value, low, high):
    """Returns 0 below low, 1 above high, and a smooth transition between."""
    part = np.clip((value - low) / (high - low), 0, 1)
    return part * part * (3 - 2 * part)


class Light:
    """A studio: a large soft box at `key`, a fainter one on the other side, one behind, and bright walls.

    directions: unit vectors [D, 3] towards the light. colours: float [D, 3].
    """

    def __init__(self, key=(-0.55, 0.5, 0.75), strength=1.0):
        number = np.arange(DIRECTIONS) + 0.5
        height, angle = 1 - 2 * number / DIRECTIONS, number * np.pi * (1 + 5 ** 0.5)
        flat = np.sqrt(1 - height ** 2)
        self.directions = np.stack([flat * np.cos(angle), height, flat * np.sin(angle)], 1)
        self.key = np.array(key) / np.linalg.norm(key)
        fill, rim = np.array([-np.sign(key[0]) * 0.8, 0.05, 0.6]), np.array([-np.sign(key[0]) * 0.75, 0.35, -0.6])

        def box(towards, sharpness):
            lobe = np.exp(sharpness * (self.directions @ (towards / np.linalg.norm(towards)) - 1))
            return (lobe / lobe.sum())[:, None]
        walls = (0.6 + 0.4 * self.directions[:, 1:2]) / DIRECTIONS
        self.colours = (1.95 * strength * box(self.key, 9) * [1.05, 1.0, 0.94] + 0.55 * box(fill, 5) * [0.95, 1.0, 1.06]
                        + 0.9 * box(rim, 14) * [1.0, 1.0, 1.02] + 1.3 * walls * [0.98, 1.0, 1.03])

    def visible(self, points, occluders, direction):
        """Returns how much of the light from a direction reaches points [N, 3] past occluders [M, 3]: [N], 0 to 1."""
        points, occluders = points.astype(np.float32), occluders.astype(np.float32)
        across = np.cross(direction, [0.3, 0.9, 0.2] if abs(direction[1]) < 0.9 else [1.0, 0, 0])
        axes = np.stack([across, np.cross(across, direction)]).T.astype(np.float32) / np.linalg.norm(across).astype(np.float32)
        direction = direction.astype(np.float32)
        low = np.float32([-8, -8])
        cells = int(16 / CELL)
        x, y = np.clip(((occluders @ axes - low) / CELL).astype(int), 0, cells - 1).T
        nearest = np.full(cells * cells, -99.0, np.float32)
        np.maximum.at(nearest, y * cells + x, occluders @ direction)
        nearest = cv2.dilate(nearest.reshape(cells, cells).astype(np.float32), np.ones((3, 3)))
        at = np.clip((points @ axes - low) / CELL - 0.5, 0, cells - 2)
        own = points @ direction + NEAR
        x, y = at.astype(int).T
        fx, fy = (at - at.astype(int)).T

        def free(dx, dy):
            return 1 - np.clip((nearest[y + dy, x + dx] - own) / SOFT, 0, 1)
        return (free(0, 0) * (1 - fx) + free(1, 0) * fx) * (1 - fy) + (free(0, 1) * (1 - fx) + free(1, 1) * fx) * fy

    def on_surface(self, points, normals, occluders):
        """Returns the light [N, 3] that falls on a matt surface."""
        total = np.zeros((len(points), 3))
        for direction, colour in zip(self.directions, self.colours, strict=True):
            facing = np.clip(normals @ direction, 0, None)
            lit = facing > 0
            total[lit] += (facing[lit] * self.visible(points[lit], occluders, direction))[:, None] * colour
        return total

    def on_hair(self, strands, colours, occluders):
        """Returns the light [S, 4, 3] of four places along each of strands [S, P, 3]: J. Kajiya and T. Kay's model, 1989."""
        every = (strands.shape[1] - 1) // 3
        tangents = unit(np.gradient(strands, axis=1))[:, ::every].reshape(-1, 3)
        points, colour = strands[:, ::every].reshape(-1, 3), np.repeat(colours, 4, axis=0)
        total = np.zeros((len(points), 3))
        for direction, radiance in zip(self.directions, self.colours, strict=True):
            across = np.sqrt(np.clip(1 - (tangents @ direction) ** 2, 0, 1))[:, None]
            gloss = np.sqrt(np.clip(1 - (tangents @ unit(direction + [0, 0, 1])) ** 2, 0, 1))[:, None]
            seen = self.visible(points, occluders, direction)[:, None] * radiance
            total += seen * ((0.15 + 0.85 * across) * colour * 0.9 + gloss ** 60 * (0.03 + 0.4 * colour)
                             + gloss ** 14 * 0.4 * colour)
        return total.reshape(len(strands), 4, 3)


def unit(vectors):
    """Returns vectors [..., 3] made one long."""
    return vectors / (np.sqrt(np.einsum("...k,...k", vectors, vectors))[..., None] + 1e-9)


def vertex_normals(points, triangles):
    """Returns unit normals [N, 3] of a surface, smooth over its edges."""
    a, b, c = (points[triangles[:, corner]] for corner in range(3))
    across, vertices = np.cross(b - a, c - a), triangles.T.ravel()
    return unit(np.stack([np.bincount(vertices, np.tile(across[:, axis], 3), len(points)) for axis in range(3)], 1))


def tube(path, radius, sides=7):
    """Returns vertices and triangles of a round bar along a path [P, 3]."""
    ahead = unit(np.gradient(path, axis=0))
    first = unit(np.cross(ahead, [0.1, 0.2, 0.97]))
    angle = np.arange(sides) * 2 * np.pi / sides
    ring = np.cos(angle)[:, None] * first[:, None] + np.sin(angle)[:, None] * np.cross(ahead, first)[:, None]
    row, column = np.divmod(np.arange((len(path) - 1) * sides), sides)
    a, b = row * sides + column, row * sides + (column + 1) % sides
    triangles = np.concatenate([np.stack([a, b, b + sides], 1), np.stack([a, b + sides, a + sides], 1)])
    return (path[:, None] + radius * ring).reshape(-1, 3), triangles


def along(values, strand, part):
    """Returns values [S, K, C] of strands [F] at parts [F] of their length: [F, C]."""
    place = part * (values.shape[1] - 1)
    before = np.minimum(place.astype(int), values.shape[1] - 2)
    rest = (place - before)[:, None]
    return values[strand, before] * (1 - rest) + values[strand, before + 1] * rest


def triangle_fragments(screen, triangles, side):
    """Returns pixel [F], depth [F], triangle [F] and weights [F, 3] of all pixels inside of triangles.

    screen: [N, 3], x and y in pixels and the depth, smaller is nearer. side: of the square picture in pixels.
    """
    corners = screen.astype(np.float32)[triangles]
    low = np.floor(corners[..., :2].min(axis=1)).astype(int)
    extent = (np.ceil(corners[..., :2].max(axis=1)).astype(int) - low).max(axis=1)
    found, least = [], 0
    for most in SIZES:
        group = np.flatnonzero((extent > least) & (extent <= most))
        least = most
        for chosen in np.array_split(group, len(group) * most * most // 2_000_000 + 1):
            y, x = np.divmod(np.arange(most * most), most)
            at = low[chosen, None] + np.stack([x, y], -1)                                # [T, most², 2]
            a, b, c = corners[chosen].swapaxes(0, 1)
            (bx, by), (cx, cy) = (b - a)[:, :2].T, (c - a)[:, :2].T
            area = bx * cy - by * cx
            px, py = at[..., 0] + 0.5 - a[:, :1], at[..., 1] + 0.5 - a[:, 1:2]
            area = np.where(abs(area) < 1e-9, 1e9, area)[:, None]
            second, third = (px * cy[:, None] - py * cx[:, None]) / area, (py * bx[:, None] - px * by[:, None]) / area
            inside = (second >= 0) & (third >= 0) & (second + third <= 1) & (at >= 0).all(-1) & (at < side).all(-1)
            number, _ = np.nonzero(inside)
            weights = np.stack([1 - second[inside] - third[inside], second[inside], third[inside]], 1)
            depth = (weights * np.stack([a[:, 2], b[:, 2], c[:, 2]], 1)[number]).sum(axis=1)
            found.append((at[inside] @ [1, side], depth, chosen[number], weights))
    return [np.concatenate(values) for values in zip(*found, strict=True)]


def strand_fragments(screen, side, width):
    """Returns pixel [F], depth [F], strand [F] and part [F] (0 root to 1 tip) of hairs.

    screen: [S, P, 3], P points along each of S hairs. width: [S], pixels at the root; hairs get thinner towards their tips.
    """
    length = np.linalg.norm(np.diff(screen[..., :2], axis=1), axis=-1).sum(axis=1)
    count = np.clip(length * 1.1, 4, None).astype(int)
    strand = np.repeat(np.arange(len(screen)), count)
    part = (np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)) / (count[strand] - 1)
    points, before = along(screen, strand, part), np.minimum((part * (screen.shape[1] - 1)).astype(int), screen.shape[1] - 2)
    ahead = (screen[strand, before + 1] - screen[strand, before])[:, :2]
    across = ahead[:, ::-1] * [-1, 1] / (np.linalg.norm(ahead, axis=1, keepdims=True) + 1e-9)
    wide = width[strand] / 2 * (1.1 - part) + 0.3
    found = []
    for offset in np.arange(-np.floor(wide.max()), wide.max()):
        thick = abs(offset) <= wide
        x, y = np.floor(points[thick, :2] + offset * across[thick]).astype(int).T
        seen = (x >= 0) & (y >= 0) & (x < side) & (y < side)
        found.append(((y * side + x)[seen], points[thick, 2][seen], strand[thick][seen], part[thick][seen]))
    return [np.concatenate(values) for values in zip(*found, strict=True)]


def nearest(pixel, depth, side):
    """Returns the fragment nearest to the viewer at each pixel [side * side], -1 where there is none."""
    key = np.ascontiguousarray(depth, np.float32).view(np.int32).astype(np.int64) << 32 | np.arange(len(depth))
    best = np.full(side * side, np.iinfo(np.int64).max)
    np.minimum.at(best, pixel, key)
    return np.where(best == np.iinfo(np.int64).max, -1, best & 0xFFFFFFFF)
