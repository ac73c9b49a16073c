"""Reports on faces, likeness and sweeps, as text with aligned columns and as pictures. Pillow is imported where it draws."""

import textwrap
from statistics import fmean

import torch

from ..utils import image_to_bgr
from .measure import ANOTHER, SAME, SMALL_FACE, band
from .sweep import label

LINE, MARGIN = 26, 12  # pixels
MOST_WIDTH, MOST_HEIGHT = 4096, 8192  # of a contact sheet: pictures are shrunk to fit
LEAST_SIDE = 32
CHART = (960, 480)
BLUE, GREY, ORANGE, GREEN, SKY = "#0072B2", "#B0B0B0", "#E69F00", "#50DC50", "#3CAAFF"
TRAINED_WITH = "antelopev2"
LETTERS = 70  # a line of prose
BAR = 18      # letters of a likeness of 1
BANDS = (f"Photographs: above {SAME} is the same person, {ANOTHER} to {SAME} is similar, below {ANOTHER} is another person. "
         "Paintings, drawings and other stylised pictures score lower.")


def report_text(measured, kept=None):
    """Returns the Likeness of a batch as text, a bar for each picture. kept: indices of the pictures that go on; None for all
    with a number."""
    kept = measured.order if kept is None else kept
    if not measured.values:
        return "There are no pictures."
    head = ["picture", "likeness", "", *(["second opinion"] if measured.second else []), "face", "verdict"]
    rows = [[str(index), f"{measured.values[index]:.3f}", ("━" * round(BAR * max(0, measured.values[index]))).ljust(BAR),
             *([f"{measured.second[index]:.3f}"] if measured.second else []),
             f"{measured.sides[index]} px{'*' if is_small(measured.sides[index]) else ' '}",
             band(measured.values[index]) + ("" if index in kept else ", left out")]
            for index in measured.order]
    missing = [str(index) for index, value in enumerate(measured.values) if value is None]
    notes = ["The best picture comes first."] if len(rows) > 1 else []
    if missing:
        notes.append(f"Without a number, because no face was found: picture{'s' * (len(missing) > 1)} {', '.join(missing)} "
                     f"({len(missing)} of {len(measured.values)}).")
    if any(map(is_small, measured.sides)):
        notes.append(f"* A face of less than {SMALL_FACE} px: its number is less certain.")
    return with_prose(aligned([head, *rows]) if rows else [], *notes, *meaning(measured))


def is_small(side):
    """Returns whether the likeness of a face is less certain. side: pixels, or None."""
    return side is not None and side < SMALL_FACE


def with_prose(lines, *notes):
    """Returns the lines of a table, and below it the notes, broken into lines that a node has room for."""
    return "\n".join([*lines, *([""] if lines else []), *(textwrap.fill(note, LETTERS) for note in notes)])


def meaning(measured):
    """Returns sentences about the reference, the networks and the numbers of a Likeness."""
    notes = []
    if cosines := measured.reference.photo_cosines:
        each = ", ".join(f"{value:.3f}" for value in cosines)
        notes.append(f"The {len(cosines)} photos of the reference reach {fmean(cosines):.3f} among each other ({each}). Expect "
                     "no more of a picture.")
    if TRAINED_WITH in measured.embedder:
        notes.append("InstantID was trained with the network that measures here, so the numbers are a little high.")
    else:
        notes.append(f"The faces are measured by {measured.embedder}.")
    if measured.second:
        again = measured.second_photo_cosines
        reached = f", with which the photos reach {fmean(again):.3f}" if again else ""
        notes.append(f"The second opinion is that of {measured.second_embedder}{reached}.")
    return [*notes, BANDS]


def faces_text(pictures, chosen, order, *notes):
    """Returns a table of the faces of pictures, each with its number, size and certainty, and notes below.

    pictures: the faces of each picture in order. chosen: the number of the one that is used. order: its name.
    """
    rows = [[str(index), str(number), f"{face.box[2] - face.box[0]:.0f} x {face.box[3] - face.box[1]:.0f}", f"{face.score:.2f}",
             "used" if number == chosen else ""]
            for index, found in enumerate(pictures) for number, face in enumerate(found)]
    missing = [str(index) for index, found in enumerate(pictures) if chosen >= len(found)]
    used = f"Face {chosen} (green) is used. Order: {order}."
    if missing:
        used += f" There is no such face in picture{'s' * (len(missing) > 1)} {', '.join(missing)}."
    rows = [["picture", "face", "size in px", "certainty", ""], *rows] if rows else []
    first = 1 if len(pictures) == 1 else 0  # column
    return with_prose(aligned([row[first:] for row in rows]), used, *notes)


def aligned(rows):
    """Returns rows of strings as lines: all columns but the last are aligned to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([*map(str.rjust, row[:-1], widths), row[-1]]).rstrip() for row in rows]


def canvas(width, height):
    """Returns (picture, pen, font): a white Pillow picture, and what draws on it."""
    from PIL import Image, ImageDraw, ImageFont
    picture = Image.new("RGB", (width, height), "white")
    return picture, ImageDraw.Draw(picture), ImageFont.load_default(18)


def as_image(picture):
    """Returns a Pillow picture as IMAGE, float32 [1, h, w, 3] in 0..1."""
    import numpy as np
    return torch.from_numpy(np.asarray(picture.convert("RGB"), dtype=np.float32) / 255)[None]


def number_faces(image, listed, chosen):
    """Returns a picture with a box around each face and its number: IMAGE [1, h, w, 3].

    image: one picture of a batch, float [h, w, c]. listed: its faces in order. chosen: the number of the one that is used.
    """
    from PIL import Image, ImageDraw, ImageFont
    picture = Image.fromarray(image_to_bgr(image)[:, :, ::-1].copy())
    pen, unit = ImageDraw.Draw(picture), max(1, round(max(picture.size) / 600))
    font = ImageFont.load_default(24 * unit)
    for number, face in reversed(list(enumerate(listed))):  # the first ones lie above the others
        left, top, right, bottom = map(float, face.box)
        colour = GREEN if number == chosen else SKY
        pen.rectangle((left, top, right, bottom), outline=colour, width=(3 if number == chosen else 2) * unit)
        # above the box; at the picture's border inside of it, where it is not cut
        place = left + 4 * unit, max(top, font.size + 4 * unit) - 4 * unit
        tag = pen.textbbox(place, str(number), font, anchor="ls")
        pen.rectangle((left, tag[1] - 4 * unit, tag[2] + 4 * unit, tag[3] + 4 * unit), fill=colour)
        pen.text(place, str(number), "black", font, anchor="ls")
    return as_image(picture)


def bounding_box(face, size, padding=0):
    """Returns a face's box grown by padding pixels and cut at the picture's edges: ComfyUI's BOUNDING_BOX."""
    left, top = (max(0, int(value) - padding) for value in face.box[:2])
    right, bottom = (min(most, -int(-value // 1) + padding) for value, most in zip(face.box[2:].tolist(), size, strict=True))
    return {"x": left, "y": top, "width": max(1, right - left), "height": max(1, bottom - top)}


def mask_of(box, size):
    """Returns the area of a BOUNDING_BOX: MASK [h, w], 1 inside. box: None for an empty mask. size: (width, height)."""
    mask = torch.zeros(size[1], size[0])
    if box is not None:
        mask[box["y"]:box["y"] + box["height"], box["x"]:box["x"] + box["width"]] = 1
    return mask


def contact_sheet(scores, pictures):
    """Returns the first picture of each cell, a column for each value and a row for each seed, labelled: IMAGE [1, h, w, 3].

    pictures: {(value, seed): IMAGE}.
    """
    from PIL import Image
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
            numbers = scores.cell_numbers(value, seed)
            pen.text((x, y + height), f"{fmean(numbers):.3f}" if numbers else "no face", "black", font)
    return as_image(sheet)


def line_chart(scores):
    """Returns a chart of the mean likeness over the values, and of the range of the seeds: IMAGE [1, h, w, 3]."""
    picture, pen, font = canvas(*CHART)
    cells = scores.cells
    measured = [number for value in cells.values for number in scores.numbers(value)]
    low, high = min([0.0, *measured]), max([0.5, *measured])
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
        numbers = scores.numbers(value)
        if numbers:
            points.append((x, y_of(fmean(numbers))))
            pen.line((x, y_of(min(numbers)), x, y_of(max(numbers))), BLUE, 3)
    pen.line(points, BLUE, 2)
    for x, y in points:
        pen.ellipse((x - 6, y - 6, x + 6, y + 6), BLUE)
    if not points:
        pen.text((left, top), "No face was found.", "black", font)
    return as_image(picture)


def table(scores, *notes):
    """Returns the numbers of a sweep as text with aligned columns, and notes below."""
    without = any(scores.missing(value) for value in scores.cells.values)
    rows = [["mean", "least", "most", *(["without a face"] if without else []), scores.cells.setting]]
    for value in scores.cells.values:
        numbers = scores.numbers(value)
        shown = [f"{number:.3f}" for number in (fmean(numbers), min(numbers), max(numbers))] if numbers else ["-"] * 3
        rows.append([*shown, *([str(scores.missing(value))] if without else []), label(value)])
    best = "No picture shows a face that can be measured." if scores.best is None \
        else f"Best {scores.cells.setting}: {label(scores.best)}."
    return with_prose(aligned(rows), best, *notes)
