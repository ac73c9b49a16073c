"""Photos for the tests."""

import cv2
import insightface
import numpy as np
import torch
from conftest import CHECKOUT
from oracle import fixtures as fx


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


def bgr(image):
    """An IMAGE's first picture as insightface takes it: uint8 BGR [h, w, 3]."""
    return np.ascontiguousarray((image[0].numpy() * 255).astype(np.uint8)[..., ::-1])


def close_up():
    """A face of the group photo that fills its picture: the crop enlarged to 1024 pixels. Not found at 640 and 512."""
    return read_image(fx.photo()[0, 271:410, 468:567], (1024, 1024))


def tom_hanks():
    """A portrait of 112x112 pixels. Not found at 640, 576 and 512."""
    return read_image(f"{insightface.__path__[0]}/data/images/Tom_Hanks_54745.png")


def six_portraits():
    """IMAGE [6, 320, 320, 3], each with one face that is found at 640."""
    five = torch.cat([fx.portrait(name) for name in fx.FACE_CROPS])
    return torch.cat([five, five[:1].flip(2)])


def mixed():
    """IMAGE [5, 1024, 1024, 3]: a portrait, the close-up, Tom Hanks, nobody, another portrait."""
    def enlarged(image):
        return read_image(image[0], (1024, 1024))
    return torch.cat([enlarged(fx.portrait("a")), close_up(), enlarged(tom_hanks()), torch.full((1, 1024, 1024, 3), 0.5),
                      enlarged(fx.portrait("b"))])


def person_photo(name):
    """IMAGE [1, h, w, 3] of people who do not exist, such as "07_left" (256 pixels) or "group": tests/people/README.md."""
    return read_image(CHECKOUT / "tests" / "people" / f"{name}.jpg")


def same_face(a, b):
    """Whether two embeddings [512] differ by no more than processors do; one point of a face in its last digit moves pixels
    of the crop by a level."""
    a, b = np.asarray(a), np.asarray(b)
    return a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) > fx.SAME_FACE
