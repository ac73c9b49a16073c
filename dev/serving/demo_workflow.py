"""The demo's workflow, its live progress and its table. demo.py runs it."""
from serving.client import Run

PROMPT = "portrait photo of a person in a sunlit garden, 85 mm, natural colours"
NEGATIVE = "blurry, deformed, text, watermark"
RESULTS = {"save_faces": "faces.png", "save_keypoints": "keypoints.png", "save_picture": "picture.png"}


def build(photo: str, adapter: str, checkpoint: str | None, controlnet: str | None, size: int, steps: int) -> dict:
    """The workflow in API form. Without a checkpoint and a ControlNet: the miniature's loader nodes."""
    load_model = node("CheckpointLoaderSimple", ckpt_name=checkpoint) if checkpoint else node("InstantIDDemoCheckpoint")
    load_net = node("ControlNetLoader", control_net_name=controlnet) if controlnet else node("InstantIDDemoControlNet")
    return {
        "checkpoint": load_model,
        "controlnet": load_net,
        "adapter": node("InstantIDModelLoader", instantid_file=adapter),
        "analysis": node("InstantIDFaceAnalysis", provider="CPU"),
        "photo": node("LoadImage", image=photo),
        "numbered": node("InstantIDDemoNumberFaces", faceanalysis=["analysis", 0], image=["photo", 0]),
        "save_faces": node("SaveImage", images=["numbered", 0], filename_prefix="faces"),
        "keypoints": node("FaceKeypointsPreprocessor", faceanalysis=["analysis", 0], image=["photo", 0]),
        "save_keypoints": node("SaveImage", images=["keypoints", 0], filename_prefix="keypoints"),
        "positive": node("CLIPTextEncode", clip=["checkpoint", 1], text=PROMPT),
        "negative": node("CLIPTextEncode", clip=["checkpoint", 1], text=NEGATIVE),
        "apply": node("ApplyInstantID", instantid=["adapter", 0], insightface=["analysis", 0],
                      control_net=["controlnet", 0], image=["photo", 0], model=["checkpoint", 0],
                      positive=["positive", 0], negative=["negative", 0], weight=0.8, start_at=0.0, end_at=1.0),
        "latent": node("EmptyLatentImage", width=size, height=size, batch_size=1),
        "sample": node("KSampler", model=["apply", 0], positive=["apply", 1], negative=["apply", 2],
                       latent_image=["latent", 0], seed=7, steps=steps, cfg=4.5, sampler_name="euler",
                       scheduler="normal", denoise=1.0),
        "decode": node("VAEDecode", samples=["sample", 0], vae=["checkpoint", 2]),
        "save_picture": node("SaveImage", images=["decode", 0], filename_prefix="picture"),
    }


def node(class_type: str, **inputs: object) -> dict:
    return {"class_type": class_type, "inputs": inputs}


def variants(workflow: dict) -> list[tuple[str, dict]]:
    """The three runs: as it is; another weight; then, in addition, another seed."""
    weight = changed(workflow, "apply", weight=1.2)
    return [("first run", workflow), ("other weight", weight), ("other seed", changed(weight, "sample", seed=8))]


def changed(workflow: dict, node_id: str, **inputs: object) -> dict:
    old = workflow[node_id]
    return {**workflow, node_id: {**old, "inputs": {**old["inputs"], **inputs}}}


def name_of(workflow: dict, node_id: str) -> str:
    """`positive (CLIPTextEncode)`"""
    return f"{node_id} ({workflow[node_id]['class_type']})"


class Progress:
    """Prints what ComfyUI works at: one line per node, with the steps of those that report some."""

    def __init__(self, workflow: dict):
        self.workflow = workflow
        self.node: str | None = None

    def __call__(self, kind: str, data: dict) -> None:
        if kind == "execution_cached" and data["nodes"]:
            print(f"    kept by ComfyUI: {len(data['nodes'])} nodes")
        elif kind == "executing":
            self.end_line()
            self.node = data["node"]
            if self.node is not None:
                print(f"    {name_of(self.workflow, self.node)}", end="", flush=True)
        elif kind == "progress" and data["node"] == self.node and data["max"] > 1:
            print(f" {data['value']}" + (f"/{data['max']}" if data["value"] == 1 else ""), end="", flush=True)

    def end_line(self) -> None:
        if self.node is not None:
            print(flush=True)
            self.node = None


def cache_changes(before: dict, after: dict) -> dict[str, str]:
    """`2 hits, 1 new` per cache of the pack, from two of its statistics."""
    changes = {}
    for name, now in after.items():
        then = before.get(name, {})
        hits, misses = (now.get(key, 0) - then.get(key, 0) for key in ("hits", "misses"))
        changes[name] = f"{hits} hit, {misses} new" if hits or misses else "-"
    return changes


def table(workflow: dict, titles: list[str], runs: list[Run], caches: list[dict[str, str]]) -> str:
    """Per node and run the seconds it took, or `cached`; below, what the pack's own caches did."""
    rows = [[name_of(workflow, node_id), *(spent(run, node_id) for run in runs)] for node_id in workflow]
    rows.append(["the whole workflow", *(f"{run.total:.2f} s" for run in runs)])
    kept = [[name, *(run.get(name, "-") for run in caches)] for name in sorted({key for run in caches for key in run})]
    head = ["node", *titles]
    widths = [max(len(row[column]) for row in [head, *rows, *kept]) + 2 for column in range(len(head))]

    def line(row: list[str]) -> str:
        cells = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        return "  " + row[0].ljust(widths[0]) + "".join(cells)

    rule = "  " + "-" * sum(widths)
    lines = [line(head), rule, *map(line, rows[:-1]), rule, line(rows[-1])]
    if kept:
        lines += ["", line(["InstantID Swift's own caches", *titles]), rule, *map(line, kept)]
    return "\n".join(lines)


def spent(run: Run, node_id: str) -> str:
    return f"{run.seconds[node_id]:.2f} s" if node_id in run.seconds else "cached"
