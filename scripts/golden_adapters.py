"""Small adapters that PEFT saved, and the logits it got: fixtures/adapters/<base>-<kind>/.

    python scripts/golden_adapters.py fixtures

Each lies on the fixture of its base. No weight keeps its first value, which would change nothing.
"""

import os
import sys
from pathlib import Path

# Everything is local.
os.environ["HF_HUB_OFFLINE"] = "1"

import peft
import torch
import transformers
from peft import IA3Config, LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from packed import packed_logits

AUTO = {
    "mlm": transformers.AutoModelForMaskedLM,
    "clm": transformers.AutoModelForCausalLM,
    "sequence": transformers.AutoModelForSequenceClassification,
    "token": transformers.AutoModelForTokenClassification,
}
TASKS = {"mlm": None, "clm": "CAUSAL_LM", "sequence": "SEQ_CLS", "token": "TOKEN_CLS"}
# Names that every family has, and those of one alone.
SOME = {"bert": ["query", "value"], "modernbert": ["Wqkv", "mlp.Wo"], "llama": ["q_proj", "v_proj"]}
ALL = {
    "bert": ["query", "key", "value", "dense"],
    "modernbert": ["Wqkv", "Wi", "Wo"],
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
}
SCALED = {"bert": ["key", "value", "output.dense"], "modernbert": ["Wqkv", "mlp.Wo"], "llama": ["k_proj", "v_proj", "down_proj"]}
INNER = {"bert": ["output.dense"], "modernbert": ["mlp.Wo"], "llama": ["down_proj"]}
BASES = ["bert-mlm", "bert-sequence", "modernbert-mlm", "modernbert-token", "llama-clm", "llama-sequence"]


def configs(family, task):
    # `dense` of the pooler is no layer's, and a head is trained whole.
    no_head = {"exclude_modules": r".*(pooler|predictions|head)\..*"} if family != "llama" else {}
    common = {"task_type": task, "lora_dropout": 0.1}
    return {
        "lora": LoraConfig(r=4, lora_alpha=6, target_modules=ALL[family], **no_head, **common),
        "rslora": LoraConfig(r=3, lora_alpha=5, use_rslora=True, target_modules=SOME[family], rank_pattern={SOME[family][0]: 2}, **common),
        "dora": LoraConfig(r=2, use_dora=True, target_modules=ALL[family], **no_head, **common),
        "ia3": IA3Config(task_type=task, target_modules=SCALED[family], feedforward_modules=INNER[family]),
    }


def write(fixtures, base, kind, config):
    torch.manual_seed(7)
    model = get_peft_model(AUTO[base.split("-")[1]].from_pretrained(fixtures / base), config).eval()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    reference = load_file(fixtures / base / "reference.safetensors")
    types = reference.get("token_type_ids")
    with torch.no_grad():
        logits = packed_logits(model, reference["input_ids"], reference["cu_seqlens"], types)
    folder = fixtures / "adapters" / f"{base}-{kind}"
    model.peft_config["default"].base_model_name_or_path = base
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    save_file({"logits": logits.contiguous()}, folder / "reference.safetensors")
    print(folder, tuple(logits.shape))


def main(fixtures):
    print(f"peft {peft.__version__}, transformers {transformers.__version__}, torch {torch.__version__}")
    for base in BASES:
        family, head = base.split("-")
        for kind, config in configs(family, TASKS[head]).items():
            write(fixtures, base, kind, config)


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    main(Path(sys.argv[1]))
