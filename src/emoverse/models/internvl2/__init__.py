"""InternVL2 checkpoints, as published, for transformers' own classes: no remote code, no pickle."""
