"""ComfyUI's progress bar and Cancel button, where there is a ComfyUI."""

FEW = 4  # items that need no progress bar


def throw_if_interrupted():
    """Raises ComfyUI's exception if the user has cancelled the run. Does nothing outside of ComfyUI."""
    try:
        from comfy.model_management import throw_exception_if_processing_interrupted
    except ImportError:
        return
    throw_exception_if_processing_interrupted()


def progress_bar(total):
    """Returns a function to be told how many of `total` items are done; it shows that on the node if there are many."""
    try:
        from comfy.utils import ProgressBar
    except ImportError:
        total = 0
    return ProgressBar(total).update_absolute if total > FEW else lambda done: None
