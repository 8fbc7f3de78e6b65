"""The face ViT for answering: what InternVL's vision classes compute, without transformers.

Importing transformers' model classes takes longer than answering does. Names of weights are those
of `face_vit.vision_tower`, whose files it reads.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from emoverse.faces.crop import SIZE
from emoverse.models.face_vit import HEADS, HIDDEN, LAYERS, MLP, PATCH, Stem

_EPSILON = 1e-6
_FOLD = 2  # patches a side that the pixel shuffle folds into one visual token
VISUAL_WIDTH = HIDDEN * _FOLD**2
IMAGE_TOKENS_EACH = (SIZE // PATCH // _FOLD) ** 2


class FaceTower(nn.Module):
    """Face crops to visual tokens, before the projector."""

    def __init__(self) -> None:
        """Untrained; load a state into it."""
        super().__init__()
        self.embeddings = nn.Module()
        self.embeddings.cls_token = nn.Parameter(torch.zeros(1, 1, HIDDEN))
        patches = (SIZE // PATCH) ** 2
        self.embeddings.position_embeddings = nn.Parameter(torch.zeros(1, patches + 1, HIDDEN))
        self.embeddings.patch_embeddings = nn.ModuleDict({"projection": Stem(HIDDEN)})
        layers = nn.ModuleList(_Layer() for _ in range(LAYERS))
        self.encoder = nn.ModuleDict({"layer": layers})
        self.requires_grad_(False).train(False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Look at crops.

        Args:
            pixels: (n, 3, side, side), normalised.

        Returns:
            (n, IMAGE_TOKENS_EACH, VISUAL_WIDTH).
        """
        patches: torch.Tensor = self.embeddings.get_submodule("patch_embeddings.projection")(pixels)
        count, width, side, _ = patches.shape
        first = self.embeddings.get_parameter("cls_token").expand(count, -1, -1)
        states = torch.cat([first, patches.flatten(2).transpose(1, 2)], dim=1)
        states = states + self.embeddings.get_parameter("position_embeddings")
        for layer in self.encoder["layer"].children():
            states = layer(states)
        # InternVL's pixel shuffle: patches of a square side by side, columns before rows.
        folded = side // _FOLD
        grid = states[:, 1:].reshape(count, folded, _FOLD, folded, _FOLD, width)
        return grid.permute(0, 1, 3, 2, 4, 5).reshape(count, folded**2, -1)


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        names = ("q_proj", "k_proj", "v_proj", "projection_layer")
        self.attention = nn.ModuleDict({name: nn.Linear(HIDDEN, HIDDEN) for name in names})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(HIDDEN, MLP), "fc2": nn.Linear(MLP, HIDDEN)})
        self.layernorm_before = nn.LayerNorm(HIDDEN, eps=_EPSILON)
        self.layernorm_after = nn.LayerNorm(HIDDEN, eps=_EPSILON)
        self.lambda_1 = nn.Parameter(torch.ones(HIDDEN))
        self.lambda_2 = nn.Parameter(torch.ones(HIDDEN))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        read = self.layernorm_before(states)
        query, key, value = (
            self.attention[name](read).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for name in ("q_proj", "k_proj", "v_proj")
        )
        mixed = functional.scaled_dot_product_attention(query, key, value)
        merged = self.attention["projection_layer"](mixed.transpose(1, 2).flatten(2))
        states = states + self.lambda_1 * merged
        widened = functional.gelu(self.mlp["fc1"](self.layernorm_after(states)))
        narrowed: torch.Tensor = self.mlp["fc2"](widened)
        return states + self.lambda_2 * narrowed
