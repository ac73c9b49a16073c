"""Another processor for the tests: python dev/test.py --other-processor.

torch, oneDNN and OpenBLAS are told to use no instructions beyond SSE. onnxruntime cannot be told, so the embedder's last layer
gets a noise of a thousandth, three times of what two processors were seen to differ by.
"""
import shutil

import environment

ROOT = environment.ROOT / "other_processor"
# torch.compile's cache of this processor holds code that the other one cannot compile
VARIABLES = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "OPENBLAS_CORETYPE": "Nehalem",
             "TORCHINDUCTOR_CACHE_DIR": str(ROOT / "inductor")}
EMBEDDER = "w600k_mbf.onnx"
LAST_LAYER = "features.weight"      # the scale of each of an embedding's 512 numbers
NOISE = 1e-3


def make() -> None:
    """Makes ROOT: the folder .dev again, by links, with another embedder."""
    import numpy as np
    import onnx
    from onnx import numpy_helper
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir()
    own = (environment.FACE_MODELS, environment.MODELS)
    for part in environment.parts():
        if part.folder in own:
            shutil.copytree(part.folder, ROOT / part.folder.name)
        else:
            (ROOT / part.folder.name).symlink_to(part.folder, target_is_directory=True)
    model = onnx.load(environment.FACE_MODELS / EMBEDDER)
    scale = next(tensor for tensor in model.graph.initializer if tensor.name == LAST_LAYER)
    values = numpy_helper.to_array(scale)
    noise = np.random.default_rng(0).standard_normal(values.shape) * NOISE
    scale.CopyFrom(numpy_helper.from_array((values * (1 + noise)).astype(values.dtype), scale.name))
    for path in ROOT.rglob(EMBEDDER):
        if not path.is_symlink():
            path.write_bytes(model.SerializeToString())


if __name__ == "__main__":
    make()
