"""What was measured, as text with aligned columns and as bars. Pillow is imported where a picture is drawn."""

import torch

from .measure import ANOTHER, SAME, SMALL_FACE, band

WIDTH, BAR, MARGIN = 960, 26, 12  # pixels of the picture
BLUE, GREY = "#0072B2", "#B0B0B0"
TRAINED_WITH = "antelopev2"
BANDS = (f"For photographs: below {ANOTHER} is another person, {ANOTHER} to {SAME} is similar, above {SAME} is the same "
         "person. Paintings, drawings and other stylised pictures score lower.")


def report_text(measured, kept=None):
    """The Likeness of a batch as text. kept: indices of the pictures that go on, best first; None for all with a number."""
    kept = measured.order if kept is None else kept
    if not measured.values:
        return "There are no pictures."
    head = ["place", "picture", "likeness", "face", *(["second opinion"] if measured.second else []), "as a photograph"]
    rows = [[str(place), str(index), f"{measured.values[index]:.3f}", f"{measured.sides[index]} px",
             *([f"{measured.second[index]:.3f}"] if measured.second else []),
             band(measured.values[index]) + ("" if index in kept else ", left out")]
            for place, index in enumerate(measured.order, 1)]
    missing = [str(index) for index, value in enumerate(measured.values) if value is None]
    notes = []
    if missing:
        notes.append(f"Without a number, because no face was found: picture{'s' * (len(missing) > 1)} {', '.join(missing)} "
                     f"({len(missing)} of {len(measured.values)}).")
    if any(side is not None and side < SMALL_FACE for side in measured.sides):
        notes.append(f"A face of less than {SMALL_FACE} px is small: its number is less certain.")
    return "\n".join([*(aligned([head, *rows]) if rows else []), *([""] if rows else []), *notes, meaning(measured)])


def meaning(measured):
    """What the numbers of a Likeness were measured with, and how to read them: lines of text."""
    return "\n".join([_reference_note(measured.reference.own, measured.reference.photos), _network_note(measured), BANDS])


def _reference_note(own, photos):
    if not own:
        return "Reference: one photo. With several photos the report also says how like they are to each other."
    each = ", ".join(f"{value:.3f}" for value in own)
    return (f"Reference: the mean of {photos} photos. Each of them against the others: {each}. So the person's own photos "
            f"reach {sum(own) / len(own):.3f} on average; more cannot be expected of a picture.")


def _network_note(measured):
    text = f"Face network: {measured.embedder}."
    if TRAINED_WITH in measured.embedder:
        text += (f" InstantID was conditioned on {TRAINED_WITH} itself, so its numbers flatter InstantID; a second opinion by "
                 "another network is fairer.")
    if measured.second:
        text += f" Second opinion: {measured.second_embedder}."
        if own := measured.second_own:
            text += f" With it, the reference's photos reach {sum(own) / len(own):.3f} against each other."
    return text


def aligned(rows):
    """Lines of rows of strings: all columns to the right but the last."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([*map(str.rjust, row[:-1], widths), row[-1]]) for row in rows]


def canvas(width, height):
    """(picture, pen, font): a white Pillow picture."""
    from PIL import Image, ImageDraw, ImageFont
    picture = Image.new("RGB", (width, height), "white")
    return picture, ImageDraw.Draw(picture), ImageFont.load_default(18)


def as_image(picture):
    """A Pillow picture as IMAGE, float32 [1, h, w, 3] in 0..1."""
    import numpy as np
    return torch.from_numpy(np.asarray(picture.convert("RGB"), dtype=np.float32) / 255)[None]


def bars(measured):
    """The likeness of each picture as bars, best first: IMAGE, float32 [1, h, w, 3]. Lines mark the bands."""
    order = measured.order
    top = 2 * MARGIN + BAR
    picture, pen, font = canvas(WIDTH, top + max(1, len(order)) * (BAR + 4) + 2 * MARGIN)
    pen.text((MARGIN, MARGIN), "Likeness", "black", font)
    left, room = 150, WIDTH - 150 - 90
    for value in (ANOTHER, SAME):
        x = left + round(room * value)
        pen.line((x, top - 4, x, picture.height - MARGIN), GREY, 2)
        pen.text((x + 4, MARGIN), f"{value:g}", "gray", font)
    for row, index in enumerate(order):
        y, value = top + row * (BAR + 4), measured.values[index]
        pen.text((MARGIN, y), f"picture {index}", "black", font)
        end = left + max(1, round(room * max(value, 0)))
        pen.rectangle((left, y + 2, end, y + BAR - 3), BLUE)
        pen.text((end + 8, y), f"{value:.3f}", "black", font)
    if not order:
        pen.text((MARGIN, top), "No face was found.", "black", font)
    return as_image(picture)
