"""Starts the ComfyUI in a folder like `python main.py` there: python dev/serving/launch.py FOLDER [ComfyUI's arguments].

With --end-with-parent before the folder the process ends when its standard input is closed, which also happens when
the process that started it was killed: no server is left behind.
"""
import os
import runpy
import sys
import threading
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parent.parent))

import runtime  # noqa: E402


def end_with_parent() -> None:
    def wait() -> None:
        try:
            while os.read(0, 1024):
                pass
        finally:
            os._exit(1)
    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[:1] == ["--end-with-parent"]:
        end_with_parent()
        arguments.pop(0)
    root = Path(arguments[0]).resolve()
    runtime.prepare()
    sys.path[:2] = [str(root)]              # instead of dev/serving/ and dev/: ComfyUI's own modules have common names
    sys.argv = [str(root / "main.py"), *arguments[1:]]
    os.chdir(root)
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
