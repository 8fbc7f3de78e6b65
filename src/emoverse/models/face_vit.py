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

from emoverse.faces.blendshapes import BLENDSHAPES
from emoverse.faces.crop import SIZE

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


def vision_tower(attention: str = "sdpa") -> InternVLVisionModel:
    """An untrained face ViT; eager attention trains twice as fast on a CPU in bfloat16."""
    sizes = config()
    sizes._attn_implementation = attention
    return InternVLVisionModel(sizes)


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
    """The ViT with the heads it is trained with.

    `places` reads all patch tokens, each with weights of its own, which a ViT from scratch can
    follow from the first steps; `mean` reads their mean, so that what the face shows is also
    written the same way at every place, as a projector shared by all places needs it.
    """

    def __init__(self, points: int) -> None:
        super().__init__()
        self.vit = vision_tower("eager")
        width, self.points = config().hidden_size, points
        patches = (SIZE // 14) ** 2
        self.vit.embeddings.position_embeddings.data[0, 1:] = _positions(SIZE // 14, width)
        self.norm = nn.LayerNorm(width)
        self.places = nn.Linear(patches * width, len(BLENDSHAPES) + 2 * points)
        self.mean = nn.Linear(width, len(BLENDSHAPES) + len(EMOTION_CLASSES))
        nn.init.normal_(self.places.weight, std=0.001)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Crops (n, 3, 112, 112) to what is read from them.

        Returns:
            blendshapes (n, 51) and points (n, 2p) from the places, blendshapes (n, 51) and
            emotion logits (n, 8) from the mean.
        """
        tokens = self.norm(self.vit(pixel_values=pixels).last_hidden_state[:, 1:])
        shapes = len(BLENDSHAPES)
        by_place, by_mean = self.places(tokens.flatten(1)), self.mean(tokens.mean(dim=1))
        return by_place[:, :shapes], by_place[:, shapes:], by_mean[:, :shapes], by_mean[:, shapes:]


def _positions(side: int, width: int) -> torch.Tensor:
    """Fixed 2-D sine-cosine start of the position embeddings (He et al. 2022), (side^2, width)."""
    frequencies = 10000 ** -(torch.arange(width // 4) / (width // 4))
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    angles = [place.flatten()[:, None] * frequencies for place in (x, y)]
    return 0.3 * torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], 1)
