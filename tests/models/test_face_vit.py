from __future__ import annotations

import numpy as np
import torch

from emoverse.faces.blendshapes import BLENDSHAPES
from emoverse.faces.crop import SIZE
from emoverse.models import compact, face_vit


def test_pixels_are_normalised_as_internvl_does() -> None:
    crops = np.zeros((2, SIZE, SIZE, 3), np.uint8)
    crops[1] = 255
    crops[1, 3, 5] = (255, 0, 0)
    pixels = face_vit.pixel_values(crops)
    assert pixels.shape == (2, 3, SIZE, SIZE)
    assert pixels.dtype == torch.float32
    mean, std = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
    torch.testing.assert_close(pixels[0, :, 0, 0], -mean / std)
    torch.testing.assert_close(
        pixels[1, :, 3, 5], (torch.tensor((1.0, 0.0, 0.0)) - mean) / std, atol=1e-6, rtol=1e-5
    )


def test_flipped_crops_may_be_given_as_views() -> None:
    crops = np.random.default_rng(0).integers(0, 255, (1, SIZE, SIZE, 3), np.uint8)
    flipped = face_vit.pixel_values(crops[:, :, ::-1])
    torch.testing.assert_close(flipped, face_vit.pixel_values(crops).flip(3))


def test_a_crop_becomes_as_many_tokens_as_the_language_model_is_promised() -> None:
    config = face_vit.config()
    side = SIZE // config.patch_size[0]
    assert config.image_size[0] == SIZE
    assert side * side // 4 == compact.IMAGE_SEQUENCE


def test_the_teacher_answers_with_the_shapes_it_is_trained_on() -> None:
    teacher = face_vit.FaceTeacher(points=7).eval()
    with torch.no_grad():
        by_place, points, by_mean, emotions = teacher(torch.zeros(2, 3, SIZE, SIZE))
    assert by_place.shape == by_mean.shape == (2, len(BLENDSHAPES))
    assert points.shape == (2, 14)
    assert emotions.shape == (2, len(face_vit.EMOTION_CLASSES))
    parameters = sum(parameter.numel() for parameter in teacher.vit.parameters())
    assert 1.5e6 < parameters < 2e6
