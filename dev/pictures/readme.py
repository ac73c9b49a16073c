"""Takes the README's pictures docs/path.jpg and docs/editor.gif in Chromium: .dev/venv/bin/python dev/pictures/readme.py."""

import io
import json
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(CHECKOUT / "dev"), str(CHECKOUT / "tests")]
import chromium  # noqa: E402 - from the folders above
import environment  # noqa: E402
from serving.server import Server  # noqa: E402

PHOTO = CHECKOUT / "tests" / "people" / "portrait_22.jpg"
DOCS = CHECKOUT / "docs"
MODELS = {"checkpoints": "sd_xl_base_1.0.safetensors", "controlnet": "instantid_controlnet.safetensors",
          "instantid": "ip-adapter.bin"}        # empty files: the editor marks a loader whose file is missing
SHOWN = {"x": 120, "y": 135, "width": 1630, "height": 1190}      # of the page: the template but for sampler and result
SHOW = """async ([workflow, face]) => {
    if (workflow) await app.loadGraphData(workflow)
    globalThis.node = app.graph._nodes.find(({ type }) => type === "InstantIDEditKeypoints")
    if (face) app.graph._nodes.find(({ type }) => type === "LoadImage").connect(0, node, "background")
    if (face) node.instantidEditor.set(JSON.stringify(face))
    Object.assign(app.canvas.ds, { scale: 1, offset: [140, 180] })
    app.canvas.setDirty(true, true)
    await new Promise((done) => setTimeout(done, 2000))
}"""
PLACES = """() => {
    const { scale, left, top, box: { x: across, y: down, width, height } } = node.instantidEditor.layout()
    const { turn, box: [x, y, right] } = node.instantidEditor.handles(node.instantidEditor.faces()[0])
    const shown = (x, y) => [across + left + x * scale, down + top + y * scale]
    return { turn: shown(...turn), face: shown((x + right) / 2, y + 20), x: across, y: down, width, height }
}"""


def film(page):
    """Yields the editor's pictures while the mouse turns the head, moves it, and turns it back."""
    for start, way in (("turn", 50), ("face", -35), ("turn", -70)):
        clip = page.evaluate(PLACES)
        turn, face = clip.pop("turn"), clip.pop("face")
        for step in range(9):
            x, y = turn if start == "turn" else face
            page.mouse.move(x + way * step / 8, y)
            page.wait_for_timeout(250) if step else page.mouse.down()      # the server turns heads
            frame = Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")
            tip = x + way * step / 8 - clip["x"], y - clip["y"]
            arrow = [(tip[0] + right, tip[1] + down) for right, down in ((0, 0), (0, 24), (6, 18), (16, 17))]
            ImageDraw.Draw(frame).polygon(arrow, fill="white", outline="black")
            yield frame.quantize(96, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        page.mouse.up()


with tempfile.TemporaryDirectory() as scratch:
    for kind, name in MODELS.items():
        Path(scratch, kind).mkdir()
        Path(scratch, kind, name).touch()
    workflow = json.loads((CHECKOUT / "example_workflows" / "04 Turn the head.json").read_text(encoding="utf-8"))
    points = json.loads(PHOTO.with_name("truth.json").read_text(encoding="utf-8"))[PHOTO.name][0]["points"]
    paths = Path(scratch, "paths.yaml")
    paths.write_text(f"empty:\n  base_path: '{scratch}'\n" + "".join(f"  {kind}: {kind}\n" for kind in MODELS))
    with Server(environment.comfyui(), cpu=True, arguments=("--extra-model-paths-config", str(paths))) as server:
        server.client.upload_image(shutil.copy(PHOTO, Path(scratch, "person.png")))
        editor = chromium.Editor(chromium.find_browser(), Path(scratch, "profile"))
        editor.open(server.client)
        editor.drive(lambda page: page.set_viewport_size({"width": 2100, "height": 1500}))
        editor.evaluate(SHOW, [workflow, None])
        shot = editor.drive(lambda page: page.screenshot(clip=SHOWN))
        Image.open(io.BytesIO(shot)).convert("RGB").save(DOCS / "path.jpg", quality=82)
        editor.evaluate(SHOW, [None, {"width": 768, "height": 768, "array": points}])
        first, *others = editor.drive(lambda page: list(film(page)))
        first.save(DOCS / "editor.gif", save_all=True, append_images=others, duration=120, loop=0)
        editor.close()
