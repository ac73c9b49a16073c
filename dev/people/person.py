"""People who do not exist: everything that makes one, drawn from a seed."""
import numpy as np

COUNT = 24
SEEDS = list(range(200, 200 + COUNT))
SHAPES = ["head-oval", "head-round", "head-square", "head-rectangular", "head-invertedtriangular", "head-diamond"]
# of sliders, by the beginning of their names: how far people differ; the first that fits counts
SPREAD = {"head-age": 0, "head-back": 0.25, "head-scale": 0.2, "head-fat": 0.25, "head-angle": 0.2, "head-": 0,
          "forehead": 0.25, "nose-": 0.24, "neck": 0.15, "measure": 0, "eye-scale": 0.2, "eye-push": 0, "eye-bag": 0.2,
          "eye-height": 0.2, "eye-": 0.3, "ear-": 0.3, "mouth-laugh": 0.15, "mouth-scale-depth": 0.2, "mouth-angles": 0.12,
          "mouth-dimples": 0.15, "chin-": 0.22, "cheek": 0.22, "": 0.27}
ENDS = (("decr", "incr"), ("down", "up"), ("in", "out"), ("backward", "forward"), ("concave", "convex"),
        ("compress", "uncompress"))
SKINS = ["f3d3bf", "ecc0a0", "e0ad8a", "cf9a74", "b98058", "9c6642", "7d4c30", "5d3724", "452a1d"]     # sRGB, light to dark
HAIRS = {"black": "100d0c", "dark": "241812", "brown": "452b1a", "chestnut": "5f3a20", "blond": "94795a", "fair": "7b6247",
         "red": "5f2f1c", "grey": "6f6c69", "white": "938f8b"}
IRISES = ["4a2c18", "66421f", "7d5a30", "6f7650", "5f7d94", "7f919b"]
CLOTHES = ["2b3a55", "6e2b34", "2f5d50", "b98a2f", "3b3b40", "d8d4cb", "7b8a5a", "8a5a6e", "3f7a8c", "a65a3c"]
# half width and half height of a lens, roundness of its corners, thickness of the frame
GLASSES = {"round": (0.235, 0.225, 1.0, 0.014), "square": (0.255, 0.19, 0.55, 0.018), "thin": (0.25, 0.175, 0.75, 0.009)}
FRAMES = ["17130f", "3a2415", "23262b", "5a4632"]
EXPRESSIONS = {
    "calm": {"mouthSmile": 0.12, "eyeWide": 0.03},
    "friendly": {"mouthSmile": 0.45, "cheekSquint": 0.3, "eyeWide": 0.06},
    "smile": {"mouthSmile": 0.75, "cheekSquint": 0.6, "eyeSquint": 0.25, "browOuterUp": 0.15},
    "serious": {"browDown": 0.45, "mouthPress": 0.4, "eyeSquint": 0.2},
    "surprised": {"browInnerUp": 0.6, "browOuterUp": 0.6, "eyeWide": 0.5},
    "wry": {"mouthSmileLeft": 0.5, "mouthDimpleLeft": 0.4, "browOuterUpRight": 0.4},
}


def linear(colour):
    """Returns linear RGB [3] of a colour written as six hexadecimal digits."""
    srgb = np.array([int(colour[k:k + 2], 16) for k in (0, 2, 4)]) / 255
    return np.where(srgb < 0.04, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def expression(mesh, name):
    """Returns {target: weight} of an expression; a face unit without a side is that of both."""
    weights = {}
    for unit, weight in EXPRESSIONS[name].items():
        for side in ("", "Left", "Right"):
            if f"unit {unit}{side}" in mesh.targets:
                weights[f"unit {unit}{side}"] = weight
    return weights


def sliders(mesh):
    """Yields pairs (targets of one end, targets of the other end), left and right half together."""
    for name in mesh.targets:
        for low, high in ENDS:
            other = name[:-len(low)] + high
            if name.endswith("-" + low) and other in mesh.targets and not name.startswith(("r-", "unit", "asym")):
                mirrored = [(end, "r" + end[1:]) if end.startswith("l-") else (end,) for end in (name, other)]
                if "trans" not in name or not name.startswith(("head", "neck", "l-ear")):
                    yield mirrored


def shape(mesh, random, ancestry, male, old, weight):
    """Returns {target: weight} of a head. ancestry: African, Asian and European parts. male, old: 0 to 1. weight: -1 to 1."""
    weights = {}
    for sex, of_sex in (("male", male), ("female", 1 - male)):
        for age, of_age in (("old", old), ("young", 1 - old)):
            for origin, part in zip(("african", "asian", "caucasian"), ancestry, strict=True):
                weights[f"{origin}-{sex}-{age}"] = of_sex * of_age * part
            build = f"universal-{sex}-{age}-averagemuscle-"
            weights[build + "averageweight"] = of_sex * of_age * (1 - abs(weight))
            weights[build + ("maxweight" if weight > 0 else "minweight")] = of_sex * of_age * abs(weight)
    for low, high in sliders(mesh):
        plain = low[0].removeprefix("l-")
        spread = next(value for start, value in SPREAD.items() if plain.startswith(start))
        amount = np.clip(random.normal() * spread, -0.9, 0.9)
        weights |= dict.fromkeys(low if amount < 0 else high, abs(amount))
    weights[str(random.choice(SHAPES))] = random.uniform(0.0, 0.4)
    for name in mesh.targets:
        if name.startswith("asym") and random.random() < 0.1:
            weights[name] = random.uniform(0.0, 0.4)
    return {name: value for name, value in weights.items() if value > 0.004}


def make(mesh, number):
    """Returns one of the `COUNT` people as a dictionary: {name: value} of everything that makes one.

    Sex, origin, age, expression and glasses are spread evenly over the numbers, all else is drawn from the person's seed.
    """
    random = np.random.default_rng(SEEDS[number])
    male, old = float(number % 2), (number * 7 % COUNT / COUNT) ** 1.3
    ancestry = 0.25 * random.dirichlet([1, 1, 1]) + 0.75 * np.eye(3)[(number // 2 + 2) % 3]
    tone = np.clip(ancestry @ [0.80, 0.32, 0.14] + random.normal() * 0.07, 0, 1)
    dark = tone > 0.42 or ancestry[1] > 0.5
    natural = ["black", "dark"] if dark else ["dark", "brown", "chestnut", "blond", "fair", "red"]
    colour = random.choice(["grey", "white"] if old > 0.72 else natural)
    styles = (["bob", "long", "waves", "parted", "back"], ["crop", "quiff", "parted", "back", "shaved"])[int(male)]
    if ancestry[0] > 0.5:
        styles = (["afro", "curls", "back", "waves"], ["shaved", "crop", "afro"])[int(male)]
    person = {
        "seed": SEEDS[number], "male": male, "old": old, "ancestry": ancestry, "tone": tone, "hair_colour": str(colour),
        "hair": str(styles[(number // 6 + random.integers(2)) % len(styles)]),
        "weight": np.clip(random.normal() * 0.35, -0.6, 0.7), "iris": int(random.integers(0, 2 if dark else 6)),
        "length": random.uniform(0.85, 1.12), "part": random.choice([-0.2, 0.2, 0.02]),
        "recession": male * old * random.uniform(0, 0.4), "lift": random.normal() * 0.04,
        "lips": random.uniform(0.1, 0.4) if male else random.uniform(0.4, 0.9), "blush": random.uniform(0.2, 0.6),
        "freckles": float(number % 5 == 4 and not dark) * random.uniform(0.5, 0.9),
        "beard": male * (number % 4 == 1) * random.uniform(0.2, 1.0), "stubble": male * random.uniform(0.1, 0.6),
        "brow": random.uniform(0.8, 1.05) * (1.0 if male else 0.62), "brow_y": random.normal() * 0.012,
        "glasses": list(GLASSES)[number // 5 % 3] if number % 5 == 3 else None, "shirt": CLOTHES[number * 3 % len(CLOTHES)],
        "collar": "v" if number % 3 == 1 else "crew", "expression": list(EXPRESSIONS)[number % len(EXPRESSIONS)]}
    build = abs(male - random.uniform(0, 0.1)), old * 0.9, person["weight"]
    return person | {"shape": shape(mesh, random, ancestry, *build)}
