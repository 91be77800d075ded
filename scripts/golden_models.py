"""Tiny ModernBERT models saved by transformers itself, with the outputs and gradients it computes from them."""

import json

import torch
from safetensors.torch import save_file
from torch.nn import functional as F
from transformers import (
    ModernBertConfig,
    ModernBertForMaskedLM,
    ModernBertForSequenceClassification,
    ModernBertForTokenClassification,
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


def build(architecture, seed, **config):
    """A model in evaluation mode. Norm weights and biases leave 1 and 0, else a test could not tell if they are used."""
    torch.manual_seed(seed)
    model = architecture(ModernBertConfig(**SHAPE, **config, attn_implementation="sdpa")).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def sequences(seed):
    """[CLS] words [SEP] for each length, concatenated."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(FIRST_WORD, SHAPE["vocab_size"], (sum(LENGTHS),), generator=generator, dtype=torch.int32)
    cu_seqlens = cumulative(LENGTHS)
    for start, end in spans(cu_seqlens):
        ids[start], ids[end - 1] = CLS, SEP
    return ids, cu_seqlens


def mlm_inputs(seed):
    """Every third word is to be predicted: most hidden behind [MASK], one in five left as it is."""
    ids, cu_seqlens = sequences(seed)
    labels = torch.full_like(ids, IGNORED)
    for start, end in spans(cu_seqlens):
        labels[start + 1 : end - 1 : 3] = ids[start + 1 : end - 1 : 3]
    chosen = (labels != IGNORED).nonzero().squeeze(1)
    ids[chosen[torch.arange(len(chosen)) % 5 != 4]] = MASK
    return ids, cu_seqlens, labels


def token_inputs(seed):
    """A class for every token but the special ones, which are ignored."""
    ids, cu_seqlens = sequences(seed)
    labels = ids % 5
    labels[ids < FIRST_WORD] = IGNORED
    return ids, cu_seqlens, labels


def sequence_inputs(seed):
    """A class for every sequence."""
    return *sequences(seed), torch.tensor([2, 0, 1], dtype=torch.int32)


def reference(model, ids, cu_seqlens, labels, gradients):
    """What the model computes for the sequences, each run alone: hidden states, logits, mean loss, gradients."""
    outputs = run_alone(model, ids, cu_seqlens, output_hidden_states=True)
    logits = torch.cat([output.logits.flatten(0, -2) for output in outputs])
    loss = F.cross_entropy(logits, labels.long(), ignore_index=IGNORED)
    model.zero_grad()
    loss.backward()
    states = zip(*(output.hidden_states for output in outputs))
    tensors = {f"hidden/{depth}": torch.cat([one.squeeze(0) for one in state]) for depth, state in enumerate(states)}
    tensors |= {"input_ids": ids, "cu_seqlens": cu_seqlens, "logits": logits, "labels": labels, "loss": loss.reshape(1)}
    named = dict(model.named_parameters())
    tensors |= {f"grad/{name}": named[name].grad for name in gradients}
    return {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}


def eager_distances(model, inputs, gradients, tensors):
    """How far transformers' two attention implementations are apart in f32: the yardstick for tolerances."""
    model.set_attn_implementation("eager")
    eager = reference(model, *inputs, gradients)
    model.set_attn_implementation("sdpa")
    distances = dict.fromkeys(["hidden", "logits", "loss", "grad"], 0.0)
    for name, tensor in tensors.items():
        kind = name.split("/")[0]
        if kind in distances:
            distances[kind] = max(distances[kind], (eager[name] - tensor).abs().max().item())
    return {kind: float(f"{distance:.1e}") for kind, distance in distances.items()}


def write(folder, model, inputs, gradients, versions):
    tensors = reference(model, *inputs, gradients)
    facts = {
        "versions": versions,
        "eager_vs_sdpa": eager_distances(model, inputs, gradients, tensors),
        "hidden": "hidden/0 embeddings, hidden/i output of layer i - 1; the last one after final_norm",
        "loss": f"mean cross-entropy over labels other than {IGNORED}",
    }
    model.save_pretrained(folder)
    save_file(tensors, folder / "reference.safetensors")
    (folder / "reference.json").write_text(json.dumps(facts, indent=2) + "\n")


def models(root, seed, versions):
    """Writes `root/modernbert-*`."""
    mlm = build(ModernBertForMaskedLM, seed)
    write(root / "modernbert-mlm", mlm, mlm_inputs(seed), MLM_GRADIENTS, versions)
    for folder, pooling in [("modernbert-sequence", "mean"), ("modernbert-sequence-cls", "cls")]:
        model = build(ModernBertForSequenceClassification, seed + 1, num_labels=3, classifier_pooling=pooling)
        write(root / folder, model, sequence_inputs(seed + 1), CLASSIFIER_GRADIENTS, versions)
    token = build(ModernBertForTokenClassification, seed + 2, num_labels=5)
    write(root / "modernbert-token", token, token_inputs(seed + 2), CLASSIFIER_GRADIENTS, versions)
