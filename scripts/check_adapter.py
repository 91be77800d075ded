"""Does `peft` load the adapters that Arable writes, and does it compute the same?

    python scripts/check_adapter.py BASE ADAPTER [ADAPTER ...]

Each ADAPTER holds `parity.safetensors` beside its files: `input_ids` and `cu_seqlens` that Arable ran, `logits` that it got on
BASE. One line per ADAPTER; exit code 1 if any fails.
"""

import argparse
import json
import sys
from pathlib import Path

from check_export import Failed, check_logits, require

import peft
import torch
import transformers
from peft import PeftModel, get_peft_model_state_dict
from safetensors import safe_open

AUTO = {
    None: transformers.AutoModelForMaskedLM,
    "CAUSAL_LM": transformers.AutoModelForCausalLM,
    "SEQ_CLS": transformers.AutoModelForSequenceClassification,
    "TOKEN_CLS": transformers.AutoModelForTokenClassification,
}


def load(base, folder):
    """The base in f32 with the adapter, if every tensor of its file was used."""
    task = json.loads((folder / "adapter_config.json").read_text())["task_type"]
    facts = json.loads((folder / "arable.json").read_text())
    more = {"num_labels": len(facts["labels"])} if task in ("SEQ_CLS", "TOKEN_CLS") else {}
    sequence = facts["head"].get("Sequence") if isinstance(facts["head"], dict) else None
    if sequence and transformers.AutoConfig.from_pretrained(base).model_type == "modernbert":
        more["classifier_pooling"] = sequence["pooling"]
    model = PeftModel.from_pretrained(AUTO[task].from_pretrained(base, **more), folder)
    known = get_peft_model_state_dict(model)
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        strangers = sorted(set(file.keys()) - set(known))
        require(not strangers, f"names that peft does not know: {strangers}")
        for name in file.keys():
            require(bool(torch.equal(known[name], file.get_tensor(name))), f"{name} was not loaded")
        require(set(known) == set(file.keys()), f"not in the file: {sorted(set(known) - set(file.keys()))}")
    return model.float().eval()


def verdict(base, folder):
    """(passed, line) for one folder. Any exception is a finding: the libraries raise many kinds."""
    try:
        return True, f"ok      {folder}: {check_logits(folder, load(base, folder), 'parity.safetensors')}"
    except Exception as error:  # noqa: BLE001
        kind = "" if isinstance(error, Failed) else f"{type(error).__name__}: "
        return False, f"FAILED  {folder}: {kind}{error}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", type=Path, metavar="BASE")
    parser.add_argument("folders", type=Path, nargs="+", metavar="ADAPTER")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    print(f"peft {peft.__version__}, transformers {transformers.__version__}, torch {torch.__version__}")
    verdicts = [verdict(options.base, folder) for folder in options.folders]
    for _, line in verdicts:
        print(line)
    return 0 if all(passed for passed, _ in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
