"""Training: the face ViT, then M2SE's stages."""

from emoverse.training.trainer import train as train
