"""Rows of a run: {column: value}."""
import csv
import itertools
import json
import math
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from bulk import BulkError
from bulk.jobs.settings import Settings

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".safetensors")
MOST_JOBS = 1_000_000


def rows(settings: Settings) -> tuple[list[dict], dict[str, Sequence]]:
    """The rows of the settings' table or product, and the values of each column of a product. Raises BulkError."""
    if settings.table:
        found = _rows_of(settings.table)
        _check(len(found))
        return found, {}
    unknown = sorted(set(settings.product) - set(settings.columns))
    if unknown:
        raise BulkError(f"[product] has {', '.join(unknown)}, which is neither in [files] nor in [inputs].")
    # a person's columns first: the outermost change least often, so the jobs of a person follow each other
    names = sorted(settings.product, key=lambda name: name not in settings.person)
    axes = {name: axis(name, settings.product[name], settings.folder, name in settings.files) for name in names}
    _check(math.prod(map(len, axes.values())))
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())], axes


def _check(count: int) -> None:
    if count > MOST_JOBS:
        raise BulkError(f"These are {count:,} jobs; a plan may have at most {MOST_JOBS:,}. Divide it among several JOBS.toml.")


def _rows_of(path: Path) -> list[dict]:
    kinds = {".csv": _csv, ".jsonl": _json_lines, ".toml": _toml}
    if path.suffix.lower() not in kinds:
        raise BulkError(f"The table {path} is of no known kind. There are: {', '.join(kinds)}.")
    try:
        return list(kinds[path.suffix.lower()](path))
    except OSError as error:
        raise BulkError(f"The table {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise BulkError(f"The table {path} is not in UTF-8: save it as UTF-8.") from error
    except (ValueError, csv.Error) as error:
        raise BulkError(f"The table {path} is not a {path.suffix} file: {error}.") from error


def _csv(path: Path) -> Iterator[dict]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        head = file.readline()
        file.seek(0)
        reader = csv.DictReader(file, delimiter=max(",;\t", key=head.count))      # spreadsheets of many countries write ;
        for row in reader:
            if None in row:
                raise BulkError(f"Line {reader.line_num} of {path} has more cells than the first line.")
            yield {name: cell for name, cell in row.items() if cell not in (None, "")}


def _json_lines(path: Path) -> Iterator[dict]:
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise BulkError(f"Line {number} of {path} is not JSON: {error}.") from error
            if not isinstance(row, dict):
                raise BulkError(f"Line {number} of {path} is not an object like {{\"seed\": 1}}.")
            yield row


def _toml(path: Path) -> Iterator[dict]:
    found = tomllib.loads(path.read_text(encoding="utf-8")).get("job")
    if not isinstance(found, list):
        raise BulkError(f"The table {path} has no [[job]].")
    yield from found


def axis(name: str, given: object, folder: Path, files: bool) -> Sequence:
    """The values of one column of a product: a list, a range, the lines of a file, the files of a folder.

    files: whether the column wants paths of files, as the user writes them; of a folder, another one gets their names.
    """
    match given:
        case list() if given:
            return given
        case {"from": int(first), "to": int(last), **rest} if not rest and first <= last:
            _check(last - first + 1)
            return range(first, last + 1)
        case {"lines": str(path), **rest} if not rest:
            try:
                lines = (folder / path).read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise BulkError(f"{name}: {folder / path} cannot be read as text: {error}.") from error
            found = [line.strip() for line in lines if line.strip()]
        case {"folder": str(path), **rest} if not set(rest) - {"pattern"}:
            pattern, place = rest.get("pattern"), folder / path
            found = [str(Path(path) / file.relative_to(place)) if files else file.name for file in
                     sorted(place.glob(pattern or "*")) if file.is_file() and (pattern or file.suffix.lower() in PICTURES)]
        case _:
            raise BulkError(f"[product] {name} is {given!r}. It may be a list of values, {{from = 1, to = 4}}, "
                            '{lines = "prompts.txt"}, or {folder = "photos"}, with pattern = "*.png" if you like.')
    if not found:
        raise BulkError(f"[product] {name}: {folder / path} holds nothing to use.")
    return found
