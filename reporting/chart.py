"""What was recorded of a run, as a picture."""

import torch

from ..timing.history import duration

WIDTH, BAR, MARGIN = 960, 26, 12  # pixels of the chart
WALL, GPU = "#0072B2", "#E69F00"  # blue and orange of Okabe and Ito, told apart by colour-blind people too


def chart(rows):
    """The own times of rows as bars: IMAGE, float32 [1, h, w, 3] in 0..1. Wall time in blue, GPU time below it in orange."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont
    font, large = ImageFont.load_default(18), ImageFont.load_default(22)
    shown = [row for row in rows if row.calls]
    bars = [[(WALL, row.own), *([] if row.gpu is None else [(GPU, row.gpu)])] for row in shown]
    top = 3 * MARGIN + 2 * BAR
    height = top + sum(BAR * len(pair) + MARGIN for pair in bars) + (BAR if not bars else 0)
    picture = Image.new("RGB", (WIDTH, height), "white")
    draw = ImageDraw.Draw(picture)

    draw.text((MARGIN, MARGIN), "InstantID: own time of each stage", "black", large)
    x = MARGIN
    for colour, meaning in ((WALL, "wall time"), (GPU, "GPU time"))[:max(map(len, bars), default=0)]:
        draw.rectangle((x, top - MARGIN - BAR + 4, x + 16, top - MARGIN - BAR + 20), colour)
        draw.text((x + 24, top - MARGIN - BAR), meaning, "black", font)
        x += 140
    if not bars:
        draw.text((MARGIN, top), "No stage has run.", "black", font)

    left = max((font.getlength(row.name) for row in shown), default=0) + 2 * MARGIN
    room = WIDTH - left - 120  # for the number at the end of a bar
    longest = max((seconds for pair in bars for _, seconds in pair), default=0) or 1
    y = top
    for row, pair in zip(shown, bars, strict=True):
        draw.text((MARGIN, y), row.name, "black", font)
        for colour, seconds in pair:
            end = left + max(1, round(room * seconds / longest))
            draw.rectangle((left, y + 2, end, y + BAR - 3), colour)
            draw.text((end + 8, y), duration(seconds), "black", font)
            y += BAR
        y += MARGIN
    return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255)[None]
