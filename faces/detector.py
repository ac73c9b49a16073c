"""Detection with InsightFace's SCRFD networks: pictures in, boxes and five points out, at a size given with each call.

The arithmetic (letterbox, anchors, suppression) is that of insightface's SCRFD, so that boxes and points agree with it.
It is written out here because insightface's own `detect` keeps the size on the shared object (0.7) or compiles one more
session for each size (2.1), and takes one picture at a time.
"""

import numpy as np

from ..utils import InstantIDError

PIXEL_MEAN = 127.5
PIXEL_STD = 128.0
STRIDES = {9: (8, 16, 32), 15: (8, 16, 32, 64, 128)}  # by the number of outputs: score, box, points for each stride
ANCHORS = {9: 2, 15: 1}
THRESHOLD, OVERLAP = 0.5, 0.4        # insightface's defaults: least certainty of a face, most overlap of two
PIXELS_AT_ONCE = 16 * 640 * 640      # of one run: bounds its memory
MOST_CANDIDATES = 4096               # boxes that are compared for overlap: bounds the time


class Detector:
    """An SCRFD network in an onnxruntime session. Holds no state of a call, so threads may share it."""

    def __init__(self, session):
        """Raises InstantIDError if the network's outputs are not those of an SCRFD network with five points."""
        self.session = session
        outputs, network_input = session.get_outputs(), session.get_inputs()[0]
        if len(outputs) not in STRIDES:
            raise InstantIDError(f"The face detector has {len(outputs)} outputs; an SCRFD network that also finds the eyes, "
                                 "nose and mouth has 9 or 15. Use antelopev2's scrfd_10g_bnkps.onnx.")
        self.strides = STRIDES[len(outputs)]
        self.anchors = ANCHORS[len(outputs)]
        self.input_name = network_input.name
        batch, _, height, width = network_input.shape
        # exports for one picture, as antelopev2's, have outputs of two dimensions
        self.takes_batches = not isinstance(batch, int) and len(outputs[0].shape) == 3
        self.fixed_size = (width, height) if isinstance(width, int) and isinstance(height, int) else None

    def fits(self, size):
        """Returns whether the network can run at a size (width, height)."""
        return size == self.fixed_size if self.fixed_size else not any(side % self.strides[-1] for side in size)

    def detect(self, pictures, size, threshold=THRESHOLD, overlap=OVERLAP, margins=False):
        """Yields the faces of each picture, best score first, as the runs of the network give them.

        pictures: uint8 BGR [h, w, 3] each, of any sizes. size: (width, height) of the network's input, which a picture
        fills as far as its shape allows; with margins it stays in the middle third. Of each picture come boxes, float32
        [k, 5] (left, top, right, bottom, score), and points, float32 [k, 5, 2], in its pixels. ValueError if the network
        cannot run at that size.
        """
        if not self.fits(size):
            raise ValueError(f"The face detector cannot run at the size {size[0]}x{size[1]}.")
        step = max(1, PIXELS_AT_ONCE // (size[0] * size[1])) if self.takes_batches else 1
        for start in range(0, len(pictures), step):
            framed = [self._letterbox(picture, size, margins) for picture in pictures[start:start + step]]
            outputs = self._run(np.concatenate([blob for blob, _, _ in framed]))
            for number, (_, scale, corner) in enumerate(framed):
                scores, boxes, points = self._decode([output[number] for output in outputs], size, threshold)
                yield self._suppress(scores, (boxes - np.tile(corner, 2)) / scale, (points - corner) / scale, overlap)

    def _run(self, blob):
        """Returns each output as [pictures, rows, values], for normalised pictures [n, 3, height, width]."""
        outputs = self.session.run(None, {self.input_name: blob})
        return outputs if outputs[0].ndim == 3 else [output[None] for output in outputs]

    @staticmethod
    def _letterbox(picture, size, margins):
        """Returns the network's input [1, 3, height, width], the picture's scale in it, and its upper left corner."""
        import cv2
        height, width = picture.shape[:2]
        room = [side // 3 for side in size] if margins else size
        if height / width > room[1] / room[0]:
            new_width, new_height = int(room[1] / (height / width)), room[1]
        else:
            new_width, new_height = room[0], int(room[0] * (height / width))
        new_width, new_height = max(new_width, 1), max(new_height, 1)
        left, top = ((size[0] - new_width) // 2, (size[1] - new_height) // 2) if margins else (0, 0)
        canvas = np.zeros((size[1], size[0], 3), dtype=np.uint8)
        canvas[top:top + new_height, left:left + new_width] = cv2.resize(picture, (new_width, new_height))
        blob = cv2.dnn.blobFromImage(canvas, 1.0 / PIXEL_STD, size, (PIXEL_MEAN,) * 3, swapRB=True)
        return blob, new_height / height, np.array((left, top), np.float32)

    def _decode(self, outputs, size, threshold):
        """Returns (scores [k], boxes [k, 4], points [k, 5, 2]) above the threshold of one picture, in input pixels."""
        levels = len(self.strides)
        scores, boxes, points = [], [], []
        for level, stride in enumerate(self.strides):
            score, box, point = (outputs[level + levels * kind] for kind in range(3))
            sure = np.flatnonzero(score >= threshold)
            cells = sure // self.anchors
            columns = size[0] // stride
            centres = np.stack((cells % columns, cells // columns), axis=1).astype(np.float32) * stride
            distances = box[sure] * stride
            scores.append(score[sure].ravel())
            boxes.append(np.concatenate((centres - distances[:, :2], centres + distances[:, 2:]), axis=1))
            points.append(centres[:, None] + (point[sure] * stride).reshape(-1, 5, 2))
        return np.concatenate(scores), np.concatenate(boxes), np.concatenate(points)

    @staticmethod
    def _suppress(scores, boxes, points, overlap):
        """Returns (boxes with scores [k, 5], points [k, 5, 2]), best first, without boxes that overlap a better one."""
        order = np.argsort(-scores, kind="stable")[:MOST_CANDIDATES]
        boxes, points, scores = boxes[order].astype(np.float32), points[order].astype(np.float32), scores[order]
        left, top, right, bottom = boxes.T
        areas = (right - left + 1) * (bottom - top + 1)
        keep, rest = [], np.arange(len(boxes))
        while rest.size:
            best, rest = rest[0], rest[1:]
            keep.append(best)
            width = np.maximum(0, np.minimum(right[best], right[rest]) - np.maximum(left[best], left[rest]) + 1)
            height = np.maximum(0, np.minimum(bottom[best], bottom[rest]) - np.maximum(top[best], top[rest]) + 1)
            shared = width * height
            rest = rest[shared / (areas[best] + areas[rest] - shared) <= overlap]
        return np.column_stack((boxes, scores))[keep].reshape(-1, 5), points[keep]
