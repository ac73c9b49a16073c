"""Photos for the tests."""

import cv2
import numpy as np
import torch


def read_image(picture, size=None):
    """IMAGE [1, h, w, 3] of a file, or of an RGB tensor [h, w, 3]; enlarged to size (width, height)."""
    if isinstance(picture, torch.Tensor):
        rgb = (picture.numpy() * 255).round().astype(np.uint8)
    else:
        rgb = cv2.cvtColor(cv2.imread(str(picture)), cv2.COLOR_BGR2RGB)
    if size:
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_CUBIC)
    return torch.from_numpy(rgb).float()[None] / 255


def write_image(path, image):
    """An IMAGE's first picture as a file; returns its path."""
    cv2.imwrite(str(path), cv2.cvtColor((image[0].numpy() * 255).round().astype(np.uint8), cv2.COLOR_RGB2BGR))
    return path
