from __future__ import annotations

import pytest
import torch

from emoverse.faces.crop import SIZE
from emoverse.models.emoverse import EmoVerse
from emoverse.models.prefix_tree import merge
from emoverse.models.prompt import prompt_tokens

from .tiny import alone, features, picture_ids, tiny_model


@pytest.fixture(scope="module")
def model() -> EmoVerse:
    return tiny_model()


def test_a_merged_tree_gives_each_sequence_the_states_it_has_alone(model: EmoVerse) -> None:
    sequences = [[9, 8, 7, 6], [9, 8, 7, 5, 4, 3], [9, 8], [1, 2, 3], [9, 4, 7, 6]]
    tree = merge(sequences)
    assert len(tree.tokens) < sum(map(len, sequences))
    with torch.no_grad():
        merged = model.hidden_states([tree])[0]
    for sequence, path in zip(sequences, tree.paths, strict=True):
        torch.testing.assert_close(merged[path], alone(model, sequence), atol=1e-4, rtol=1e-4)


def test_trees_side_by_side_do_not_touch_each_other(model: EmoVerse) -> None:
    short, long = merge([[3, 1], [3, 2]]), merge([[7, 6, 5, 4, 3, 2, 1], [7, 6, 1]])
    with torch.no_grad():
        both = model.hidden_states([short, long])
        torch.testing.assert_close(
            both[0, :3], model.hidden_states([short])[0, :3], atol=1e-4, rtol=1e-4
        )
    assert torch.isfinite(both).all()
    torch.testing.assert_close(
        both[1, long.paths[1]], alone(model, [7, 6, 1]), atol=1e-4, rtol=1e-4
    )


def test_visual_tokens_are_merged_and_read_like_words(model: EmoVerse) -> None:
    seen = features(model, 2)
    sequences = [
        prompt_tokens(model.tokenizer, query, [picture_ids(model, picture)])
        for query, picture in (("a joy", 0), ("a fear", 0), ("a joy", 1))
    ]
    tree = merge(sequences)
    with torch.no_grad():
        merged = model.hidden_states([tree], seen)[0]
    for sequence, path in zip(sequences, tree.paths, strict=True):
        torch.testing.assert_close(merged[path], alone(model, sequence, seen), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(merged[tree.paths[0][-1]], merged[tree.paths[2][-1]], atol=1e-3)


def test_a_negative_id_is_its_row_of_the_features(model: EmoVerse) -> None:
    seen = features(model, 1)
    embedded = model.embed(torch.tensor([[5, -1, -3]]), seen)[0]
    words = model.network.model.language_model.get_input_embeddings().weight
    torch.testing.assert_close(embedded, torch.stack([words[5], seen[0], seen[2]]))


def test_pictures_become_pixel_shuffled_tokens_of_the_language_models_width(
    model: EmoVerse,
) -> None:
    pixels = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    tokens = model.visual_tokens(pixels)
    assert tokens.shape == (3, model.image_tokens, 64)
    assert not tokens.requires_grad
    torch.testing.assert_close(tokens[1:2], model.visual_tokens(pixels[1:2]), atol=1e-5, rtol=1e-4)
    # Eq 4 is linear up to its bias, and rows are in the order that negative ids count in.
    projected = model.project(tokens)
    assert projected.shape == (3 * model.image_tokens, 32)
    torch.testing.assert_close(
        projected[model.image_tokens], model.project(tokens[1:2])[0], atol=1e-5, rtol=1e-4
    )


def test_pixel_shuffle_folds_neighbours_together(model: EmoVerse) -> None:
    """A change in the top left quarter of the grid reaches the first visual token most."""
    pixels = torch.zeros(1, 3, SIZE, SIZE)
    vision = model.network.model.vision_tower
    with torch.no_grad():
        grid = vision(pixel_values=pixels).last_hidden_state[0, 1:].reshape(4, 4, 16)
        (tokens,) = model.visual_tokens(pixels)
    square = {tuple(row.tolist()) for row in grid[:2, :2].reshape(4, 16)}
    assert {tuple(part.tolist()) for part in tokens[0].reshape(4, 16)} == square
