"""Writes the goldens that Arable's engine and models are tested against: `fixtures/ops.*`, `fixtures/<family>-<head>/`.

    pip install -r scripts/requirements.txt
    python scripts/goldens.py [--out fixtures]

Seeded; a second run on the same machine writes the same bytes. On another processor the f32 parts (`*/reference.*`,
`float32_error`) may move by rounding. The versions that computed them are stored beside them.
"""

import argparse
import json
import platform
from pathlib import Path

import numpy
import safetensors
import torch
import transformers
from safetensors.torch import save_file

from golden_models import models
from golden_ops import operations

SEED = 20_240
VERSIONS = {
    "python": platform.python_version(),
    "torch": torch.__version__,
    "transformers": transformers.__version__,
    "safetensors": safetensors.__version__,
    "numpy": numpy.__version__,
}


def write_operations(root):
    tensors, cases = operations(SEED)
    save_file(tensors, root / "ops.safetensors")
    facts = {"versions": VERSIONS, "seed": SEED, "cases": cases}
    (root / "ops.json").write_text(json.dumps(facts, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "fixtures")
    root = parser.parse_args().out
    root.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    write_operations(root)
    models(root, SEED, VERSIONS)


if __name__ == "__main__":
    main()
