"""Does `transformers` load what Arable exports, and does it compute the same?

    python scripts/check_export.py runs/demo/export [DIR ...]
    python scripts/check_export.py --parity reference.safetensors fixtures/*-*

Each DIR holds `config.json`, `model.safetensors` and `parity.safetensors` with the `input_ids` and `cu_seqlens` that Arable ran
and the `logits` it got. One line per DIR; exit code 1 if any fails.
"""

import argparse
import json
import os
import sys
from pathlib import Path

# Everything is local; nothing may be fetched to make a broken export look whole.
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file

from packed import packed_logits

FAMILIES = ["ModernBert", "Bert", "Roberta", "Llama", "Qwen2", "Qwen3"]
HEADS = ["MaskedLM", "CausalLM", "SequenceClassification", "TokenClassification"]
ARCHITECTURES = [f"{family}For{head}" for family in FAMILIES for head in HEADS]
TOLERANCE = 1e-4
SAMPLE = "The bearing ran hot; oil was changed."


class Failed(Exception):
    """What is wrong with one export."""


def require(holds, message):
    if not holds:
        raise Failed(message)


def architecture(folder):
    """The model class that config.json names."""
    config = json.loads((folder / "config.json").read_text())
    names = config.get("architectures") or []
    require(len(names) == 1 and names[0] in ARCHITECTURES, f"architectures is {names}, expected one of {ARCHITECTURES}")
    return getattr(transformers, names[0])


def keys_of(path):
    with safe_open(path, "pt") as file:
        return set(file.keys())


def load_model(folder):
    """The model in f32, if every tensor of the file was used and every parameter was found in it."""
    model, info = architecture(folder).from_pretrained(folder, output_loading_info=True)
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        found = info.get(problem)
        require(not found, f"{problem}: {sorted(map(str, found or []))}")
    # `from_pretrained` renames keys of older layouts silently; an export is to need no renaming.
    strangers = keys_of(folder / "model.safetensors") - set(model.state_dict())
    require(not strangers, f"names that transformers would not write: {sorted(strangers)}")
    return model.float().eval()


def load_parity(path):
    tensors = load_file(path)
    absent = {"input_ids", "cu_seqlens", "logits"} - set(tensors)
    require(not absent, f"{path.name} lacks {sorted(absent)}")
    input_ids, cu_seqlens = tensors["input_ids"].long(), tensors["cu_seqlens"].long()
    require(len(input_ids) > 0 and len(cu_seqlens) > 1, f"{path.name} holds no sequence")
    covers = cu_seqlens[0] == 0 and cu_seqlens[-1] == len(input_ids) and bool((cu_seqlens.diff() > 0).all())
    require(covers, f"cu_seqlens {cu_seqlens.tolist()} does not cut {len(input_ids)} tokens into sequences")
    return input_ids, cu_seqlens, tensors["logits"].float()


def check_logits(folder, model, parity):
    """The largest distance between Arable's logits and transformers'."""
    input_ids, cu_seqlens, expected = load_parity(folder / parity)
    types = load_file(folder / parity).get("token_type_ids")
    with torch.no_grad():
        logits = packed_logits(model, input_ids, cu_seqlens, types)
    require(logits.shape == expected.shape, f"logits are {list(expected.shape)}, transformers' {list(logits.shape)}")
    require(bool(expected.isfinite().all()), "logits are not finite")
    difference = (logits - expected).abs().max().item()
    require(difference <= TOLERANCE, f"logits differ by {difference:.1e}, allowed {TOLERANCE:.0e}")
    return f"logits {list(logits.shape)} differ by {difference:.1e}"


def check_tokenizer(folder, config):
    """The tokenizer loads, encodes into the model's vocabulary and agrees on the special tokens."""
    if not (folder / "tokenizer.json").exists():
        return "no tokenizer"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    require(len(tokenizer) <= config.vocab_size, f"tokenizer has {len(tokenizer)} tokens, model {config.vocab_size}")
    for name in ("pad_token_id", "cls_token_id", "sep_token_id"):
        told, written = getattr(tokenizer, name), getattr(config, name, None)
        require(None in (told, written) or told == written, f"{name}: tokenizer {told}, config {written}")
    ids = tokenizer(SAMPLE)["input_ids"]
    require(ids and max(ids) < config.vocab_size, f"the sample text became {ids}")
    return f"tokenizer of {len(tokenizer)}, mask_token {tokenizer.mask_token}"


def check(folder, parity):
    """What was found to be in order; raises if something is not."""
    model = load_model(folder)
    facts = [type(model).__name__, check_logits(folder, model, parity), check_tokenizer(folder, model.config)]
    return ", ".join(facts)


def verdict(folder, parity):
    """(passed, line) for one folder. Any exception is a finding: transformers raises many kinds."""
    try:
        return True, f"ok      {folder}: {check(folder, parity)}"
    except Exception as error:  # noqa: BLE001
        kind = "" if isinstance(error, Failed) else f"{type(error).__name__}: "
        return False, f"FAILED  {folder}: {kind}{error}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR")
    parser.add_argument("--parity", default="parity.safetensors", help="file with input_ids, cu_seqlens, logits")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(f"transformers {transformers.__version__}, torch {torch.__version__}")
    verdicts = [verdict(folder, options.parity) for folder in options.folders]
    for _, line in verdicts:
        print(line)
    return 0 if all(passed for passed, _ in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
