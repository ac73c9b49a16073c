"""A miniature SDXL with everything around it, for machines without the real weights.

The network and its weights are the tests' (tests/oracle/fixtures.py): SDXL's 70 attention blocks and key layout, a
tenth of its widths, seeded random weights. Text encoder and VAE are stand-ins that only keep to ComfyUI's interfaces.
What it samples is abstract: it shows that everything runs, and that a face or a weight changes the result.
"""
import hashlib
import importlib.util
import os
from functools import cache
from pathlib import Path
from types import ModuleType

ADAPTER = "miniature_instantid.safetensors"
FIXTURES = Path(__file__).resolve().parents[2] / "tests" / "oracle" / "fixtures.py"


@cache
def fixtures() -> ModuleType:
    """The tests' module, loaded from its file: ComfyUI has a package of the name tests, too."""
    spec = importlib.util.spec_from_file_location("instantid_demo_fixtures", FIXTURES)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_adapter(folder: Path) -> Path:
    """The miniature's InstantID file in a folder, written unless it is there."""
    path = folder / ADAPTER
    if not path.exists():
        from safetensors.torch import save_file
        tensors = {f"{part}.{name}": tensor for part, content in fixtures().instantid_checkpoint().items()
                   for name, tensor in content.items()}
        partial = path.with_suffix(f".{os.getpid()}.partial")       # never half a file under the final name
        save_file(tensors, str(partial))
        partial.replace(path)
    return path


class Clip:
    """Stands in for the two text encoders: a text's conditioning is random, but always the same."""

    def tokenize(self, text: str) -> str:
        return text

    def encode_from_tokens_scheduled(self, tokens: str) -> list:
        return fixtures().conditioning(int.from_bytes(hashlib.sha256(tokens.encode()).digest()[:4], "big"))


class Vae:
    """Stands in for encoder and decoder: the latent itself as colours, 8 x 8 pixels per cell."""

    def _format(self):
        """SDXL's latent format, and its colours, (4, 3)."""
        import comfy.latent_formats
        import torch
        known = comfy.latent_formats.SDXL()
        return known, torch.tensor(known.latent_rgb_factors)

    def encode(self, picture):
        import torch
        known, factors = self._format()
        cells = torch.nn.functional.avg_pool2d(picture[..., :3].movedim(-1, 1).float().cpu(), 8)
        return known.process_out(torch.einsum("bchw,cr->brhw", 2 * cells - 1, torch.linalg.pinv(factors)))  # (B, 4, h, w)

    def decode(self, latent):
        import torch
        known, factors = self._format()
        picture = torch.einsum("bchw,cr->bhwr", known.process_in(latent.float().cpu()), factors)
        # untrained weights know no range of colours: stretch what there is
        low, high = (torch.quantile(picture.flatten(1), q, dim=1).view(-1, 1, 1, 1) for q in (0.01, 0.99))
        picture = ((picture - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
        return picture.repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)              # (B, 8 h, 8 w, 3)
