"""People who do not exist: what detector, mean head and likeness say of their pictures, beside the truth (tests/truth.py)."""

import numpy as np

from benchmarks import common

from .transfers import NETWORKS

POINTS = ("eye on the left", "eye on the right", "nose", "mouth corner on the left", "mouth corner on the right")
PERCENTILES = {"1 of 100 below": 1, "median": 50, "1 of 100 above": 99}


def run(arguments):
    """Returns the figures by table; distances are in distances between the eyes. Prints the tables."""
    import truth
    from instantid_swift.faces.analysis import open_face_analysis
    from truth import EVERYONE, POSES, TURNED
    seen = truth.look(open_face_analysis([str(NETWORKS)], "CPU"))
    errors, heads, angles = truth.point_errors(seen), truth.head_errors(), truth.recovered_angles()
    table, people = truth.cosines(seen)
    same = people[:, None] == people
    pairs = {"same person": table[same & ~np.eye(len(table), dtype=bool)], "other people": table[~same]}
    left_out = truth.left_out(seen)
    photos = np.array(list(truth.turned_photo_errors(seen).values()))
    difference = angles[:, 0] - angles[:, 1]
    figures = {
        "points": {name: {"mean": float(errors[:, k].mean()), "largest": float(errors[:, k].max())}
                   for k, name in enumerate(POINTS)},
        "head": {f"{number:02}": {name: float(np.mean([heads[number, pose][k] for pose in TURNED]))
                                  for k, name in enumerate(("turned", "not turned", "turned the other way"))}
                 for number in EVERYONE},
        "turned photo": {"turned": float(photos[:, 0].mean()), "not turned": float(photos[:, 1].mean())},
        "angles": {name: {"mean difference": float(difference[:, k].mean()), "spread": float(difference[:, k].std())}
                   for k, name in enumerate(("yaw", "pitch"))},
        "cosines": {name: {title: float(np.percentile(values, part)) for title, part in PERCENTILES.items()}
                    for name, values in pairs.items()},
        "ranks": {pose: dict(zip(("rank 1", "least margin", "mean margin"), row, strict=True))
                  for pose, row in truth.ranks(seen).items()},
        "blend": {"left out": {"the stranger": left_out.count((1,)), "nobody": left_out.count(()), "of": len(left_out)}}}
    for title, rows in figures.items():
        rows = rows if isinstance(next(iter(rows.values())), dict) else {title: rows}
        columns = list(next(iter(rows.values())))
        print(f"\n{title[0].upper()}{title[1:]}")
        common.print_table(["", *columns], [[name, *(f"{row[column]:.3g}" for column in columns)]
                                            for name, row in rows.items()])
    return {"pictures": len(EVERYONE) * len(POSES), **figures}
