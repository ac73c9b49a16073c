"""A thumbnail for each template: a drawing of what it does, with keypoints as IdentityNet reads them. No invented results."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE = 512
PAPER, LINE, INK = "#10131a", "#e8eaf0", "#aab2c5"
POINTS = np.array([[.36, .40], [.64, .40], [.50, .56], [.39, .71], [.61, .71]])     # of a face in a square of side 1
LEFT, RIGHT, MIDDLE = (30, 120, 210, 330), (302, 120, 482, 330), (120, 70, 392, 380)


class Sketch:
    """A drawing of boxes (left, top, right, bottom) and arrows."""

    def __init__(self, title, draw_keypoints):
        self.image, self.draw_keypoints = Image.new("RGB", (SIDE, SIDE), PAPER), draw_keypoints
        self.pen = ImageDraw.Draw(self.image)
        self.pen.text((SIDE / 2, 455), title, "#ffffff", ImageFont.load_default(26), anchor="mm")

    def head(self, box, points=True, turn=0.0):
        """An outlined head; turn: how far the points lie to the side, as a part of the width."""
        left, top, right, bottom = box
        self.pen.ellipse(box, outline=LINE, width=4)
        if points:
            at = (POINTS + [turn, 0]) * [right - left, bottom - top] + [left, top]
            drawn = np.asarray(self.draw_keypoints(SIDE, SIDE, at), np.uint8)
            self.image.paste(Image.fromarray(drawn), mask=Image.fromarray(255 * (drawn.max(axis=2) > 0).astype(np.uint8)))
        return self

    def frame(self, box):
        self.pen.rectangle(box, outline=INK, width=3)
        return self

    def text(self, x, y, text):
        self.pen.text((x, y), text, INK, ImageFont.load_default(30), anchor="mm")
        return self


def thumbnails(draw_keypoints):
    """{title: picture}"""
    def sketch(title):
        return Sketch(title.removeprefix("InstantID ").capitalize(), draw_keypoints)

    pictures = {
        (title := "InstantID portrait"): sketch(title).head(MIDDLE),
        (title := "InstantID pose from another photo"):
            sketch(title).head(LEFT, points=False).text(SIDE / 2, 225, "+").head(RIGHT, turn=0.12),
        (title := "InstantID turn the head"): sketch(title).head(MIDDLE, turn=0.16),
        (title := "InstantID two people placed by hand"):
            sketch(title).head((60, 60, 200, 220)).head((290, 190, 450, 380)).frame((20, 30, 492, 420)),
        (title := "InstantID several photos of one person"):
            sketch(title).head((20, 60, 160, 230), False).head((20, 250, 160, 420), False).head((180, 150, 320, 320), False)
            .text(345, 235, "=").head((370, 130, 500, 340)),
        (title := "InstantID my person"):
            sketch(title).head(LEFT).text(SIDE / 2, 225, ">").frame((302, 120, 482, 330)).head((332, 150, 452, 300), False),
        (title := "InstantID two people"):
            sketch(title).head(LEFT).head(RIGHT).frame((10, 60, 250, 400)).frame((262, 60, 502, 400)),
        (title := "InstantID likeness without pose"): sketch(title).head(MIDDLE, points=False),
        (title := "InstantID face swap into a picture"):
            sketch(title).frame((60, 40, 452, 410)).head((160, 90, 352, 330)),
        (title := "InstantID small face in a second pass"):
            sketch(title).frame((20, 90, 220, 380)).head((95, 120, 145, 180), False).frame((85, 110, 155, 190))
            .text(250, 235, ">").frame((285, 110, 495, 360)).head((305, 130, 475, 340)),
        (title := "InstantID Lightning 8 steps"): sketch(title).head(MIDDLE).text(SIDE / 2, 415, "1 2 3 4 5 6 7 8"),
        (title := "InstantID find the weight"):
            sketch(title).head((30, 150, 160, 310), False).head((190, 150, 320, 310)).head((350, 150, 480, 310), False)
            .frame((180, 130, 330, 400)).text(95, 370, "0.4").text(255, 370, "0.6").text(415, 370, "0.8")}
    return {title: drawing.image for title, drawing in pictures.items()}
