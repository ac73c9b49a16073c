"""The numbers of latents that travel with the tokens of people."""

import pytest
import torch
from instantid_swift.controlnet.people import frame_numbers, with_frame_numbers


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_number_survives_every_precision(dtype):
    tokens = torch.randn(1, 32, 8)
    numbered = with_frame_numbers(tokens, 5000).to(dtype)
    assert numbered.shape == (5000, 33, 8)
    assert torch.equal(frame_numbers(numbered), torch.arange(5000))
    assert torch.equal(numbered[7, :32], tokens[0].to(dtype))
