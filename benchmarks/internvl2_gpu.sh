#!/usr/bin/env bash
# What EmoVerse-4B and -8B need and do on this machine's GPU, with random weights:
#   bash benchmarks/internvl2_gpu.sh [OUT]
# Name a Python that has ms-swift in EMOVERSE_PEER_SWIFT to have it measured beside.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-out/internvl2_gpu}
mkdir -p "$out"
for size in 4b 8b; do
    python benchmarks/dry_run.py "recipes/emoverse-$size.yaml" --json "$out/$size.json"
done
python benchmarks/train.py --shape 4b --parts --swift-attention flash_attn --out "$out/train"
