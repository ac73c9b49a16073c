"""Writes example_workflows/ and subgraphs/. Run it in the development environment, after a change of a template."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from workflow_templates.blueprint import NAME, blueprint  # noqa: E402
from workflow_templates.workflows import TEMPLATES  # noqa: E402

CHECKOUT = Path(__file__).resolve().parents[2]


def files():
    """{path in the checkout: its content}"""
    contents = {f"example_workflows/{name}.json": function() for name, function in TEMPLATES.items()}
    contents[f"subgraphs/{NAME}.json"] = blueprint()
    return {path: json.dumps(content, indent=1, ensure_ascii=False) + "\n" for path, content in contents.items()}


def main():
    import runtime

    from workflow_templates.pictures import thumbnails
    runtime.import_pack()
    from instantid_swift.utils import draw_keypoints
    for path, text in files().items():
        (CHECKOUT / path).parent.mkdir(exist_ok=True)
        (CHECKOUT / path).write_text(text, encoding="utf-8")
    for name, picture in thumbnails(draw_keypoints).items():
        picture.save(CHECKOUT / "example_workflows" / f"{name}.jpg", quality=88)


if __name__ == "__main__":
    main()
