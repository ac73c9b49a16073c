"""Results that are made from files, kept under the identity of the files that were really read."""

import os

from ..caches import file_key

ATTEMPTS = 3


class ChangingFileError(RuntimeError):
    """A file is written by another program while it is read; the message says which."""
    __module__ = "InstantID"  # what the editor shows before the name


def get_or_read(cache, paths, read, *settings):
    """Returns what a cache keeps for files, or read(key), which is kept.

    cache: a `Cache`. paths: the files. settings: what else the result depends on. The key is (*settings, a `file_key` for
    each path). It is taken before the files are opened and compared after, so that no content is kept under the key of
    another: a file that was replaced in between is read again. ChangingFileError where that happens at every attempt.
    """
    for _ in range(ATTEMPTS):
        key = (*settings, *map(file_key, paths))

        def read_unchanged(key=key):
            try:
                return read(key)
            finally:  # an error that comes from half a file says nothing about the file
                if key != (*settings, *map(file_key, paths)):
                    raise ChangingFileError
        try:
            return cache.get_or_make(key, read_unchanged)
        except ChangingFileError:
            continue
    names = ", ".join(os.path.basename(path) for path in paths)
    raise ChangingFileError(f"{names} cannot be read, because another program is changing the file at the moment. Wait until "
                            "it is done, such as a download, and queue again.")
