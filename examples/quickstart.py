"""The library in four steps: load a network, predict one image, filter a clip, draw the mesh to quickstart.png.

    python examples/quickstart.py [CHECKPOINT IMAGE X0 Y0 X1 Y1]

The numbers are the box of the hand, px. Without arguments a small network of random weights looks at a grey image: this
needs no download, and as its hand is only a guess, the picture shows the hand of the clip.
"""

import sys

import cv2
import numpy as np
import torch

from hojoint import HandPredictor, HOJoint, filter_clip
from hojoint.config import Config, ModelConfig
from hojoint.evaluation.demo import draw_hand
from hojoint.model import checkpoint
from hojoint.report import draw

# 1. Load a network; the authors' released one needs MANO: from_checkpoint(path, mano="MANO_RIGHT.pkl").
given = sys.argv[1:]
if len(given) not in (0, 6):
    sys.exit(__doc__)
small = ModelConfig(input_px=64, roi_cells=8, block="basic", width=16, hourglass_depth=1, encoder_stages=1)
source = given[0] if given else checkpoint.save(HOJoint(small), Config(model=small), progress={}, parents={})
predictor = HandPredictor.from_checkpoint(source)

# 2. Predict the hand of one image.
image = cv2.imread(given[1]) if given else np.full((480, 640, 3), 225, np.uint8)
if image is None:
    sys.exit(f"{given[1]} is no image that OpenCV reads")
image = image[..., ::-1]
hand = predictor.predict_image(image, [float(side) for side in given[2:]] or [220, 140, 420, 340])
print("joints", tuple(hand.joints_px.shape), "px; vertices", tuple(hand.vertices.shape), "m")

# 3. Filter a clip of anybody's predictions: here a flat hand that slowly turns, and jumps in frame 9.
pose, betas = torch.zeros(12, 48), torch.zeros(12, 10)
pose[:, 0] = 1.7 + 0.03 * torch.arange(12) + 0.8 * (torch.arange(12) == 9)
posed = predictor.mano_layer(pose, betas)
joints_px, vertices_px = (
    2000 * points[..., :2] + torch.tensor([450, 250]) for points in (posed.joints, posed.vertices)
)
boxes = torch.cat([vertices_px.amin(1), vertices_px.amax(1)], 1)
clip = filter_clip(pose=pose, betas=betas, joints_px=joints_px, hand_boxes=boxes, image_size=(640, 480))
print("verdicts", *clip.verdicts)

# 4. Draw the mesh.
faces = predictor.mano_layer.faces
turning = draw.mesh(image, vertices_px[0].numpy(), posed.vertices[0].numpy(), faces)
cv2.imwrite("quickstart.png", (draw_hand(image, hand, faces) if given else turning)[..., ::-1])
print("written quickstart.png")
