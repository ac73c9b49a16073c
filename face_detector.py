"""Detection with InsightFace's SCRFD networks: pictures in, boxes and five points out, at a size given with each call.

The arithmetic (letterbox, anchors, suppression) is that of insightface's SCRFD, so that boxes and points agree with it.
It is written out here because insightface's own `detect` keeps the size on the shared object (0.7) or compiles one more
session for each size (2.1), and takes one picture at a time.
"""

import numpy as np

PIXEL_MEAN = 127.5
PIXEL_STD = 128.0
STRIDES = {9: (8, 16, 32), 15: (8, 16, 32, 64, 128)}  # by the number of outputs: score, box, points for each stride
ANCHORS = {9: 2, 15: 1}


class Detector:
    """Reads an insightface detector (`FaceAnalysis.det_model`): its session and thresholds. Holds no state of a call."""

    def __init__(self, det_model):
        self.session = det_model.session
        self.threshold = getattr(det_model, "det_thresh", 0.5)
        self.overlap = getattr(det_model, "nms_thresh", 0.4)
        outputs = self.session.get_outputs()
        if len(outputs) not in STRIDES:
            raise ValueError(f"The face detector has {len(outputs)} outputs; an SCRFD network that also finds the eyes, nose "
                             "and mouth has 9 or 15. Use antelopev2's scrfd_10g_bnkps.onnx.")
        self.strides = STRIDES[len(outputs)]
        self.anchors = ANCHORS[len(outputs)]
        network_input = self.session.get_inputs()[0]
        self.input_name = network_input.name
        batch, _, height, width = network_input.shape
        self.takes_batches = len(outputs[0].shape) == 3 and not isinstance(batch, int)
        self.fixed_size = (width, height) if isinstance(width, int) and isinstance(height, int) else None

    def sizes(self, wanted):
        """Those sizes (width, height) of the wanted ones that the network can run at: all, or its only one."""
        return [self.fixed_size] if self.fixed_size else list(wanted)

    def detect(self, pictures, size):
        """Faces of each picture, best score first.

        pictures: uint8 BGR [h, w, 3] each. size: (width, height) that the network sees. Returns for each picture
        boxes float32 [k, 5] (left, top, right, bottom, score) and points float32 [k, 5, 2], in the picture's pixels.
        """
        blobs, scales = zip(*(self._letterbox(picture, size) for picture in pictures), strict=True)
        step = len(blobs) if self.takes_batches else 1
        found = []
        for start in range(0, len(blobs), step):
            blob = np.concatenate(blobs[start:start + step])
            outputs = self.session.run(None, {self.input_name: blob})
            if outputs[0].ndim == 2:
                outputs = [output[None] for output in outputs]
            found += [self._decode([output[i] for output in outputs], size) for i in range(len(blob))]
        return [self._suppress(boxes / scale, points / scale, scores)
                for (scores, boxes, points), scale in zip(found, scales, strict=True)]

    @staticmethod
    def _letterbox(picture, size):
        """The picture in the upper left corner of the network's input [1, 3, height, width], and how much it shrank."""
        import cv2
        height, width = picture.shape[:2]
        if height / width > size[1] / size[0]:
            new_width, new_height = int(size[1] / (height / width)), size[1]
        else:
            new_width, new_height = size[0], int(size[0] * (height / width))
        new_width, new_height = max(new_width, 1), max(new_height, 1)
        canvas = np.zeros((size[1], size[0], 3), dtype=np.uint8)
        canvas[:new_height, :new_width] = cv2.resize(picture, (new_width, new_height))
        blob = cv2.dnn.blobFromImage(canvas, 1.0 / PIXEL_STD, size, (PIXEL_MEAN,) * 3, swapRB=True)
        return blob, new_height / height

    def _decode(self, outputs, size):
        """One picture's outputs to (scores [k], boxes [k, 4], points [k, 5, 2]) above the threshold, in input pixels."""
        levels = len(self.strides)
        scores, boxes, points = [], [], []
        for level, stride in enumerate(self.strides):
            score, box, point = (outputs[level + levels * kind] for kind in range(3))
            sure = np.flatnonzero(score >= self.threshold)
            cells = sure // self.anchors
            columns = size[0] // stride
            centres = np.stack((cells % columns, cells // columns), axis=1).astype(np.float32) * stride
            distances = box[sure] * stride
            scores.append(score[sure].ravel())
            boxes.append(np.concatenate((centres - distances[:, :2], centres + distances[:, 2:]), axis=1))
            points.append(centres[:, None] + (point[sure] * stride).reshape(-1, 5, 2))
        return np.concatenate(scores), np.concatenate(boxes), np.concatenate(points)

    def _suppress(self, boxes, points, scores):
        """Of boxes that overlap, keeps the best; best first."""
        order = np.argsort(-scores, kind="stable")
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
            rest = rest[shared / (areas[best] + areas[rest] - shared) <= self.overlap]
        return np.column_stack((boxes, scores))[keep].reshape(-1, 5), points[keep]
