"""What /object_info says about the inputs of a node. A declaration is [kind] or [kind, options]."""

WIDGETS = {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False, "COMBO": None}      # kind: what the editor begins with


def inputs_of(info: dict, name: str) -> dict:
    """{input: declaration} of a node class, required inputs first."""
    declared = info[name].get("input") or {}
    return {**declared.get("required", {}), **declared.get("optional", {})}


def options_of(declaration: list) -> dict:
    return declaration[1] if len(declaration) > 1 else {}


def choices_of(declaration: list) -> list | None:
    """What a drop-down offers; None where the input is none. ComfyUI has an old and a new notation."""
    if isinstance(declaration[0], list):
        return declaration[0]
    return options_of(declaration).get("options") if declaration[0] == "COMBO" else None


def is_upload(declaration: list) -> bool:
    """Whether an input takes a file of the server's input folder: what is there now does not matter."""
    return any(options_of(declaration).get(key) for key in ("image_upload", "video_upload", "audio_upload", "file_upload"))


def is_widget(declaration: list) -> bool:
    """Whether the editor shows a field for the input. The workflow holds the field's value."""
    return (isinstance(declaration[0], list) or declaration[0] in WIDGETS) and not options_of(declaration).get("forceInput")


def default_of(declaration: list) -> object:
    """The value of a widget in a new node; None for a drop-down that offers nothing."""
    choices = choices_of(declaration)
    first = WIDGETS[declaration[0]] if choices is None else next(iter(choices), None)
    return options_of(declaration).get("default", first)
