"""Takes the README's pictures in Chromium: python dev/pictures.py, in the Python of .dev/venv, writes docs/path.jpg and docs/editor.gif."""

import io
import json
import shutil
import sys
import tempfile
from pathlib import Path

import environment
from PIL import Image, ImageDraw
from serving.server import Server

sys.path.insert(0, str(environment.CHECKOUT / "tests"))
import chromium  # noqa: E402 - from the folder above

PHOTO = environment.CHECKOUT / "tests" / "people" / "portrait_22.jpg"
SHOWN = {"x": -20, "y": -80, "width": 1570, "height": 1080}      # of template 04: all but the sampler and its picture
SHOW = """async ([workflow, x, y, scale]) => {
    if (workflow) await app.loadGraphData(workflow)
    const box = app.canvas.canvas.getBoundingClientRect()
    Object.assign(app.canvas.ds, { scale, offset: [-x - box.x / scale, -y - box.y / scale] })
    app.canvas.setDirty(true, true)
    await new Promise((done) => setTimeout(done, 2000))
}"""
FACE = """(face) => {
    const find = (type) => app.graph._nodes.find((node) => node.type === type)
    globalThis.edited = find("InstantIDEditKeypoints")
    find("LoadImage").connect(0, edited, "background")
    edited.instantidEditor.set(JSON.stringify(face))
    return [...edited.pos]
}"""
PLACES = """() => {
    const { scale, zoom, left, top, box } = edited.instantidEditor.layout()
    const { turn, box: [x, y, right, bottom] } = edited.instantidEditor.handles(edited.instantidEditor.faces()[0])
    const shown = ([x, y]) => [box.x + (left + x * scale) * zoom, box.y + (top + y * scale) * zoom]
    return { turn: shown(turn), face: shown([(x + right) / 2, y + (bottom - y) / 8]), box: [box.x, box.y, box.width, box.height] }
}"""


def film(page):
    """Yields the editor's pictures while the mouse turns the head, moves it, and turns it back."""
    for start, across, down in (("turn", 50, 0), ("face", -35, 0), ("turn", -70, 0)):
        places = page.evaluate(PLACES)
        x, y, width, height = places["box"]
        for step in range(9):
            hand = [places[start][0] + across * step / 8, places[start][1] + down * step / 8]
            page.mouse.move(*hand)
            page.mouse.down() if not step else page.wait_for_timeout(250)      # the server turns heads
            frame = Image.open(io.BytesIO(page.screenshot(clip={"x": x, "y": y, "width": width, "height": height})))
            arrow = [(hand[0] - x + right, hand[1] - y + below) for right, below in ((0, 0), (0, 24), (6, 18), (16, 17))]
            ImageDraw.Draw(frame).polygon(arrow, fill="white", outline="black")
            yield frame.convert("RGB")
        page.mouse.up()


def main():
    workflow = json.loads((environment.CHECKOUT / "example_workflows" / "04 Turn the head.json").read_text(encoding="utf-8"))
    truth = json.loads((PHOTO.parent / "truth.json").read_text(encoding="utf-8"))[PHOTO.name][0]["points"]
    with Server(environment.comfyui(), cpu=True) as server, tempfile.TemporaryDirectory() as scratch:
        server.client.upload_image(shutil.copy(PHOTO, Path(scratch, "person.png")))
        editor = chromium.Editor(chromium.find_browser(), Path(scratch, "profile"))
        editor.open(server.client)
        editor.drive(lambda page: page.set_viewport_size({"width": 1800, "height": 1200}))
        editor.evaluate(SHOW, [workflow, SHOWN["x"] - 100, SHOWN["y"] - 60, 1])
        shot = editor.drive(lambda page: page.screenshot(clip={**SHOWN, "x": 100, "y": 60}))
        Image.open(io.BytesIO(shot)).convert("RGB").save(environment.CHECKOUT / "docs" / "path.jpg", quality=82)
        x, y = editor.evaluate(FACE, {"width": 768, "height": 768, "array": truth, "opacities": [1] * 5})
        editor.evaluate(SHOW, [None, x - 100, y - 100, 1])
        frames = [frame.quantize(96, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE) for frame in editor.drive(lambda page: list(film(page)))]
        frames[0].save(environment.CHECKOUT / "docs" / "editor.gif", save_all=True, append_images=frames[1:], duration=120, loop=0)
        editor.close()


if __name__ == "__main__":
    main()
