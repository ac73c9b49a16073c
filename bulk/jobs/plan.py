"""The jobs of a run, each with an id made from its content."""
import contextlib
import hashlib
import json
import re
import uuid
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from textwrap import shorten

from bulk import BulkError
from bulk.jobs import sources
from bulk.jobs.settings import Settings
from bulk.jobs.workflow import Workflow

NAMESPACE = uuid.UUID("5f0c7a3e-7f0c-5d43-9a52-5b1d3a6f2b10")     # of job ids; another one would make every job a new one
KEPT_FILES = 4096
PREFIX = "filename_prefix"


@dataclass(frozen=True, slots=True)
class File:
    """A file that a job needs. name: the SHA-256 of its bytes and its suffix."""

    path: str
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Job:
    """One prompt. id: a UUIDv5 of the workflow with the job's values, in which files are named by content.

    row: its number, from 1. person: what the jobs of one person have in common. values: the row, without the columns it leaves
    to the workflow. files: those that are uploaded, by column.
    """

    id: str
    row: int
    person: str
    values: dict
    files: dict[str, File]


class Plan:
    """Turns rows into jobs, and jobs into prompts."""

    def __init__(self, settings: Settings, workflow: Workflow):
        self.settings, self.workflow = settings, workflow
        self.targets = {name: workflow.target(text) for name, text in settings.columns.items()}
        self.picture = workflow.find(settings.picture) if settings.picture else None
        self.rows, self.axes = sources.rows(settings)

    def jobs(self) -> dict[str, Job]:
        """{id: job} in order. The same job in two rows counts once. A file that is gone raises BulkError."""
        found: dict[str, Job] = {}
        for number, row in enumerate(self.rows, 1):
            job = self.job(number, row)
            found.setdefault(job.id, job)
        return found

    def job(self, number: int, row: dict) -> Job:
        values = {name: self.value(name, value) for name, value in row.items() if name in self.targets}
        files = {name: self.file(path) for name, value in values.items() if (path := self.path(name, value))}
        contents = {**values, **{name: file.name for name, file in files.items()}}
        text = json.dumps(self._prompt(contents), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        person = "\n".join(str(contents.get(name, "")) for name in self.settings.person)
        uploads = {name: file for name, file in files.items() if name in self.settings.files}
        return Job(str(uuid.uuid5(NAMESPACE, text)), number, person, values, uploads)

    def describe(self, job: Job) -> str:
        """A job as the user knows it: its row in the table with the person's columns, or all its values of a product."""
        table = self.settings.table
        shown = ", ".join(f"{name} {value if name in self.settings.files else shorten(str(value), 60, placeholder=' ...')}"
                          for name, value in job.values.items() if not table or name in self.settings.person)
        return (f"row {job.row} of {table.name}" + (f" ({shown})" if shown else "")) if table else shown

    def prompt(self, job: Job) -> dict:
        """What is sent to a server. Output nodes write files of the job's own name: servers that share a folder count their
        pictures up without asking each other, and one could overwrite the other's."""
        prompt = self._prompt({**job.values, **{name: file.name for name, file in job.files.items()}})
        return {key: node if not isinstance(node["inputs"].get(PREFIX), str) else
                {**node, "inputs": {**node["inputs"], PREFIX: f"{node['inputs'][PREFIX]}_{job.id}"}}
                for key, node in prompt.items()}

    def _prompt(self, values: dict) -> dict:
        """The workflow with these values in it."""
        nodes = dict(self.workflow.nodes)
        for name, value in values.items():
            key, field = self.targets[name].node, self.targets[name].input
            nodes[key] = {**nodes[key], "inputs": {**nodes[key]["inputs"], field: value}}
        return nodes

    def value(self, name: str, value: object) -> object:
        """A cell of a table as the kind of value that the workflow has there. Raises BulkError."""
        if not isinstance(value, str) or name in self.settings.files:
            return value
        like = self.targets[name].value
        if isinstance(like, bool):
            if value.lower() not in ("true", "false", "1", "0", "yes", "no"):
                raise BulkError(f"{name} is {value!r}; it must be true or false.")
            return value.lower() in ("true", "1", "yes")
        if isinstance(like, int | float):
            for kind in (int, float):
                with contextlib.suppress(ValueError):
                    return kind(value)
            raise BulkError(f"{name} is {value!r}; it must be a number.")
        return value

    def path(self, name: str, value: object) -> Path | None:
        """The file on this machine that a cell stands for; None where it stands for none. Raises BulkError.

        A relative path of an upload starts at the table, or at JOBS.toml. Other names lie in the folder of their column.
        """
        if name not in self.settings.files and name not in self.settings.folders:
            return None
        if not isinstance(value, str):
            raise BulkError(f"{value!r} is not the name of a file.")
        table = self.settings.table
        return self.settings.folders.get(name, table.parent if table else self.settings.folder) / value

    def file(self, path: Path) -> File:
        """A file by its content. Raises BulkError."""
        try:
            facts = path.stat()
            return _file(path, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)
        except OSError as error:
            raise BulkError(f"The file {path} cannot be read: {error.strerror}.") from error


@lru_cache(KEPT_FILES)
def _file(path: Path, size: int, *facts: int) -> File:
    """A file, which is read once as long as size and times stay the same."""
    with open(path, "rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    suffix = path.suffix.lower()
    return File(str(path), digest + (suffix if re.fullmatch(r"\.[a-z0-9]{1,12}", suffix) else ""), size)


def bytes_of(file: File) -> bytes:
    """A file's content. Raises BulkError where it is not what it was when the job was planned."""
    try:
        content = Path(file.path).read_bytes()
    except OSError as error:
        raise BulkError(f"The file {file.path} cannot be read any more: {error.strerror}.") from error
    if hashlib.sha256(content).hexdigest() != file.name.partition(".")[0]:
        raise BulkError(f"The file {file.path} was changed during the run. Start the run again; its jobs are then new ones.")
    return content
