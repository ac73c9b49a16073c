"""The shape of a head: MakeHuman's body, moved by targets with random weights. In decimetres, y up, z to the viewer."""
import os
import re
from functools import cache
from pathlib import Path

import numpy as np
from trimesh import Trimesh
from trimesh.remesh import subdivide_loop

DATA = Path(os.environ.get("INSTANTID_DEV", Path(__file__).resolve().parents[2] / ".dev")) / "heads"
LOWEST = 3.0        # what is drawn; the top of the head is at about 8.4, the neck begins at 5.9
# sliders are pairs of targets with one of these endings; those of the face but UNUSED tell people apart
ENDS = (("decr", "incr"), ("down", "up"), ("in", "out"), ("backward", "forward"), ("concave", "convex"))
UNUSED = ("r-", "unit", "asym", "measure", "neck", "l-eye-push", "l-ear-trans", "head-age", "head-trans", "head-scale")
FACE = ("forehead", "eyebrows", "l-eye", "l-ear", "nose", "mouth", "l-cheek", "chin", "head")
EXPRESSIONS = {     # weights of face units; one without a side is that of both
    "calm": {"mouthSmile": 0.12, "eyeWide": 0.03}, "friendly": {"mouthSmile": 0.45, "cheekSquint": 0.3, "eyeWide": 0.06},
    "serious": {"browDown": 0.45, "mouthPress": 0.4, "eyeSquint": 0.2}, "surprised": {"browInnerUp": 0.8, "eyeWide": 0.5}}


@cache
def base():
    """Returns MakeHuman's neutral human: vertices [V, 3], and {group: triangles [T, 3]}."""
    text = (DATA / "mpfb2/3dobjs/base.obj").read_text()
    quads = {name: np.array(re.findall(r"^f (\d+)\S* (\d+)\S* (\d+)\S* (\d+)", faces, re.M), int) - 1
             for name, faces in re.findall(r"^g (\S+)\n((?:[^g].*\n)+)", text, re.M)}
    return (np.array(re.findall(r"^v (\S+) (\S+) (\S+)", text, re.M), float),
            {name: corners[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3) for name, corners in quads.items()})


def finer(values):
    """Returns values [V, 3] at the vertices of the finer body that is drawn, [N, 3], and its triangles."""
    vertices, groups = base()
    above = vertices[groups["body"], 1].min(axis=1) > LOWEST
    used, triangles = np.unique(groups["body"][above], return_inverse=True)
    return subdivide_loop(values[used], triangles.reshape(-1, 3), 2)


@cache
def targets():
    """Returns {name: path} of every shape target; those of the face units begin with "unit "."""
    files = [*sorted(DATA.glob("mpfb2/targets/*/*.target.gz")), *sorted(DATA.glob("faceunits01/targets/faceunits/*.target"))]
    return {("" if path.suffix == ".gz" else "unit ") + path.name.split(".target")[0]: path for path in files}


class Head:
    """A body. mesh: the finer one that is drawn. lids: the upper lashes'. eyes: centres [2, 3], with their radius."""

    def __init__(self, weights, expression=()):
        vertices, groups = base()
        coarse = vertices.copy()
        units = {f"unit {unit}{side}": weight for unit, weight in dict(expression).items() for side in ("", "Left", "Right")}
        for name, weight in (weights | units).items():
            if name in targets():
                rows = np.loadtxt(targets()[name]).reshape(-1, 4)
                coarse[rows[:, 0].astype(int)] += weight * rows[:, 1:]
        self.mesh, self.lids = (Trimesh(*parts, process=False) for parts in (
            finer(coarse), (coarse, np.concatenate([groups[f"helper-{side}-eyelashes-2"] for side in "rl"]))))
        balls = [coarse[np.unique(groups[f"helper-{side}-eye"])] for side in "rl"]
        self.eyes = np.array([ball.mean(axis=0) for ball in balls])
        self.radius = np.linalg.norm(balls[0] - self.eyes[0], axis=1).min()


def shape(random, ancestry, male, old, weight):
    """Returns {target: weight} of a head. ancestry: African, Asian and European parts. male, old: 0 to 1. weight: -1 to 1."""
    weights = {}
    for sex, of_sex in (("male", male), ("female", 1 - male)):
        for age, of_age in (("old", old), ("young", 1 - old)):
            for origin, part in zip(("african", "asian", "caucasian"), ancestry, strict=True):
                weights[f"{origin}-{sex}-{age}"] = of_sex * of_age * part
            build = f"universal-{sex}-{age}-averagemuscle-{'max' if weight > 0 else 'min'}weight"
            weights[build] = of_sex * of_age * abs(weight)
    for name in targets():
        for low, high in ENDS:
            if name.startswith(FACE) and not name.startswith(UNUSED) and name.endswith("-" + low):
                amount = np.clip(random.normal() * 0.25, -0.9, 0.9)
                end = name if amount < 0 else name[:-len(low)] + high
                weights |= dict.fromkeys([end, "r" + end[1:]] if end.startswith("l-") else [end], abs(amount))
    return weights
