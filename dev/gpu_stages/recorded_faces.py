"""A FACEANALYSIS for the oracle: insightface's where it is installed, else what it has found, recorded in the bundle."""

import contextlib
import hashlib
import importlib.util
import os

from .worlds import CHECKOUT

RECORDING = CHECKOUT / "tests" / "oracle" / "recorded_faces.pt"


def face_analysis():
    """None where there are neither insightface with its networks nor a recording."""
    from oracle import fixtures as fx
    root = os.environ.get("INSTANTID_DEV", CHECKOUT / ".dev")
    networks = os.path.join(root, "models", "insightface")
    found = importlib.util.find_spec("insightface") and importlib.util.find_spec("onnxruntime")
    if found and os.path.isdir(networks):
        return fx.face_analysis(networks)
    return Recorded() if RECORDING.exists() else None


def _key(function, images, more):
    digest = hashlib.blake2b(images.contiguous().numpy().tobytes(), digest_size=16).hexdigest()
    return f"{function} {digest} {tuple(images.shape)} {sorted((name, str(value)) for name, value in more.items())}"


FUNCTIONS = ("reference_embeddings", "keypoint_images")


class Recorded:
    """Puts the recording in place of what looks at photos."""

    def __init__(self):
        import torch
        from instantid_swift import faces
        from oracle import fixtures as fx
        recording = torch.load(RECORDING, weights_only=True)
        fx.photo = lambda: recording["photo"].float() / 255
        for name in FUNCTIONS:
            setattr(faces, name, lambda analysis, images, *args, name=name, **more: _copy(recording[_key(name, images, {})]))


def _copy(tensor):
    return None if tensor is None else tensor.float() if tensor.dtype.is_floating_point else tensor.float() / 255


@contextlib.contextmanager
def recording(path):
    """Writes to a file what is found in photos while the context lasts."""
    import torch
    from instantid_swift import faces
    from oracle import fixtures as fx
    found, before = {"photo": (fx.photo() * 255).round().to(torch.uint8)}, {name: getattr(faces, name) for name in FUNCTIONS}

    def recorded(name):
        def run(analysis, images, *args, **more):
            result = before[name](analysis, images, *args, **more)
            drawn = name == "keypoint_images" and result is not None
            found[_key(name, images, {})] = (result * 255).round().to(torch.uint8) if drawn else result
            return result
        return run
    try:
        for name in FUNCTIONS:
            setattr(faces, name, recorded(name))
        yield
        torch.save(found, path)
    finally:
        for name in FUNCTIONS:
            setattr(faces, name, before[name])
