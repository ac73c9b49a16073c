"""Tables and charts of files of figures, and the figures in documents.

    python -m benchmarks report FILE...                     tables in Markdown, on the terminal
    python -m benchmarks report FILE... --charts FOLDER     the charts, too, as PNG
    python -m benchmarks report --update [DOCUMENT...]      makes the documents anew from templates and figures
    python -m benchmarks report --check [DOCUMENT...]       fails where a document is not what it would be made

Several files stand side by side, each figure with its ratio to the first file's. They must be of one machine. Without a
DOCUMENT, --update and --check take all documents that hold figures; README.md of the benchmarks says which these are.
"""

import sys
from pathlib import Path

from benchmarks.support import files

from . import rendering, tables

SUMMARY = "tables and charts of files of figures, and the figures in documents"


def add_arguments(parser):
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="JSON that a stage or `all` has written")
    parser.add_argument("--charts", type=Path, metavar="FOLDER", help="write charts of the files there")
    parser.add_argument("--update", nargs="*", type=Path, metavar="DOCUMENT", help="make these documents anew")
    parser.add_argument("--check", nargs="*", type=Path, metavar="DOCUMENT", help="compare these documents with their figures")


def run(arguments):
    """Exit code."""
    try:
        if arguments.files:
            contents = files.read_comparable(arguments.files)
            print(markdown(contents))
            if arguments.charts:
                from . import charts
                for path in charts.write(contents, arguments.charts):
                    print(f"Written to {path}.", file=sys.stderr)
        wrong = [f"{path}: {problem}" for paths, function in ((arguments.update, rendering.update),
                                                              (arguments.check, rendering.check)) if paths is not None
                 for path in paths or rendering.documents() for problem in function(path)]
    except files.FileError as error:
        print(error, file=sys.stderr)
        return 1
    for complaint in wrong:
        print(complaint, file=sys.stderr)
    return 1 if wrong else 0


def markdown(contents):
    """All tables of some files: {name: content}."""
    first = next(iter(contents.values()))
    lines = ["# Figures", "", f"Machine: {files.describe(first['machine'])}.", ""]
    for name, content in contents.items():
        lines.append(f"- {name}: " + ", ".join(f"{what} {version}" for what, version in content["versions"].items()))
    if len(contents) > 1:
        lines += ["", "In brackets: the ratio to the first file's."]
    for stage in dict.fromkeys(stage for content in contents.values() for stage in content["stages"]):
        having = {name: content["stages"][stage] for name, content in contents.items() if stage in content["stages"]}
        lines += ["", f"## {stage}", ""]
        lines += [f"{name} failed: {found['error']}" for name, found in having.items() if "error" in found]
        lines += section({name: found["figures"] for name, found in having.items() if "figures" in found})
    return "\n".join(lines)


def section(figures):
    """The tables of one stage. figures: {name of the file: its figures}."""
    single = {name: {key: value for key, value in found.items() if not isinstance(value, dict)}
              for name, found in figures.items()}
    lines = [*tables.table(single), ""] if any(single.values()) else []
    for title in dict.fromkeys(key for found in figures.values() for key, value in found.items() if isinstance(value, dict)):
        lines += [f"### {title}", "", *tables.table({name: found.get(title, {}) for name, found in figures.items()}), ""]
    return lines
