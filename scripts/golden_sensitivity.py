"""How much do the logits of fixtures/modernbert-* move under a plausible mistake? A tolerance must lie below the smallest move.

    python scripts/golden_sensitivity.py
"""

from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file

from check_export import architecture
from packed import packed_logits

FIXTURES = Path(__file__).parent.parent / "fixtures"


def rope(full, sliding):
    bases = {"full_attention": full, "sliding_attention": sliding}
    return {kind: {"rope_type": "default", "rope_theta": base} for kind, base in bases.items()}


MISTAKES = {
    "none": {},
    "window one narrower": {"local_attention": 6},
    "window one wider": {"local_attention": 10},
    "a layer full instead of sliding": {"layer_types": ["full_attention", "sliding_attention"] + 2 * ["full_attention"]},
    "theta 1e4 everywhere": {"rope_parameters": rope(1e4, 1e4)},
    "theta 16e4 everywhere": {"rope_parameters": rope(16e4, 16e4)},
    "norm_eps 1e-6": {"norm_eps": 1e-6},
    "tanh GELU in the MLPs": {"hidden_activation": "gelu_pytorch_tanh"},
    "tanh GELU in the head": {"classifier_activation": "gelu_pytorch_tanh"},
    "the other pooling": {"classifier_pooling": "swapped"},
}


def move(folder, changes):
    """Largest change of a logit when the configuration is changed in this way."""
    tensors = load_file(folder / "reference.safetensors")
    config = transformers.AutoConfig.from_pretrained(folder)
    for key, value in changes.items():
        other = {"cls": "mean", "mean": "cls"}[config.classifier_pooling]
        setattr(config, key, other if value == "swapped" else value)
    model = architecture(folder).from_pretrained(folder, config=config).eval()
    with torch.no_grad():
        logits = packed_logits(model, tensors["input_ids"], tensors["cu_seqlens"])
    return (logits - tensors["logits"]).abs().max().item()


def main():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    folders = sorted(FIXTURES.glob("modernbert-*"))
    print(f"{'':32}", *(f"{folder.name.removeprefix('modernbert-'):>12}" for folder in folders))
    for name, changes in MISTAKES.items():
        print(f"{name:32}", *(f"{move(folder, changes):12.1e}" for folder in folders))


if __name__ == "__main__":
    main()
