"""What a sweep has made, as a contact sheet, a chart and a table. Pillow is imported where a picture is drawn."""

from .report import BLUE, GREY, aligned, as_image, canvas
from .sweep import label, mean

MARGIN, LINE = 12, 26    # pixels
MOST_WIDTH, MOST_HEIGHT = 4096, 8192  # of a contact sheet: pictures are shrunk to fit
LEAST_SIDE = 32
CHART = (960, 480)
ORANGE = "#E69F00"


def contact_sheet(scores, pictures):
    """The first picture of each cell, a column for each value and a row for each seed, labelled: IMAGE [1, h, w, 3].

    pictures: {(value, seed): IMAGE}.
    """
    from PIL import Image

    from ..utils import image_to_bgr
    cells = scores.cells
    height, width = next(iter(pictures.values())).shape[1:3]
    left = 150
    scale = min(1.0, (MOST_WIDTH - left) / len(cells.values) / width, MOST_HEIGHT / len(cells.seeds) / height)
    width, height = max(LEAST_SIDE, int(width * scale)), max(LEAST_SIDE, int(height * scale))
    step, row = max(width, 150) + MARGIN, height + LINE + MARGIN
    sheet, pen, font = canvas(left + step * len(cells.values), 2 * MARGIN + LINE + row * len(cells.seeds))
    for column, value in enumerate(cells.values):
        x = left + step * column
        best = ", best" if value == scores.best else ""
        pen.text((x, MARGIN), f"{cells.setting} {label(value)}{best}", "black", font)
        for line, seed in enumerate(cells.seeds):
            y = 2 * MARGIN + LINE + row * line
            pen.text((MARGIN, y), f"seed {seed}"[:14], "black", font)
            one = Image.fromarray(image_to_bgr(pictures[value, seed][0])[:, :, ::-1].copy()).resize((width, height))
            sheet.paste(one, (x, y))
            numbers = scores.at(value, seed)
            pen.text((x, y + height), f"{mean(numbers):.3f}" if numbers else "no face", "black", font)
    return as_image(sheet)


def chart(scores):
    """The mean likeness over the values, and how far the seeds spread: IMAGE [1, h, w, 3]."""
    picture, pen, font = canvas(*CHART)
    cells = scores.cells
    numbers = [number for value in cells.values for number in scores.of(value)]
    low, high = min([0.0, *numbers]), max([0.5, *numbers])
    left, right, top, bottom = 70, CHART[0] - 40, 2 * MARGIN + LINE, CHART[1] - 2 * LINE

    def y_of(number):
        return bottom - (number - low) / (high - low) * (bottom - top)
    pen.text((MARGIN, MARGIN), f"Likeness over {cells.setting}: mean, least and most of the pictures", "black", font)
    for part in range(6):
        number = low + (high - low) * part / 5
        pen.line((left, y_of(number), right, y_of(number)), GREY)
        pen.text((MARGIN, y_of(number) - 10), f"{number:.2f}", "black", font)
    room = (right - left) / len(cells.values)
    points = []
    for place, value in enumerate(cells.values):
        x = left + room * (place + 0.5)
        pen.text((x, bottom + MARGIN), label(value), ORANGE if value == scores.best else "black", font, anchor="ma")
        of = scores.of(value)
        if of:
            points.append((x, y_of(mean(of))))
            pen.line((x, y_of(min(of)), x, y_of(max(of))), BLUE, 3)
    pen.line(points, BLUE, 2)
    for x, y in points:
        pen.ellipse((x - 6, y - 6, x + 6, y + 6), BLUE)
    if not points:
        pen.text((left, top), "No face was found.", "black", font)
    return as_image(picture)


def table(scores):
    """The numbers of a sweep as text with aligned columns."""
    rows = [["mean", "least", "most", "without a face", scores.cells.setting]]
    for value in scores.cells.values:
        of = scores.of(value)
        rows.append([*(f"{number:.3f}" for number in (mean(of), min(of), max(of))), str(scores.missing(value)), label(value)]
                    if of else ["-", "-", "-", str(scores.missing(value)), label(value)])
    if scores.best is None:
        return "\n".join([*aligned(rows), "", "No picture shows a face that can be measured."])
    return "\n".join([*aligned(rows), "", f"Best {scores.cells.setting}: {label(scores.best)}."])
