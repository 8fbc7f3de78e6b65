"""The compact model's visual encoder: a small ViT for aligned face crops.

The classes are those of InternVL's vision tower, so that EmoVerse-compact, -4B and -8B share one
model class and differ in sizes alone. 112-pixel crops in 14-pixel patches give an 8 x 8 grid,
which InternVL's pixel shuffle folds into 16 visual tokens.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from transformers import InternVLVisionConfig, InternVLVisionModel

from emoverse.faces.crop import SIZE
from emoverse.faces.blendshapes import BLENDSHAPES

EMOTION_CLASSES = (
    "anger",
    "sadness",
    "surprise",
    "disgust",
    "joy",
    "neutral",
    "fear",
    "contempt",
)
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


def config() -> InternVLVisionConfig:
    """Sizes of the face ViT: 6 layers, width 256, 4 heads: 4.9 million parameters.

    Layer scale starts at 1: this ViT is trained from scratch, and InternVL's 0.1 for fine-tuning
    a large one stalls it.
    """
    return InternVLVisionConfig(
        hidden_size=256,
        num_hidden_layers=6,
        num_attention_heads=4,
        intermediate_size=1024,
        attention_bias=True,
        image_size=(SIZE, SIZE),
        patch_size=(14, 14),
        norm_type="layer_norm",
        layer_scale_init_value=1.0,
    )


def pixel_values(crops: np.ndarray) -> torch.Tensor:
    """Normalise crops with ImageNet statistics, as InternVL does.

    Args:
        crops: (n, 112, 112, 3) uint8 RGB from `emoverse.faces.crop.crop`.

    Returns:
        (n, 3, 112, 112) float32.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(crops)).permute(0, 3, 1, 2).float() / 255
    return (tensor - torch.tensor(_MEAN).view(3, 1, 1)) / torch.tensor(_STD).view(3, 1, 1)


class FaceTeacher(nn.Module):
    """The ViT with the heads it is trained with; the heads read the mean of the patch tokens.

    The language model sees those same patch tokens, so what the heads can read linearly the
    projector can pass on linearly.
    """

    def __init__(self, points: int) -> None:
        super().__init__()
        self.vit = InternVLVisionModel._from_config(config(), attn_implementation="eager")
        width = config().hidden_size
        self.norm = nn.LayerNorm(width)
        self.blendshapes = nn.Linear(width, len(BLENDSHAPES))
        self.points = nn.Linear(width, 2 * points)
        self.emotion = nn.Linear(width, len(EMOTION_CLASSES))

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Crops (n, 3, 112, 112) to blendshapes (n, 51), points (n, 2p) and emotions (n, 8)."""
        tokens = self.vit(pixel_values=pixels).last_hidden_state[:, 1:]
        mean = self.norm(tokens).mean(dim=1)
        return self.blendshapes(mean), self.points(mean), self.emotion(mean)
