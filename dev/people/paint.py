"""The colours of skin, eyes, clothes and glasses. Everything is placed on the neutral head, so that it moves with the face."""
import numpy as np

from . import person as people
from .mesh import EYE, SKIN, TEETH, TONGUE
from .rendering import smoothstep, unit

CAMERA = 12.0       # decimetres before the head
FRAME = 9           # the kind of glasses, beside those of mesh.py
BOXES = 10          # the brightest directions of the light, which skin reflects


def noise(places, frequency, seed, waves=12):
    """Returns smooth noise [N] of about -1 to 1 at places [N, 3]."""
    random = np.random.default_rng(seed)
    vectors, phases = random.normal(size=(waves, 3)) * frequency, random.uniform(0, 6.3, waves)
    angles = places.astype(np.float32) @ vectors.T.astype(np.float32) + phases.astype(np.float32)
    return np.sin(angles).sum(axis=1) / waves ** 0.5 / 1.4


def tone(colour):
    """Returns sRGB, 0 to 1, of linear light: a soft shoulder over the brightest parts."""
    bent = np.clip(colour, 0, None)
    bent = np.where(bent > 0.6, 0.6 + 0.4 * (1 - np.exp(-(bent - 0.6) / 0.4)), bent)
    return np.where(bent < 0.0031, bent * 12.92, 1.055 * np.clip(bent, 1e-9, None) ** (1 / 2.4) - 0.055)


class Paint:
    """The colours of a person. Called with fragments, it returns their linear RGB."""

    def __init__(self, person):
        self.person = person
        table = np.array([people.linear(colour) for colour in people.SKINS])
        shades = np.arange(len(table))
        self.skin = np.array([np.interp(person["tone"] * shades[-1], shades, channel) for channel in table.T])
        self.hair = people.linear(people.HAIRS[person["hair_colour"]])
        self.brow = self.hair * (0.35 if person["hair_colour"] in ("grey", "white") else 0.8) + self.skin * 0.06

    def brows(self, rest):
        """Returns how dense brows are at places [N, 3] of the neutral head: [N], 0 to 1."""
        x, y, z = abs(rest[:, 0]), rest[:, 1], rest[:, 2]
        arch = 7.505 + self.person["brow_y"] + 0.05 * np.sin(np.clip((x - 0.12) / 0.42, 0, 1) * 2.5)
        thick = 0.036 * self.person["brow"] * (1 - 0.6 * smoothstep(x, 0.22, 0.56))
        ends = smoothstep(x, 0.08, 0.19) * (1 - smoothstep(x, 0.48, 0.58))
        return np.exp(-((y - arch) / thick) ** 2) * ends * smoothstep(z, 0.6, 0.8)

    @staticmethod
    def beard(rest):
        """Returns where a beard grows on the neutral head: [N], 0 to 1."""
        x, y, z = abs(rest[:, 0]), rest[:, 1], rest[:, 2]
        line = np.interp(x, [0, 0.12, 0.3, 0.42, 0.6, 0.75], [6.5, 6.52, 6.62, 6.80, 7.0, 7.15])
        cheek = (1 - smoothstep(y, line - 0.06, line + 0.05)) * smoothstep(z, -0.05, 0.15) * smoothstep(y + 0.3 * z, 6.38, 6.6)
        lip = np.exp(-((y - 6.775 + 0.2 * x) / 0.05) ** 4) * (1 - smoothstep(x, 0.32, 0.40))
        lip = lip * smoothstep(z, 0.9, 1.1) * (1 - smoothstep(z, 1.57, 1.61))
        corner = np.exp(-((x - 0.36) / 0.06) ** 2) * smoothstep(y, 6.45, 6.55) * (1 - smoothstep(y, 6.72, 6.84))
        return np.maximum(np.maximum(cheek, lip), corner * smoothstep(z, 0.8, 1.0))

    def dressed(self, rest, soft=0.012):
        """Returns where a shirt covers the neutral body: [N], 0 to 1."""
        x, y, z = rest.T
        neck = 0.75 * np.clip(0.36 - abs(x), 0, None) * smoothstep(z, 0.0, 0.5) if self.person["collar"] == "v" else 0
        return 1 - smoothstep(y + 0.42 * z - 5.93 + neck, -soft, soft)

    def wrinkles(self, rest, spot):
        """Returns lines of the forehead, around the eyes and beside the nose: [N], 0 to about 1."""
        x, y = abs(rest[:, 0]), rest[:, 1]
        waves = np.sin(y * 62 + 1.1 * np.sin(x * 5) + 0.5 * noise(rest, 4, self.person["seed"]))
        fan = np.sin(np.arctan2(y - 7.27, x - 0.36) * 16)
        fold = np.exp(-((x - 0.30 - 0.55 * (6.98 - y)) / 0.028) ** 2)
        return (smoothstep(waves, 0.55, 1) * spot(0, 7.82, 0.36, 0.13) + smoothstep(fan, 0.4, 1) * spot(0.58, 7.27, 0.09, 0.13)
                + 1.2 * fold * spot(0.37, 6.87, 0.2, 0.14))

    def albedo(self, rest, lips, scalp, kind, dressed):
        """Returns how much of the light fragments send back: [F, 3]."""
        person, skin, seed = self.person, self.skin, self.person["seed"]
        x, y, z = abs(rest[:, 0]), rest[:, 1], rest[:, 2]
        front = smoothstep(z, 0.5, 0.9)
        colour = np.repeat(skin[None], len(rest), axis=0)

        def spot(cx, cy, rx, ry):
            return np.exp(-((x - cx) / rx) ** 2 - ((y - cy) / ry) ** 2) * front

        def mix(other, amount):
            nonlocal colour
            colour = colour + (np.asarray(other) - colour) * np.clip(amount, 0, 1)[:, None]
        blush = 0.55 * spot(0.42, 6.98, 0.22, 0.17) + 0.6 * spot(0, 7.0, 0.13, 0.1) + 0.25 * spot(0, 6.35, 0.16, 0.1)
        mix(skin * [0.98, 0.60, 0.55], person["blush"] * blush + 0.12)
        mix(skin * [1.06, 1.03, 0.94], 0.35 * spot(0, 7.8, 0.5, 0.25))
        mix(skin * [0.70, 0.56, 0.56], 0.35 * spot(0.31, 7.16, 0.17, 0.06) + 0.28 * spot(0.31, 7.36, 0.2, 0.06))
        mix(skin * [0.62, 0.50, 0.46], 0.4 * self.wrinkles(rest, spot) * smoothstep(person["old"], 0.3, 0.95))
        colour *= 1 + 0.045 * noise(rest, 9, seed)[:, None] + 0.03 * noise(rest, 40, seed + 1)[:, None]
        if person["freckles"]:
            dots = smoothstep(noise(rest, 70, seed + 2), 0.75, 1.5) * spot(0, 7.05, 0.5, 0.3)
            mix(skin * [0.68, 0.5, 0.4], 0.6 * dots * person["freckles"])
        mix(skin * ([0.80, 0.42, 0.42] if person["male"] else [0.78, 0.34, 0.36]), lips * (0.35 + 0.6 * person["lips"]))
        shadow = self.beard(rest) * (1 - lips)
        mix(skin * 0.35 + self.hair * 0.3, shadow * (0.28 * person["stubble"] + 0.7 * (person["beard"] > 0)))
        mix(skin * 0.3 + self.brow * 0.5, 0.55 * self.brows(rest))
        mix(self.hair * 0.55, smoothstep(scalp, 0.05, 0.6) * (0.55 if person["hair"] == "shaved" else 0.9))
        mix(people.linear(person["shirt"]), dressed)
        mix([0.62, 0.55, 0.46], kind == TEETH)
        mix([0.30, 0.08, 0.07], kind == TONGUE)
        mix(people.linear(people.FRAMES[seed % len(people.FRAMES)]), kind == FRAME)
        return colour

    def __call__(self, kind, light, turn, camera, eyes, rest, where, normal, lit, lips, scalp):
        """Returns linear RGB [F, 3]. turn: the head's rotation. eyes: the centres [2, 3] of the turned eyes."""
        dressed = self.dressed(rest) * (kind == SKIN)
        normal, view = unit(normal), unit(camera - where)
        pores = np.stack([noise(rest, 55, self.person["seed"] + k, 8) for k in (3, 4, 5)], 1)
        bumpy = unit(normal + 0.05 * pores)
        gloss = np.zeros((len(rest), 3))
        for number in np.argsort(light.colours.sum(axis=1))[-BOXES:]:
            direction, radiance = light.directions[number], light.colours[number]
            hit = np.clip((bumpy * unit(view + direction)).sum(axis=1), 0, 1)
            lobes = 0.20 * hit ** 12 + 0.30 * hit ** 40 * (1 + 3 * lips)
            gloss += (lobes * (normal @ direction > 0))[:, None] * radiance
        fresnel = 0.35 + 0.65 * (1 - np.clip((bumpy * view).sum(axis=1), 0, 1)) ** 4
        bare = (1 - dressed) * (1 - 0.8 * smoothstep(scalp, 0.1, 0.6))
        amount = 0.42 * bare * fresnel * np.clip(lit.mean(axis=1) / 0.7, 0, 1.2)
        colour = self.albedo(rest, lips, scalp, kind, dressed) * lit + gloss * amount[:, None]
        seen = kind == EYE
        colour[seen] = self.eye(where[seen], view[seen], lit[seen], light, turn, camera, eyes)
        return colour

    def eye(self, where, view, lit, light, turn, camera, eyes):
        """Returns the linear RGB [E, 3] of eyes: white, iris, pupil and the light that they mirror."""
        nearest = np.linalg.norm(where[:, None] - eyes, axis=-1).argmin(axis=1)
        outward, ahead = unit(where - eyes[nearest]), turn @ [0, 0, 1]
        to_camera = unit(np.array([0, 0, camera[2]]) - eyes.mean(axis=0))
        sight = unit(ahead + 0.7 * np.clip(to_camera - ahead, -0.35, 0.35))     # people look about at the camera
        right = unit(np.cross(turn @ [0, 1, 0], sight))
        up = np.cross(sight, right)
        angle = np.arccos(np.clip(outward @ sight, -1, 1))[:, None]
        around = np.arctan2(outward @ up, outward @ right)[:, None]
        rays = noise(np.concatenate([np.cos(around) * 9, np.sin(around) * 9, angle * 4], 1), 1.2, self.person["seed"] + 9)
        iris = people.linear(people.IRISES[self.person["iris"]]) * (1.2 + 0.45 * rays[:, None])
        iris = iris * (1 + 0.9 * (1 - smoothstep(angle, 0.2, 0.36))) * (1 - 0.8 * smoothstep(angle, 0.40, 0.50))
        corner = smoothstep(abs(outward @ right), 0.3, 0.8)[:, None]
        white = np.array([0.66, 0.60, 0.56]) * (1 - 0.25 * corner * [0, 0.5, 0.5])
        colour = iris + (white - iris) * smoothstep(angle, 0.46, 0.53)
        colour = colour * (1 - 0.97 * smoothstep(-angle, -0.21, -0.17)) * (0.30 + 0.70 * np.clip(lit, 0, 1.3))
        colour *= 1 - 0.45 * smoothstep(outward @ up, 0.05, 0.5)[:, None]      # in the lid's shadow
        cornea = unit(outward + sight * 0.25 * (angle < 0.52))
        mirror = 2 * (cornea * view).sum(axis=1, keepdims=True) * cornea - view
        box = smoothstep(mirror @ unit(light.key * [0.75, 0.75, 1.2]), 0.96, 0.975)
        return colour + (0.9 * box + 0.04 * smoothstep(mirror[:, 1], 0.0, 0.6))[:, None]
