"""The settings of a run, from JOBS.toml and the command line. README.md explains each key."""
import contextlib
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path

from bulk import BulkError
from yarl import URL


@dataclass(frozen=True)
class Settings:
    """All settings of a run. Paths are absolute; in the file they are relative to it."""

    workflow: Path
    output: Path
    files: dict[str, str] = field(default_factory=dict)         # column: node input that gets an uploaded file
    inputs: dict[str, str] = field(default_factory=dict)        # column: node input that gets the value itself
    folders: dict[str, Path] = field(default_factory=dict)      # column of inputs with names of files: where these lie here
    table: Path | None = None
    product: dict = field(default_factory=dict)
    person: tuple[str, ...] = ()                # columns that say whose job it is
    picture: str = ""                           # the output node whose pictures are kept; all of them where it is empty
    servers: tuple[str, ...] = ()
    scheduler: str = ""
    dashboard: str = "127.0.0.1:8787"
    at_once: int = 2                            # jobs at a server: one computed, the others waiting in its queue
    attempts: int = 4
    job_seconds: float = 3600
    patience_seconds: float = 120               # without any usable server
    folder: Path = Path()                       # of JOBS.toml: where relative paths start

    @property
    def columns(self) -> dict[str, str]:
        """Every column and its node input."""
        return {**self.files, **self.inputs}


KNOWN = {item.name for item in fields(Settings)} - {"folder"}
PATHS = ("workflow", "output", "table")
KINDS = {"files": dict, "inputs": dict, "folders": dict, "product": dict, "servers": list, "person": (str, list),
         "at_once": int, "attempts": int, "job_seconds": (int, float), "patience_seconds": (int, float)}
NAMES = {str: "a text", list: "a list", dict: "a table of columns", int: "a whole number", float: "a number"}
MOST = {"at_once": 100, "attempts": 1000, "job_seconds": 10_000_000, "patience_seconds": 10_000_000}


def read(path: Path, options: dict) -> Settings:
    """The settings of a file, with options of the command line over them. Raises BulkError."""
    folder = path.resolve().parent
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BulkError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise BulkError(f"{path} is not a TOML file: {error}.") from error
    unknown = sorted(set(content) - KNOWN)
    if unknown:
        raise BulkError(f"{path} has settings that do not exist: {', '.join(unknown)}. There are: {', '.join(sorted(KNOWN))}.")
    for name in PATHS:      # those of the command line are relative to the current folder
        if isinstance(content.get(name), str):
            content[name] = str(folder / content[name])
        if name in options:
            options[name] = str(Path(options[name]).resolve())
    return _checked({**content, **options}, folder)


def _checked(content: dict, folder: Path) -> Settings:
    for name, value in content.items():
        kind = KINDS.get(name, str)
        if not isinstance(value, kind) or isinstance(value, bool):
            wanted = " or ".join(NAMES[one] for one in (kind if isinstance(kind, tuple) else (kind,)))
            raise BulkError(f"The setting {name} is {value!r}; it must be {wanted}.")
    for name in ("workflow", "output"):
        if not content.get(name):
            raise BulkError(f"The setting {name} is missing.")
    if bool(content.get("table")) == bool(content.get("product")):
        raise BulkError("The jobs come either from a table or from [product]: give exactly one of the two.")
    files, inputs = content.get("files", {}), content.get("inputs", {})
    if not files and not inputs:
        raise BulkError("Neither [files] nor [inputs] says which column goes to which input of the workflow.")
    if both := files.keys() & inputs.keys():
        raise BulkError(f"{', '.join(sorted(both))} stands in [files] and in [inputs]; it can be only one of the two.")
    for name, most in MOST.items():
        if not 1 <= content.get(name, 1) <= most:
            raise BulkError(f"The setting {name} is {content[name]}; it must be a number from 1 to {most:,}.")
    for name in PATHS:
        if content.get(name):
            content[name] = Path(content[name])
    content["servers"] = tuple(server_url(text) for text in content.get("servers", ()))
    if len(set(content["servers"])) < len(content["servers"]):
        raise BulkError("A server stands twice in the setting servers.")
    if content["servers"] and content.get("scheduler"):
        raise BulkError("Give either servers, or a scheduler whose workers have their own servers.")
    content["folders"] = _folders(content, folder)
    named = content.get("person", [])
    content["person"] = (named,) if isinstance(named, str) else tuple(named) or (*files, *content["folders"])
    if unknown := [str(name) for name in content["person"] if name not in [*files, *inputs]]:
        raise BulkError(f"The setting person names {', '.join(unknown)}, which is neither in [files] nor in [inputs].")
    return Settings(**content, folder=folder)


def _folders(content: dict, folder: Path) -> dict[str, Path]:
    """{column: folder} of the files that the servers have under the same names, from [folders] and from [product]."""
    inputs = content.get("inputs", {})
    given = {name: values["folder"] for name, values in content.get("product", {}).items()
             if name in inputs and isinstance(values, dict) and isinstance(values.get("folder"), str)}
    given.update(content.get("folders", {}))
    for name, path in given.items():
        if name not in inputs:
            raise BulkError(f"[folders] has {name}, which is not in [inputs].")
        if not isinstance(path, str) or not (folder / path).is_dir():
            raise BulkError(f"The folder of {name} is {path!r}, and there is no such folder.")
    return {name: folder / path for name, path in given.items()}


def server_url(text: object) -> str:
    """A server's address as http://host:port, or https. Raises BulkError."""
    with contextlib.suppress(ValueError, TypeError):        # such as a port beyond 65535
        url = URL(text if "://" in text else f"http://{text}")
        if url.scheme in ("http", "https") and url.host and not url.query_string + url.fragment:
            return str(url).rstrip("/")
    raise BulkError(f"{text!r} is not the address of a server. An example: http://127.0.0.1:8188")
