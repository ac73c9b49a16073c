"""A person who can be drawn: skin, hairs, glasses and clothes in space, and in a pose before the camera."""
import numpy as np

from . import hair, rendering
from . import person as people
from .hair import at
from .mesh import EYE, SKIN, UPPER_LASHES
from .paint import CAMERA, FRAME, Paint, tone
from .rendering import smoothstep, unit

EXPOSURE = 0.86
NOSE, MOUTH = (0.0, 6.98, 1.67), (0.255, 6.617, 1.431)    # of the neutral head: just above the tip, one corner of the lips
LASHES = np.array([0.012, 0.009, 0.008])


def rotation(yaw, pitch, roll):
    """Returns the matrix [3, 3] that turns a head by degrees: yaw to the picture's right edge, pitch up, roll clockwise.

    Pitch comes first, roll last, as in the pack's keypoints/head.py; here y points up.
    """
    (c1, s1), (c2, s2), (c3, s3) = ((np.cos(angle), np.sin(angle)) for angle in np.radians([yaw, pitch, roll]))
    turn, nod = np.array([[c1, 0, s1], [0, 1, 0], [-s1, 0, c1]]), np.array([[1, 0, 0], [0, c2, s2], [0, -s2, c2]])
    return np.array([[c3, s3, 0], [-s3, c3, 0], [0, 0, 1]]) @ turn @ nod


class Sitter:
    """A person with an expression. hairs: how many grow on the scalp."""

    def __init__(self, mesh, person, hairs=8000):
        self.mesh, self.person = mesh, person
        self.random = np.random.default_rng(person["seed"] + 2)
        self.points = mesh.shaped(person["shape"] | people.expression(mesh, person["expression"]))
        balls = [(mesh.kind == EYE) & (np.sign(mesh.rest[:, 0]) == side) for side in (-1, 1)]
        self.eyes = np.array([self.points[ball].mean(axis=0) for ball in balls])
        self.radius = np.linalg.norm(self.points[balls[0] | balls[1]] - self.eyes[0], axis=1).min()
        for ball, eye in zip(balls, self.eyes, strict=True):
            self.points[ball] = eye + unit(self.points[ball] - eye) * self.radius
        self.pivot = self.eyes.mean(axis=0) - [0, 0.75, 1.1]
        self.on_skin, self.ears, self.lips = mesh.kind == SKIN, mesh.texture("ears"), mesh.texture("lips")
        self.scalp = hair.scalp(mesh.rest, self.ears, person["recession"], person["lift"]) * self.on_skin
        self.paint = Paint(person)
        self.groups = []        # of hairs: strands, colours, widths
        neutral = mesh.shaped(person["shape"])
        body = mesh, neutral, mesh.normals(neutral), self.ears, self.scalp
        width = 0.006 if person["hair"] == "shaved" else 0.013
        hairs = 2 * hairs if person["hair"] == "shaved" else hairs
        self._add(hair.hairdo(*body, self.eyes[0][1], person, self.random, hairs), self.paint.hair, width, 0.18)
        self._grow_on_face()
        self.frame = self._glasses() if person["glasses"] else (np.zeros((0, 3)), np.zeros((0, 3), int))
        smooth, dressed = mesh.smooth(self.points, 14), self.paint.dressed(mesh.rest, 0.08) * self.on_skin
        self.cloth = dressed > 0.5
        self.points += (smooth + mesh.normals(smooth) * 0.07 * dressed[:, None] - self.points) * dressed[:, None]

    # ---- hairs and glasses

    def _add(self, strands, colour, width, spread=0.1):
        colours = colour * np.exp(self.random.normal(size=(len(strands), 1)) * spread)
        self.groups.append((strands, colours, np.full(len(strands), width)))

    def _grow(self, density, count, length, direction, lift, colour, width, gravity=0.0):
        """Grows hairs on the face. direction: function of places and their distance from the middle."""
        place = hair.roots(self.mesh, self.points, density, count, self.random)
        rest, normal = at(self.mesh.rest, place), at(self.mesh.normals(self.points), place)
        towards = np.stack([np.broadcast_to(part, len(rest)) for part in direction(rest[:, 0], abs(rest[:, 0]))], 1)
        towards = unit(towards - (normal * (towards * normal).sum(axis=1, keepdims=True) if lift else 0))
        towards = towards + lift * normal + self.random.normal(size=towards.shape) * 0.1
        lengths = length * self.random.uniform(0.6, 1.1, count)
        self._add(hair.grow(at(self.points, place) + normal * 0.004, towards, lengths, gravity), colour, width)

    def _grow_on_face(self):
        """Brows, lashes and a beard."""
        person, rest = self.person, self.mesh.rest
        self._grow(self.paint.brows(rest) * self.on_skin, int(1500 * person["brow"]), 0.075,
                   lambda x, out: (np.sign(x), 0.75 - 1.9 * smoothstep(out, 0.12, 0.5), 0), 0.05, self.paint.brow, 0.003)
        lashes = (self.mesh.kind == UPPER_LASHES) & (rest[:, 2] < 1.40)
        self._grow(lashes.astype(float), 110, 0.026 if person["male"] else 0.036,
                   lambda x, out: (0.5 * np.sign(x) * smoothstep(out, 0.2, 0.45), 0.6, 0.9), 0.0, LASHES, 0.002, gravity=-4)
        if person["beard"]:
            area = self.paint.beard(rest) * (1 - self.lips) * (1 - self.ears) * self.on_skin
            self._grow(area, int(14000 * (0.4 + person["beard"])), 0.05 + 0.10 * person["beard"],
                       lambda x, out: (0.3 * x, -1.0, 0.3), 0.35, self.paint.hair * 0.9, 0.005, gravity=2)

    def _glasses(self):
        """Returns the vertices [M, 3] and triangles of glasses: two rims, a bridge and two temples."""
        wide, high, corner, thick = people.GLASSES[self.person["glasses"]]
        points, eye = self.points, abs(self.eyes).mean(axis=0)
        turn = np.linspace(0, 2 * np.pi, 49)
        cos, sin = (np.sign(wave) * abs(wave) ** corner for wave in (np.cos(turn), np.sin(turn)))
        x, y = max(eye[0] * 1.08, wide + 0.1) + wide * cos, eye[1] - 0.03 + high * sin
        rim = np.stack([x, y, eye[2] + self.radius + 0.17 - 0.22 * np.clip(x, 0, None) ** 2], 1)
        inner, outer = rim[np.argmin(x)], rim[np.argmax(x)] + [0, 0.06, 0]
        level = self.on_skin & (self.ears < 0.05) & (abs(points[:, 1] - eye[1] - 0.06) < 0.07)

        def temple(sign):       # along the side of the head, which need not be like the other one
            path = [outer]
            for back in (0.3, 0.45, 0.55):
                near = level & (abs(points[:, 2] - eye[2] + back) < 0.12)
                path.append([np.quantile(sign * points[near, 0], 0.985) + 0.02, eye[1] + 0.06, eye[2] - back])
            return np.array([*path, path[-1] - np.array([0.02, 0, 0.25])]) * [sign, 1, 1]
        arch = np.linspace(0, np.pi, 9)
        bridge = np.stack([-inner[0] * np.cos(arch), inner[1] + 0.05 + 0.03 * np.sin(arch), np.full(9, inner[2])], 1)
        parts = [rendering.tube(path, thick) for path in (rim, rim * [-1, 1, 1], bridge, temple(1), temple(-1))]
        first = np.cumsum([0] + [len(vertices) for vertices, _ in parts[:-1]])
        return (np.concatenate([vertices for vertices, _ in parts]),
                np.concatenate([triangles + start for start, (_, triangles) in zip(first, parts, strict=True)]))

    # ---- in a pose

    def landmarks(self):
        """Returns the places [5, 3] of the five points: the fronts of the eyes, the nose's tip, the corners of the mouth."""
        places = np.array([NOSE, np.array(MOUTH) * [-1, 1, 1], MOUTH])
        nearest = np.linalg.norm(self.mesh.rest - places[:, None], axis=-1).argmin(axis=1)
        return np.concatenate([self.eyes + [0, 0, self.radius], self.points[nearest]])

    def draw(self, light, yaw=0.0, pitch=0.0, roll=0.0, side=256, scale=0.30, shift=(0.0, 0.05), finer=2):
        """Returns sRGB [side, side, 3] of 0 to 1, opacity [side, side] and the five true points [5, 2] in pixels.

        scale: parts of the picture a decimetre is. shift: of the point between eyes and mouth from the middle, in parts.
        finer: how many times smaller the pixels are that are averaged.
        """
        mesh, full, turn = self.mesh, side * finer, rotation(yaw, pitch, roll)

        def pose(points, whole=False):      # the neck bends with the head, the chest does not
            amount = 1.0 if whole else smoothstep(points[..., 1:2] - self.pivot[1], -0.75, 0.15)
            return points + amount * ((points - self.pivot) @ turn.T + self.pivot - points)
        middle = pose(self.eyes.mean(axis=0) - [0, 0.3, -0.2], whole=True)

        def project(points):
            offset = points - [middle[0], middle[1], 0]
            distance = CAMERA - offset[..., 2]
            size = scale * full * CAMERA / distance
            return np.stack([full * (0.5 + shift[0]) + size * offset[..., 0],
                             full * (0.5 + shift[1]) - size * offset[..., 1], distance], -1)
        strands, colours, widths = (np.concatenate(parts) for parts in zip(*self.groups, strict=True))
        posed, strands = pose(self.points), pose(strands)
        on_scalp = len(self.groups[0][0])
        occluders = np.concatenate([posed[mesh.kind < UPPER_LASHES], strands[:on_scalp:2, ::2].reshape(-1, 3)])
        shown = mesh.triangles[(mesh.kind[mesh.triangles] < UPPER_LASHES).all(axis=1)]
        (ax, ay), (bx, by) = (np.diff(project(posed)[shown[:, [0, k]], :2], axis=1)[:, 0].T for k in (1, 2))
        surface = self._surface(light, posed, shown[ax * by < ay * bx], pose(self.frame[0], whole=True), occluders)
        shine = light.on_hair(strands, colours, occluders)

        pixel, depth, triangle, weights = rendering.triangle_fragments(project(surface["where"]), surface["triangles"], full)
        fine, fine_depth, strand, part = rendering.strand_fragments(project(strands), full, scale * full * widths)
        best = rendering.nearest(np.concatenate([pixel, fine]), np.concatenate([depth, fine_depth - 0.004]), full)
        on_hair = best >= len(pixel)
        on_mesh = (best >= 0) & ~on_hair
        colour = np.zeros((full * full, 3))
        corners, weights = surface.pop("triangles")[triangle[best[on_mesh]]], weights[best[on_mesh]]
        kind = surface.pop("kind")[corners[:, 0]]
        fragments = {name: (values[corners] * weights.reshape(weights.shape + (1,) * (values.ndim - 1))).sum(axis=1)
                     for name, values in surface.items()}
        eyes = pose(self.eyes, whole=True)
        colour[on_mesh] = self.paint(kind, light, turn, np.array([middle[0], middle[1], CAMERA]), eyes, **fragments)
        colour[on_hair] = rendering.along(shine, strand[best[on_hair] - len(pixel)], part[best[on_hair] - len(pixel)])

        def reduced(values):
            return values.reshape(side, finer, side, finer, -1).mean(axis=(1, 3))
        five = project(pose(self.landmarks(), whole=True))[:, :2] / finer
        return reduced(tone(EXPOSURE * colour)), reduced((best >= 0).astype(float))[..., 0], five

    def _surface(self, light, posed, triangles, frame, occluders):
        """Returns {name: values} of the vertices of the mesh and, behind them, of the glasses; and their triangles."""
        normals = self.mesh.normals(posed)
        lit = light.on_surface(posed, normals, occluders)
        deep = np.stack([self.mesh.smooth(lit[:, [k]], times)[:, 0] for k, times in enumerate((7, 3, 2))], 1)   # red light most
        lit = np.where((self.on_skin & ~self.cloth)[:, None], deep, lit)
        outward = rendering.vertex_normals(frame, self.frame[1])
        none, more = np.zeros((len(frame), 3)), len(posed) + self.frame[1]
        return {"triangles": np.concatenate([triangles, more]), "kind": np.append(self.mesh.kind, np.full(len(frame), FRAME)),
                "where": np.concatenate([posed, frame]), "normal": np.concatenate([normals, outward]),
                "lit": np.concatenate([lit, light.on_surface(frame, outward, occluders)]),
                "rest": np.concatenate([self.mesh.rest, none]), "lips": np.append(self.lips, none[:, 0]),
                "scalp": np.append(self.scalp, none[:, 0])}
