"""MakeHuman's mesh above the chest, its shape targets, and its subdivision."""
import gzip
from functools import cache, cached_property
from pathlib import Path

import cv2
import numpy as np
from scipy import sparse

from .rendering import vertex_normals

SKIN, EYE, TEETH, TONGUE, UPPER_LASHES = range(5)
PARTS = {"body": SKIN, "helper-l-eye": EYE, "helper-r-eye": EYE, "helper-upper-teeth": TEETH, "helper-lower-teeth": TEETH,
         "helper-tongue": TONGUE, "helper-l-eyelashes-2": UPPER_LASHES, "helper-r-eyelashes-2": UPPER_LASHES}
LOWEST = 3.7        # decimetres; the top of the head is at about 8.4, the neck begins at 5.9


class Mesh:
    """The neutral human. Units are decimetres: x to the picture's right edge, y up, z to the viewer.

    coarse: float [V, 3], the vertices that targets move. rest: float [N, 3], those of the finer mesh that is drawn.
    triangles: int [T, 3], and kind: int [N], SKIN to UPPER_LASHES, of the finer mesh. uv: float [N, 2].
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        vertices, texture, groups, group = [], [], {}, None
        for line in (self.folder / "mpfb2/3dobjs/base.obj").read_text().splitlines():
            name, *values = line.split() or [""]
            if name == "v":
                vertices.append([float(value) for value in values])
            elif name == "vt":
                texture.append([float(value) for value in values])
            elif name == "g":
                group = groups.setdefault(values[0], [])
            elif name == "f":
                group.append([[int(number) - 1 for number in value.split("/")] for value in values])
        self.coarse = np.array(vertices, float)
        quads = {name: np.array(groups[name]) for name in PARTS}
        body = quads["body"]
        quads["body"] = body[self.coarse[body[..., 0], 1].min(axis=1) > LOWEST]
        corners = np.concatenate(list(quads.values()))
        kinds = np.concatenate([np.full(len(quads[name]), kind) for name, kind in PARTS.items()])
        self.used, index = np.unique(corners[..., 0], return_inverse=True)
        index = index.reshape(-1, 4)
        uv, kind = np.zeros((len(self.used), 2)), np.zeros(len(self.used), int)
        uv[index], kind[index] = np.array(texture)[corners[..., 1]], kinds[:, None]
        self.finer, fine = catmull_clark(index, len(self.used))
        self.rest, self.uv = self.finer @ self.coarse[self.used], self.finer @ uv
        self.kind = (self.finer @ np.eye(5)[kind]).argmax(axis=1)
        self.triangles = np.concatenate([fine[:, [0, 1, 2]], fine[:, [0, 2, 3]]])
        edges = np.concatenate([fine[:, [a, b]] for a, b in ((0, 1), (1, 2), (2, 3), (3, 0))])
        links = sparse.coo_matrix((np.ones(len(edges)), edges.T), (len(self.rest),) * 2).tocsr()
        links = ((links + links.T) > 0).astype(float)
        self.neighbours = sparse.diags(1 / np.asarray(links.sum(axis=1)).ravel()) @ links

    @cached_property
    def targets(self):
        """{name: path} of every shape target; those of the face units begin with "unit "."""
        files = sorted(self.folder.glob("mpfb2/targets/*/*.target.gz"))
        units = sorted(self.folder.glob("faceunits01/targets/faceunits/*.target"))
        return {path.name[:-10]: path for path in files} | {f"unit {path.stem}": path for path in units}

    @cache  # noqa: B019  one mesh a process
    def target(self, name):
        """Returns the vertices that a target moves and by how much: int [K], float [K, 3]."""
        content = self.targets[name].read_bytes()
        text = (gzip.decompress(content) if self.targets[name].suffix == ".gz" else content).decode()
        rows = np.array(" ".join(line for line in text.splitlines() if not line.startswith("#")).split(), float).reshape(-1, 4)
        return rows[:, 0].astype(int), rows[:, 1:]

    def shaped(self, weights):
        """Returns the finer mesh [N, 3] with targets applied. weights: {name: weight}."""
        moved = self.coarse.copy()
        for name, weight in weights.items():
            index, offset = self.target(name)
            moved[index] += weight * offset
        return self.finer @ moved[self.used]

    def normals(self, points):
        """Returns unit normals [N, 3] of the mesh whose vertices are at points [N, 3]."""
        return vertex_normals(points, self.triangles)

    def smooth(self, values, times):
        """Returns values [N, K], averaged with those of neighbouring vertices."""
        for _ in range(times):
            values = (values + self.neighbours @ values) / 2
        return values

    def texture(self, name):
        """Returns one of MPFB's masks at every vertex [N], 0 to 1."""
        mask = cv2.imread(str(self.folder / f"mpfb2/textures/mpfb_{name}.jpg"), cv2.IMREAD_GRAYSCALE)
        side = np.array(mask.shape[::-1]) - 1
        x, y = (np.clip(self.uv * [1, -1] + [0, 1], 0, 1) * side).round().astype(int).T
        return cv2.GaussianBlur(mask, (0, 0), 2)[y, x] / 255


def catmull_clark(quads, count):
    """Returns (matrix [N, count], finer quads [4Q, 4]).

    Each quad becomes four, then each vertex goes to the mean of the centres of its quads.
    """
    sides = np.stack([quads, np.roll(quads, -1, axis=1)], -1).reshape(-1, 2)
    edges, edge_of = np.unique(np.sort(sides, axis=1), axis=0, return_inverse=True)
    side, centre = edge_of.reshape(-1, 4) + count, np.arange(len(quads)) + count + len(edges)
    finer = np.stack([np.stack([quads[:, k], side[:, k], centre, side[:, k - 1]], 1) for k in range(4)], 1).reshape(-1, 4)
    total = count + len(edges) + len(quads)
    split = sparse.vstack([sparse.identity(count), mean_of(edges, count), mean_of(quads, count)])
    touching = mean_of(finer, total).T * 4
    average = sparse.diags(1 / np.asarray(touching.sum(axis=1)).ravel()) @ touching @ mean_of(finer, total)
    border = np.zeros(total, bool)
    once = np.bincount(edge_of.ravel()) == 1
    border[edges[once]], border[np.flatnonzero(once) + count] = True, True
    inner = sparse.diags((~border).astype(float))
    return ((inner @ average + sparse.diags(border.astype(float))) @ split).tocsr(), finer


def mean_of(groups, count):
    """Returns the matrix [G, count] that averages the vertices of each group [G, K]."""
    rows = np.repeat(np.arange(len(groups)), groups.shape[1])
    return sparse.coo_matrix((np.full(groups.size, 1 / groups.shape[1]), (rows, groups.ravel())), (len(groups), count)).tocsr()
