"""Rows of a run, one after the other: {column: value}. None of them is kept."""
import csv
import itertools
import json
import math
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bulk import BulkError
from bulk.jobs.settings import Settings

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".safetensors")

MOST_JOBS = 1_000_000


@dataclass(frozen=True)
class Rows:
    """The rows in order, how many they are, and, where they are a product, the values of each column.

    `each` may be iterated over again and again.
    """

    each: Iterable[dict]
    count: int
    axes: dict[str, Iterable] | None = None


def rows(settings: Settings) -> Rows:
    """The rows of the settings' table or product. Raises BulkError."""
    if settings.table:
        each = _Table(settings.table)
        return Rows(each, _checked(sum(1 for _ in each)))
    unknown = sorted(set(settings.product) - set(settings.columns))
    if unknown:
        raise BulkError(f"[product] has {', '.join(unknown)}, which is neither in [files] nor in [inputs].")
    # a person's columns first: the outermost change least often, so the jobs of a person follow each other
    names = [*(name for name in settings.product if name in settings.person),
             *(name for name in settings.product if name not in settings.person)]
    axes = {name: axis(name, settings.product[name], settings.folder, name in settings.files) for name in names}
    return Rows(_Product(axes), _checked(math.prod(map(len, axes.values()))), axes)


def _checked(count: int) -> int:
    if count > MOST_JOBS:
        raise BulkError(f"These are {count:,} jobs; a plan may have at most {MOST_JOBS:,}. Divide it among several JOBS.toml.")
    return count


@dataclass(frozen=True)
class _Product:
    axes: dict

    def __iter__(self) -> Iterator[dict]:
        return (dict(zip(self.axes, values, strict=True)) for values in itertools.product(*self.axes.values()))


@dataclass(frozen=True)
class _Table:
    path: Path

    def __iter__(self) -> Iterator[dict]:
        kind = self.path.suffix.lower()
        try:
            if kind == ".csv":
                yield from self._csv()
            elif kind in (".jsonl", ".ndjson"):
                yield from self._json_lines()
            elif kind == ".toml":
                yield from self._toml()
            else:
                raise BulkError(f"The table {self.path} is of no known kind. There are: .csv, .jsonl, .toml.")
        except OSError as error:
            raise BulkError(f"The table {self.path} cannot be read: {error.strerror}.") from error
        except UnicodeDecodeError as error:
            raise BulkError(f"The table {self.path} is not in UTF-8: save it as UTF-8.") from error
        except csv.Error as error:
            raise BulkError(f"The table {self.path} is not a CSV file: {error}.") from error

    def _csv(self) -> Iterator[dict]:
        with open(self.path, encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            file.seek(0)
            reader = csv.DictReader(file, delimiter=max(",;\t", key=head.count))      # spreadsheets of many countries write ;
            for row in reader:
                if None in row:
                    raise BulkError(f"Line {reader.line_num} of {self.path} has more cells than the first line.")
                yield {name: cell for name, cell in row.items() if cell not in (None, "")}

    def _json_lines(self) -> Iterator[dict]:
        with open(self.path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise BulkError(f"Line {number} of {self.path} is not JSON: {error}.") from error
                if not isinstance(row, dict):
                    raise BulkError(f"Line {number} of {self.path} is not an object like {{\"seed\": 1}}.")
                yield row

    def _toml(self) -> Iterator[dict]:
        try:
            found = tomllib.loads(self.path.read_text(encoding="utf-8")).get("job")
        except ValueError as error:
            raise BulkError(f"The table {self.path} is not a TOML file: {error}.") from error
        if not isinstance(found, list):
            raise BulkError(f"The table {self.path} has no [[job]].")
        yield from found


def axis(name: str, given: object, folder: Path, files: bool) -> Iterable:
    """The values of one column of a product: a list, a range, the lines of a file, the files of a folder.

    files: whether the column wants paths of files, as the user writes them; of a folder, another one gets their names.
    """
    match given:
        case list() if given:
            return given
        case {"from": int(first), "to": int(last), **rest} if not rest and first <= last:
            _checked(last - first + 1)
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
