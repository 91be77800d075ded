"""Tiny models of each family saved by transformers itself, with what it computes from them: outputs, gradients, a step."""

import json

import torch
from safetensors.torch import save_file
from torch.nn import functional as F
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertForTokenClassification,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    LlamaForTokenClassification,
    ModernBertConfig,
    ModernBertForMaskedLM,
    ModernBertForSequenceClassification,
    ModernBertForTokenClassification,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaForSequenceClassification,
)

from packed import cumulative, run_alone, spans

IGNORED = -100
# 4 layers: full, sliding, sliding, full. All sequences but the first are longer than the window of |i - j| <= 4.
LENGTHS = [5, 23, 12]
PAD, CLS, SEP, MASK, FIRST_WORD = 0, 1, 2, 3, 4
SHAPE = {
    "vocab_size": 96,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "global_attn_every_n_layers": 3,
    "local_attention": 8,
    "max_position_embeddings": 64,
    # Ten times the usual spread, so that attention and logits are far from flat.
    "initializer_range": 0.2,
    "pad_token_id": PAD,
    "bos_token_id": CLS,
    "cls_token_id": CLS,
    "eos_token_id": SEP,
    "sep_token_id": SEP,
}
MLM_GRADIENTS = [
    "model.embeddings.tok_embeddings.weight",
    "model.embeddings.norm.weight",
    "model.layers.0.attn.Wqkv.weight",
    "model.layers.1.attn_norm.weight",
    "model.layers.2.attn.Wo.weight",
    "model.layers.2.mlp.Wi.weight",
    "model.layers.3.mlp.Wo.weight",
    "model.final_norm.weight",
    "head.dense.weight",
    "head.norm.weight",
    "decoder.bias",
]
CLASSIFIER_GRADIENTS = [
    "model.embeddings.tok_embeddings.weight",
    "model.layers.3.mlp.Wo.weight",
    "head.dense.weight",
    "head.norm.weight",
    "classifier.weight",
    "classifier.bias",
]


# Shapes of the other families: two layers, fewer heads of keys than of queries in decoders, and in Qwen3 heads that are
# wider than their share of the width.
SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 40,
    "initializer_range": 0.2,
}
DECODER = {**SMALL, "num_key_value_heads": 2, "bos_token_id": CLS, "eos_token_id": SEP, "pad_token_id": PAD}
BERT = {**SMALL, "pad_token_id": PAD}
# As RoBERTa numbers them: `<s> <pad> </s> <mask>`.
ROBERTA = {**SMALL, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "type_vocab_size": 1}
# Settings of the step: a large eps, so that a gradient near zero does not decide on a whole step.
STEP = {"lr": 0.1, "betas": (0.9, 0.98), "eps": 1e-2, "weight_decay": 0.1, "max_norm": 1.0}


def build(architecture, config, seed):
    """A model in evaluation mode. Norm weights and biases leave 1 and 0, else a test could not tell if they are used."""
    torch.manual_seed(seed)
    model = architecture(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def modern_bert(architecture, seed, **config):
    return build(architecture, ModernBertConfig(**SHAPE, **config, attn_implementation="sdpa"), seed)


def sequences(seed, vocab_size=SHAPE["vocab_size"], ends=(CLS, SEP)):
    """[CLS] words [SEP] for each length, concatenated."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(FIRST_WORD, vocab_size, (sum(LENGTHS),), generator=generator, dtype=torch.int32)
    cu_seqlens = cumulative(LENGTHS)
    for start, end in spans(cu_seqlens):
        ids[start], ids[end - 1] = ends
    return ids, cu_seqlens


def mlm_inputs(seed, **how):
    """Every third word is to be predicted: most hidden behind [MASK], one in five left as it is."""
    ids, cu_seqlens = sequences(seed, **how)
    labels = torch.full_like(ids, IGNORED)
    for start, end in spans(cu_seqlens):
        labels[start + 1 : end - 1 : 3] = ids[start + 1 : end - 1 : 3]
    chosen = (labels != IGNORED).nonzero().squeeze(1)
    ids[chosen[torch.arange(len(chosen)) % 5 != 4]] = MASK
    return ids, cu_seqlens, labels


def clm_inputs(seed, **how):
    """Every token is to be predicted from those before it."""
    ids, cu_seqlens = sequences(seed, **how)
    labels = torch.full_like(ids, IGNORED)
    for start, end in spans(cu_seqlens):
        labels[start : end - 1] = ids[start + 1 : end]
    return ids, cu_seqlens, labels


def token_inputs(seed, **how):
    """A class for every token but the special ones, which are ignored."""
    ids, cu_seqlens = sequences(seed, **how)
    labels = ids % 5
    labels[ids < FIRST_WORD] = IGNORED
    return ids, cu_seqlens, labels


def sequence_inputs(seed, **how):
    """A class for every sequence."""
    return *sequences(seed, **how), torch.tensor([2, 0, 1], dtype=torch.int32)


def pair_types(cu_seqlens):
    """The second half of each sequence is another text."""
    types = [torch.arange(end - start) >= (end - start) // 2 for start, end in spans(cu_seqlens)]
    return torch.cat(types).to(torch.int32)


def reference(model, ids, cu_seqlens, labels, gradients, types=None):
    """What the model computes for the sequences, each run alone: hidden states, logits, mean loss, gradients."""
    outputs = run_alone(model, ids, cu_seqlens, types, output_hidden_states=True)
    logits = torch.cat([output.logits.flatten(0, -2) for output in outputs])
    loss = F.cross_entropy(logits, labels.long(), ignore_index=IGNORED)
    model.zero_grad()
    loss.backward()
    states = zip(*(output.hidden_states for output in outputs))
    tensors = {f"hidden/{depth}": torch.cat([one.squeeze(0) for one in state]) for depth, state in enumerate(states)}
    tensors |= {"input_ids": ids, "cu_seqlens": cu_seqlens, "logits": logits, "labels": labels, "loss": loss.reshape(1)}
    if types is not None:
        tensors["token_type_ids"] = types
    named = dict(model.named_parameters())
    tensors |= {f"grad/{name}": named[name].grad for name in gradients}
    return {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}


def after_a_step(model, names):
    """The weights after one step of AdamW along the gradients that the model holds; the model is as before."""
    before = [parameter.detach().clone() for parameter in model.parameters()]
    decays = [{"params": [one], "weight_decay": STEP["weight_decay"] * (one.dim() > 1)} for one in model.parameters()]
    optimizer = torch.optim.AdamW(decays, lr=STEP["lr"], betas=STEP["betas"], eps=STEP["eps"])
    torch.nn.utils.clip_grad_norm_(model.parameters(), STEP["max_norm"])
    optimizer.step()
    named = dict(model.named_parameters())
    after = {f"step/{name}": named[name].detach().clone() for name in names}
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), before):
            parameter.copy_(value)
    return after


def eager_distances(model, inputs, gradients, types, tensors):
    """How far transformers' two attention implementations are apart in f32: the yardstick for tolerances."""
    model.set_attn_implementation("eager")
    eager = reference(model, *inputs, gradients, types)
    model.set_attn_implementation("sdpa")
    distances = dict.fromkeys(["hidden", "logits", "loss", "grad"], 0.0)
    for name, tensor in tensors.items():
        kind = name.split("/")[0]
        if kind in distances:
            distances[kind] = max(distances[kind], (eager[name] - tensor).abs().max().item())
    return {kind: float(f"{distance:.1e}") for kind, distance in distances.items()}


def write(folder, model, inputs, gradients, versions, types=None, stepped=()):
    """A model's folder with its reference: the weights called `stepped` also after a step."""
    tensors = reference(model, *inputs, gradients, types)
    stepped = after_a_step(model, stepped) if stepped else {}
    facts = {
        "versions": versions,
        "eager_vs_sdpa": eager_distances(model, inputs, gradients, types, tensors),
        "hidden": "hidden/0 embeddings, hidden/i output of layer i - 1; the last one after the final norm, if there is one",
        "loss": f"mean cross-entropy over labels other than {IGNORED}",
    }
    if stepped:
        facts["step"] = {"optimizer": "AdamW, no decay of vectors", **STEP}
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    save_file({**tensors, **stepped}, folder / "reference.safetensors")
    (folder / "reference.json").write_text(json.dumps(facts, indent=2) + "\n")


def gradients_of(model):
    """The head, the embeddings and the last layer: what lies before has no part that they have not."""
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    return [name for name in names if "layer.0." not in name and "layers.0." not in name]


def modern_bert_models(root, seed, versions):
    mlm = modern_bert(ModernBertForMaskedLM, seed)
    write(root / "modernbert-mlm", mlm, mlm_inputs(seed), MLM_GRADIENTS, versions, stepped=MLM_GRADIENTS)
    for folder, pooling in [("modernbert-sequence", "mean"), ("modernbert-sequence-cls", "cls")]:
        model = modern_bert(ModernBertForSequenceClassification, seed + 1, num_labels=3, classifier_pooling=pooling)
        write(root / folder, model, sequence_inputs(seed + 1), CLASSIFIER_GRADIENTS, versions)
    token = modern_bert(ModernBertForTokenClassification, seed + 2, num_labels=5)
    write(root / "modernbert-token", token, token_inputs(seed + 2), CLASSIFIER_GRADIENTS, versions)


def family_models(root, seed, versions):
    """Every other family: a language model, and the heads that differ from those of the families before."""
    ends = {"roberta": (0, 2)}
    made = [
        ("bert-mlm", BertForMaskedLM, BertConfig(**BERT), mlm_inputs),
        ("bert-sequence", BertForSequenceClassification, BertConfig(**BERT, num_labels=3), sequence_inputs),
        ("bert-token", BertForTokenClassification, BertConfig(**BERT, num_labels=5), token_inputs),
        ("roberta-mlm", RobertaForMaskedLM, RobertaConfig(**ROBERTA), mlm_inputs),
        ("roberta-sequence", RobertaForSequenceClassification, RobertaConfig(**ROBERTA, num_labels=3), sequence_inputs),
        ("llama-clm", LlamaForCausalLM, LlamaConfig(**DECODER), clm_inputs),
        ("llama-sequence", LlamaForSequenceClassification, LlamaConfig(**DECODER, num_labels=3), sequence_inputs),
        ("llama-token", LlamaForTokenClassification, LlamaConfig(**DECODER, num_labels=5), token_inputs),
        ("qwen2-clm", Qwen2ForCausalLM, Qwen2Config(**DECODER, tie_word_embeddings=True), clm_inputs),
        ("qwen3-clm", Qwen3ForCausalLM, Qwen3Config(**DECODER, head_dim=10), clm_inputs),
    ]
    for idx, (name, architecture, config, inputs) in enumerate(made):
        family, head = name.split("-")
        model = build(architecture, config, seed + 10 + idx)
        read = inputs(seed + 10 + idx, vocab_size=SMALL["vocab_size"], ends=ends.get(family, (CLS, SEP)))
        types = pair_types(read[1]) if family == "bert" else None
        # A step shows every gradient; where there is one, those of the norms and of the head suffice beside it.
        gradients, stepped = gradients_of(model), []
        if head.endswith("lm"):
            gradients = [name for name in gradients if model.get_parameter(name).dim() == 1]
            stepped = [name for name, _ in model.named_parameters()]
        write(root / name, model, read, gradients, versions, types, stepped)


def models(root, seed, versions):
    """Writes `root/<family>-<head>`."""
    modern_bert_models(root, seed, versions)
    family_models(root, seed, versions)
