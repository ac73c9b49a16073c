"""What several files of the pure ring share."""

import pytest
import torch


@pytest.fixture
def random():
    """random(*shape): normal numbers, the same in every run."""
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(*shape, generator=generator)
