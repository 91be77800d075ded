"""Packed sequences: `[num_tokens, ...]` with `cu_seqlens`, the layout Arable computes in."""

import torch


def spans(cu_seqlens):
    """The (start, end) of every sequence."""
    bounds = [int(bound) for bound in cu_seqlens]
    return list(zip(bounds[:-1], bounds[1:]))


def cumulative(lengths):
    """`cu_seqlens` of sequences with these lengths."""
    return torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()], dtype=torch.int32)


def run_alone(model, input_ids, cu_seqlens, types=None, **kwargs):
    """Outputs of the model for each sequence on its own: no padding, hence none of padding's effects. `types` tell the texts
    of pairs apart, for models that take them."""
    outputs = []
    for start, end in spans(cu_seqlens):
        ids = input_ids[start:end].long().unsqueeze(0)
        more = kwargs if types is None else {**kwargs, "token_type_ids": types[start:end].long().unsqueeze(0)}
        outputs.append(model(input_ids=ids, attention_mask=torch.ones_like(ids), **more))
    return outputs


def packed_logits(model, input_ids, cu_seqlens, types=None):
    """Logits as Arable lays them out: `[num_tokens, k]` per token, `[num_sequences, k]` per sequence."""
    logits = [output.logits for output in run_alone(model, input_ids, cu_seqlens, types)]
    return torch.cat([one.reshape(-1, one.shape[-1]) for one in logits])
