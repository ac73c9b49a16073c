"""Runs many ComfyUI jobs (photos x prompts x seeds x settings) on many servers: python -m bulk JOBS.toml

Folders, from the bottom up: `jobs` (what is to be done), `results` (ledger, pictures, contact sheet), `servers` (ComfyUI's HTTP
interface and the Dask workers that use it), `running` (which job goes where, and what happens to its outcome).
"""
from pathlib import Path


class BulkError(Exception):
    """The run cannot start or go on. The message says what was found and what to do."""


def unwritable(path: Path, error: OSError) -> BulkError:
    """The error to raise where a file or folder cannot be written."""
    return BulkError(f"{path} cannot be written: {error.strerror}. Make room there or choose another output folder, and run "
                     "the same command again. What is done stays done.")
