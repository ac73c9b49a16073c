"""The pictures of tests/people with their truth, rendered by Mitsuba: .dev/venv/bin/python -m dev.people.studio [NAME ...]."""
import json
import sys
import tempfile
from pathlib import Path

import cv2
import mitsuba as mi
import numpy as np
from scipy.spatial.transform import Rotation
from trimesh.creation import icosphere
from trimesh.smoothing import filter_laplacian

from . import hair, head, skin
from .skin import linear, smoothstep

mi.set_variant("scalar_rgb")
COUNT = 24
SHIPPED = Path(__file__).resolve().parents[2] / "tests" / "people"
WALLS = ["aeb6ba", "b9b2a6", "9fb0a8", "a9a5b5", "c2b8ae", "8f9aa6", "b3a79f", "a2ab98"]
HAIRS = ["100d0c", "241812", "452b1a", "5f3a20", "94795a", "7b6247", "5f2f1c"]
IRISES = ["4a2c18", "66421f", "7d5a30", "6f7650", "5f7d94", "7f919b"]
PORTRAITS = {5: (-6, 0, 2), 14: (26, -4, 3), 18: (-24, 3, -3), 22: (4, 2, 0)}      # person: yaw, pitch, roll
GROUP = {16: (-2.6, 1.0, -2), 1: (0, 1.15, -2), 2: (2.6, 1.0, -2),      # person: the face's place in decimetres
         12: (-2.7, -1.1, 0), 9: (0, -1.25, 0), 23: (2.7, -1.1, 0)}
NOSE, MOUTH = (0.0, 6.98, 1.67), (0.255, 6.617, 1.431)    # of the neutral head: just above the tip, one corner of the lips


def make(number):
    """Returns one of the `COUNT` people: {name: value}. Sex, origin, age and glasses are spread evenly, all else is drawn."""
    random = np.random.default_rng(200 + number)
    male, old = float(number % 2), (number * 7 % COUNT / COUNT) ** 1.3
    ancestry = 0.25 * random.dirichlet([1, 1, 1]) + 0.75 * np.eye(3)[(number // 2 + 2) % 3]
    tone = np.clip(ancestry @ [0.80, 0.32, 0.14] + random.normal() * 0.07, 0, 1)
    dark = tone > 0.42 or ancestry[1] > 0.5
    styles = (("bob long parted back", "crop parted back shaved"), ("afro back bob", "shaved crop afro"))
    styles = styles[int(ancestry[0] > 0.5)][int(male)].split()
    return {
        "seed": number, "male": male, "old": old, "tone": tone, "iris": IRISES[random.integers(0, 2 if dark else 6)],
        "hair_colour": "7a7774" if old > 0.72 else HAIRS[random.integers(0, 2 if dark else len(HAIRS))],
        "hair": styles[(number // 6 + random.integers(2)) % len(styles)], "part": random.choice([-0.2, 0.2, 0.02]),
        "lips": random.uniform(0.6, 0.9) - 0.2 * male, "brow": random.uniform(0.8, 1.05) * (0.62 + 0.38 * male),
        "freckles": float(number % 5 == 4 and not dark) * random.uniform(0.3, 0.5),
        "beard": male * (number % 4 == 1) * random.uniform(0.4, 1.0), "shirt": random.uniform(0.02, 0.3, 3),
        "glasses": (0, (0.235, 0.225), (0.255, 0.17))[(number % 5 == 3) * (1 + number % 2)],     # half width and half height
        "shape": head.shape(random, ancestry, abs(male - random.uniform(0, 0.1)), old * 0.9, random.uniform(-0.6, 0.6))}


def surface(vertices, faces, colours, **look):
    """Returns a mesh of Mitsuba with a colour [N, 3] at each vertex."""
    properties, coloured = mi.Properties(), {"type": "mesh_attribute", "name": "vertex_color"}
    properties["bsdf"] = mi.load_dict({"type": "principled", "base_color": coloured} | look)
    mesh = mi.Mesh("", len(vertices), len(faces), properties, has_vertex_normals=True)
    mesh.add_attribute("vertex_color", 3, np.ravel(colours).astype(np.float32))
    parameters = mi.traverse(mesh)
    parameters["vertex_positions"] = np.ravel(vertices).astype(np.float32)
    parameters["faces"] = np.ravel(faces).astype(np.uint32)
    parameters.update()
    return mesh


def curves(strands, radius, colour):
    """Returns curves of Mitsuba along strands [S, P, 3] that get thinner towards their tips."""
    radii = np.broadcast_to(np.linspace(radius, 0.4 * radius, strands.shape[1])[:, None], (*strands.shape[:2], 1))
    points = np.concatenate([strands, radii], -1)
    with tempfile.TemporaryDirectory() as folder:       # Mitsuba 3.9 crashes on some as a bsplinecurve
        np.savetxt(f"{folder}/strands", points.reshape(len(points), -1), ("%.5f " * 4 + "\n") * points.shape[1])
        return mi.load_dict({"type": "linearcurve", "filename": f"{folder}/strands", "bsdf": {
            "type": "principled", "base_color": {"type": "rgb", "value": list(colour)}, "roughness": 0.35}})


def glasses(body, wide, high):
    """Yields the bars [1, P, 3] of glasses: a bridge, two rims and two temples."""
    eye, turn, arch = abs(body.eyes).mean(axis=0), np.linspace(0, 2 * np.pi, 49), np.linspace(0, np.pi, 9)
    x = max(eye[0] * 1.08, wide + 0.1) + wide * np.cos(turn)
    rim = np.stack([x, eye[1] - 0.03 + high * np.sin(turn), eye[2] + body.radius + 0.17 - 0.22 * x ** 2], 1)
    outer, inner = rim[0] + [0, 0.06, 0], rim[24]
    yield np.stack([inner[0] * np.cos(arch), inner[1] + 0.05 + 0.03 * np.sin(arch), np.full(9, inner[2])], 1)[None]
    level = (abs(body.mesh.vertices[:, 1:] - [outer[1], eye[2] - 0.45]) < [0.1, 0.25]).all(axis=1)
    temple = np.quantile(abs(body.mesh.vertices[level, 0]), 0.9)
    for side in ([-1, 1, 1], [1, 1, 1]):
        yield rim[None] * side
        yield np.array([outer, [temple, outer[1], eye[2] - 0.3], [temple, outer[1], eye[2] - 0.8]])[None] * side


def sit(number, expression, angles, place, count, random):
    """Returns Mitsuba's shapes of a posed person, and the five true points [5, 3]. angles: as in keypoints/head.py, y up."""
    person, (neutral, _, _, shirt, *_) = make(number), skin.places()
    body = head.Head(person["shape"], head.EXPRESSIONS[expression])
    eyes, (yaw, pitch, roll) = body.eyes.mean(axis=0), angles
    pivot, turn = eyes - [0, 0.75, 1.1], Rotation.from_euler("ZYX", [-roll, yaw, -pitch], degrees=True).as_matrix()

    def pose(points):       # the neck bends with the head, the chest does not
        amount = smoothstep(points[..., 1:2] - pivot[1], -0.75, 0.05)
        return points + amount * ((points - pivot) @ turn.T + pivot - points) + place - turn @ [0, 0.45, 1.3] - pivot
    cloth, ball = filter_laplacian(body.mesh.copy(), iterations=60, volume_constraint=False), icosphere(5)
    clothed = body.mesh.vertices + (cloth.vertices + cloth.vertex_normals * 0.07 - body.mesh.vertices) * shirt[:, None]
    shapes = [surface(pose(clothed), body.mesh.faces, skin.body(person), roughness=0.42, specular=0.35, flatness=0.4)]
    shapes += [surface(pose(eye + ball.vertices * body.radius), ball.faces, skin.eye(person, ball.vertices),
                       roughness=0.08, specular=0.15, clearcoat=0.5, clearcoat_gloss=1.0) for eye in body.eyes]
    shapes += [curves(pose(strands), radius, colour) for strands, radius, colour in hair.hairs(person, body, count, random)]
    if person["glasses"]:
        shapes += [curves(pose(bar), 0.013, [0.01, 0.008, 0.007]) for bar in glasses(body, *person["glasses"])]
    nearest = [np.linalg.norm(neutral - spot, axis=1).argmin() for spot in (NOSE, np.multiply(MOUTH, [-1, 1, 1]), MOUTH)]
    return shapes, pose(np.concatenate([body.eyes + [0, 0, body.radius], body.mesh.vertices[nearest]]))


def picture(people, wall, width, height, scale, side=1, distance=12.0, samples=64, count=12000):
    """Returns an 8-bit RGB picture [height, width, 3] of people, and the truth of each.

    people: (number, expression, (yaw, pitch, roll), place [3] in decimetres from the picture's middle). scale: parts of the
    width that a decimetre has. side: of the light, -1 or 1. samples: of each pixel. count: of each person's hairs.
    """
    look, move = mi.ScalarTransform4f().look_at, mi.ScalarTransform4f()

    def softbox(place, size, strength):
        return {"type": "rectangle", "to_world": look(place, [0, 0, 0], [0, 1, 0]) @ move.scale(size),
                "light": {"type": "area", "radiance": {"type": "rgb", "value": strength}}}
    scene, truths, random = {
        "type": "scene", "integrator": {"type": "path", "max_depth": 5},
        "camera": {"type": "perspective", "fov": float(np.degrees(2 * np.arctan(0.5 / scale / distance))),
                   "to_world": look([0, 0, distance], [0, 0, 0], [0, 1, 0]), "sampler": {"type": "multijitter"},
                   "film": {"type": "hdrfilm", "width": width, "height": height, "pixel_format": "rgb"}},
        "key": softbox([-7 * side, 5, 10], 4, [6.4, 6.05, 5.7]), "rim": softbox([9 * side, 4, -5], 2, [5, 5, 5.2]),
        "walls": {"type": "constant", "radiance": {"type": "rgb", "value": 0.38}},
        "back": {"type": "rectangle", "to_world": move.translate([0, 0, -6]).scale(40), "bsdf": {
            "type": "diffuse", "reflectance": {"type": "rgb", "value": list(linear(wall))}}}}, [], np.random.default_rng(0)
    for number, expression, angles, place in people:
        shapes, points = sit(number, expression, angles, place, count, random)
        scene |= {f"{number} {k}": shape for k, shape in enumerate(shapes)}
        flat = points[:, :2] * [1, -1] * scale * width * distance / (distance - points[:, 2:]) + [width / 2, height / 2]
        angles = zip(("yaw", "pitch", "roll"), np.round(angles, 2).tolist(), strict=True)
        truths.append({"person": number, "points": flat.round(2).tolist(), **dict(angles), "licence": "CC0-1.0"})
    return np.array(mi.util.convert_to_bitmap(mi.render(mi.load_dict(scene), spp=samples))), truths


def shipped():
    """Returns {file name: arguments of `picture`} of everything in tests/people."""
    files = {}
    for number in range(COUNT):
        for which, name in enumerate(("front", "left", "right")):
            random = np.random.default_rng([number, which])
            angles = random.uniform([17, -14, -9], [34, 14, 9]) * [1 if name == "right" else -1, 1, 1] * (which > 0) + 0.0
            person = number, list(head.EXPRESSIONS)[(number + which) % 4 * (which > 0)], angles, (0, -0.25, 0)
            files[f"{number:02}_{name}.jpg"] = [person], WALLS[(number * 3 + which) % 8], 256, 256, 0.34, 1 - 2 * (number % 2)
    for number, angles in PORTRAITS.items():
        files[f"portrait_{number:02}.jpg"] = [(number, "friendly", angles, (0, -0.25, 0))], WALLS[number % 8], 768, 768, 0.34
    group = [(number, "friendly", (-3 * place[0], 0, 0), place) for number, place in GROUP.items()]
    return files | {"group.jpg": (group, WALLS[5], 960, 760, 0.11, 1, 30.0)}


def main():
    truths = json.loads((SHIPPED / "truth.json").read_text())
    for name in sys.argv[1:] or shipped():
        image, truths[name] = picture(*shipped()[name])
        cv2.imwrite(str(SHIPPED / name), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 78])
    lines = [f"{json.dumps(name)}: {json.dumps(truths[name])}" for name in shipped()]
    (SHIPPED / "truth.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    tiles = np.array([cv2.imread(str(SHIPPED / f"{number:02}_front.jpg"))[::2, ::2] for number in range(COUNT)])
    cv2.imwrite(f"{SHIPPED.parents[1]}/docs/people.jpg", tiles.reshape(3, 8, 128, 128, 3).swapaxes(1, 2).reshape(384, -1, 3))


if __name__ == "__main__":
    main()
