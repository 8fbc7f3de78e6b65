"""The compact model's visual encoder: a small ViT for aligned face crops.

The classes are those of InternVL's vision tower, so that EmoVerse-compact, -4B and -8B share one
model class. Its sizes differ, and its patches are cut by four small convolutions instead of one
large one: a ViT trained from scratch on a few thousand faces learns several times faster with
such a stem (Xiao et al. 2021, "Early Convolutions Help Transformers See Better"). 96-pixel crops
in 16-pixel patches give a 6 x 6 grid, which InternVL's pixel shuffle folds into 9 visual tokens.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from emoverse.faces.blendshapes import BLENDSHAPES
from emoverse.faces.crop import SIZE

if TYPE_CHECKING:
    from transformers import InternVLVisionConfig, InternVLVisionModel

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


LAYERS, HIDDEN, HEADS, MLP = 3, 192, 3, 768
PATCH = 16
_STEM_WIDTHS = (3, 32, 64, 128, 256)


def config() -> InternVLVisionConfig:
    """Sizes of the face ViT: 3 layers, width 192, 3 heads: 1.8 million parameters.

    Layer scale starts at 1: this ViT is trained from scratch, and InternVL's 0.1 for fine-tuning
    a large one stalls it.
    """
    from transformers import InternVLVisionConfig  # heavy; answering does without it

    return InternVLVisionConfig(
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=MLP,
        attention_bias=True,
        image_size=(SIZE, SIZE),
        patch_size=(PATCH, PATCH),
        norm_type="layer_norm",
        layer_scale_init_value=1.0,
    )


class Stem(nn.Sequential):
    """Pictures (n, 3, side, side) to patch embeddings (n, width, side/16, side/16).

    Four 3 x 3 convolutions of stride 2, each with batch norm and ReLU, and a linear layer.
    """

    def __init__(self, width: int) -> None:
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(_STEM_WIDTHS):
            layers.append(nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False))
            layers += [nn.BatchNorm2d(outputs), nn.ReLU()]
        super().__init__(*layers, nn.Conv2d(_STEM_WIDTHS[-1], width, 1))

    @property
    def weight(self) -> torch.Tensor:
        """The first convolution's weight: InternVL's embeddings ask it for their precision."""
        first = self[0]
        assert isinstance(first, nn.Conv2d)
        return first.weight


def vision_tower(attention: str = "sdpa") -> InternVLVisionModel:
    """An untrained face ViT; eager attention trains twice as fast on a CPU in bfloat16."""
    from transformers import InternVLVisionModel

    sizes = config()
    sizes._attn_implementation = attention
    tower = InternVLVisionModel(sizes)
    tower.embeddings.patch_embeddings.add_module("projection", Stem(sizes.hidden_size))
    side = SIZE // PATCH
    tower.embeddings.position_embeddings.data[0, 1:] = _positions(side, sizes.hidden_size)
    return tower


def pixel_values(crops: np.ndarray) -> torch.Tensor:
    """Normalise crops with ImageNet statistics, as InternVL does.

    Args:
        crops: (n, 96, 96, 3) uint8 RGB from `emoverse.faces.crop.crop`.

    Returns:
        (n, 3, 96, 96) float32.
    """
    return normalise(torch.from_numpy(np.ascontiguousarray(crops)).permute(0, 3, 1, 2) / 255)


def normalise(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures (..., 3, height, width) in 0..1 to ImageNet statistics."""
    return (pictures - torch.tensor(_MEAN).view(3, 1, 1)) / torch.tensor(_STD).view(3, 1, 1)


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
        patches = (SIZE // PATCH) ** 2
        self.norm = nn.LayerNorm(width)
        self.places = nn.Linear(patches * width, len(BLENDSHAPES) + 2 * points)
        self.mean = nn.Linear(width, len(BLENDSHAPES) + len(EMOTION_CLASSES))
        nn.init.normal_(self.places.weight, std=0.001)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Crops (n, 3, 96, 96) to what is read from them.

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
