"""Bar charts of figures, as PNG. Each carries what it was drawn from, so that an old one can be told."""

import json
from fnmatch import fnmatch
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from benchmarks.support import files

from . import tables

WIDTH = 830  # pixels: GitHub shows a README that wide
MARGIN, BAR, BETWEEN_BARS, BETWEEN_ROWS = 16, 18, 2, 12
FONT, TITLE = 15, 18
INK, PAPER, LINE = "#222222", "#ffffff", "#bbbbbb"
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#f0e442", "#000000")  # Okabe and Ito's
KEY = "figures"  # of the PNG's text


class Chart(NamedTuple):
    """Which figures of a stage are drawn."""
    stage: str
    table: str           # by name; * stands for anything
    columns: tuple = ()  # all of them if empty
    title: str = ""


CHARTS = (
    Chart("faces", "pictures_milliseconds", title="Photos to embeddings and keypoints, milliseconds"),
    Chart("faces", "opening", ("seconds",), "Opening the face networks, seconds"),
    Chart("faces", "opening", ("megabytes",), "Opening the face networks, MB of memory"),
    Chart("load", "variants", ("seconds",), "Opening the adapter, seconds"),
    Chart("sampling", "batch *", ("ms per step",), "Milliseconds of a step"),
    Chart("transfers", "a step", ("host reads",), "Host reads of a step, beyond the plain UNet's"),
)


def write(contents, folder):
    """Draws all charts of some files, {name: content}, into a folder; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for chart in CHARTS:
        names = dict.fromkeys(name for content in contents.values()
                              for name in content["stages"].get(chart.stage, {}).get("figures", ()))
        for table in filter(lambda name: fnmatch(name, chart.table), names):
            bars = figures_of(contents, chart, table)
            if bars:
                title = chart.title + (f", {table}" if table != chart.table else "")
                name = "-".join([*contents, chart.stage, table, *chart.columns]).replace(" ", "-").replace("_", "-")
                source = {"files": list(contents), "chart": chart._asdict(), "table": table, "bars": bars}
                written.append(folder / f"{name}.png")
                note = PngImagePlugin.PngInfo()
                note.add_text(KEY, json.dumps(source))
                draw(title, bars).save(written[-1], pnginfo=note, optimize=True)
    return written


def figures_of(contents, chart, table):
    """{row: {bar: number}}; of several files each bar has the file's name, too."""
    bars = {}
    for file, content in contents.items():
        node = content["stages"].get(chart.stage, {}).get("figures", {}).get(table, {})
        for row, figures in tables.rows_of(node):
            for column, figure in figures.items():
                if (column in chart.columns or not chart.columns) and isinstance(figure, int | float):
                    parts = (column if len(chart.columns) != 1 else "", file if len(contents) > 1 else "")
                    bars.setdefault(row, {})[", ".join(filter(None, parts))] = figure
    return bars


def outdated(path, folder=files.RESULTS):
    """Whether the figures that a chart was drawn from are others by now. False of a picture that is none of ours."""
    with Image.open(path) as picture:
        source = getattr(picture, "text", {}).get(KEY)
    if source is None:
        return False
    source = json.loads(source)
    contents = {name: files.read(folder / f"{name}.json") for name in source["files"]}
    return figures_of(contents, Chart(**source["chart"]), source["table"]) != source["bars"]


def draw(title, rows):
    """The chart of {row: {bar: number}}: horizontal bars, grouped by row, each with its number."""
    font, large = ImageFont.load_default(FONT), ImageFont.load_default(TITLE)
    bars = list(dict.fromkeys(bar for row in rows.values() for bar in row))
    colours = dict(zip(bars, (COLOURS[number % len(COLOURS)] for number in range(len(bars))), strict=True))
    legend = _legend(bars, font) if len(bars) > 1 else []
    numbers = [number for row in rows.values() for number in row.values()]
    left = 2 * MARGIN + max(map(font.getlength, rows))
    right = MARGIN + 6 + max(font.getlength(tables.text(number)) for number in numbers)
    scale = (WIDTH - left - right) / (max(numbers) or 1)
    top = MARGIN + TITLE + 18 + (FONT + 8) * (1 + max((line for _, _, line in legend), default=-1))
    heights = [len(row) * (BAR + BETWEEN_BARS) + BETWEEN_ROWS for row in rows.values()]
    image = Image.new("RGB", (WIDTH, int(top + sum(heights) + MARGIN)), PAPER)
    pen = ImageDraw.Draw(image)
    pen.text((MARGIN, MARGIN), title, INK, large)
    for bar, x, line in legend:
        y = MARGIN + TITLE + 14 + line * (FONT + 8)
        pen.rectangle((x, y + 2, x + FONT - 3, y + FONT - 1), colours[bar])
        pen.text((x + FONT + 4, y), bar, INK, font)
    pen.line((left, top, left, top + sum(heights) - BETWEEN_ROWS), LINE)
    for (row, of_row), height in zip(rows.items(), heights, strict=True):
        pen.text((left - MARGIN / 2, top + (height - BETWEEN_ROWS) / 2), row, INK, font, anchor="rm")
        for place, (bar, number) in enumerate(of_row.items()):
            y, length = top + place * (BAR + BETWEEN_BARS), max(number, 0) * scale
            if length:
                pen.rectangle((left + 1, y, left + 1 + length, y + BAR - 1), colours[bar])
            pen.text((left + length + 6, y + BAR / 2), tables.text(number), INK, font, anchor="lm")
        top += height
    return image


def _legend(bars, font):
    """(bar, x, line) of each entry."""
    places, x, line = [], MARGIN, 0
    for bar in bars:
        width = FONT + 4 + font.getlength(bar) + 18
        if x + width > WIDTH - MARGIN and x > MARGIN:
            x, line = MARGIN, line + 1
        places.append((bar, x, line))
        x += width
    return places
