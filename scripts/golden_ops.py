"""Goldens of single operations: inputs, outputs and gradients from PyTorch and transformers.

Every case is computed twice. In f64 from f32 inputs and then rounded: this is stored, so that a golden is the true value to
within one f32 rounding and does not depend on the machine. And in f32 by the library code that users run (torch.nn.functional,
transformers' ModernBERT and Llama modules): its distance from the stored value goes to `ops.json` as `float32_error`, the yardstick for
tolerances, and proves that the f64 formula is the library's.
"""

import math
from dataclasses import dataclass, field

import torch
from torch.nn import functional as F
from transformers import LlamaConfig, ModernBertConfig
from transformers.masking_utils import create_bidirectional_mask, create_bidirectional_sliding_window_mask
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm, LlamaRotaryEmbedding, apply_rotary_pos_emb
from transformers.models.modernbert.modeling_modernbert import (
    ModernBertAttention,
    ModernBertMLP,
    ModernBertRotaryEmbedding,
)

from packed import cumulative, spans

# Largest accepted distance between the f64 formula and the library's f32 result, relative to the largest value.
AGREEMENT = 2e-5


@dataclass
class Goldens:
    """Tensors by `<op>/<case>/<tensor>` and what is to be known about each `<op>/<case>`."""

    generator: torch.Generator
    tensors: dict = field(default_factory=dict)
    cases: dict = field(default_factory=dict)

    def normal(self, *shape, scale=1.0):
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64).mul(scale).float()

    def integers(self, high, *shape):
        return torch.randint(high, shape, generator=self.generator).to(torch.int32)

    def record(self, name, inputs, exact, library=None, d_out=None, **facts):
        """Stores a case: `exact` in f64, `library` (default: the same code) in f32 as the yardstick."""
        if d_out is None:
            d_out = self.normal(*exact(**cast(inputs, torch.float64)).shape)
        golden = differentiate(exact, cast(inputs, torch.float64), d_out.double())
        yardstick = differentiate(library or exact, cast(inputs, torch.float32), d_out)
        self.store(name, {**inputs, "d_out": d_out}, golden, yardstick, facts)

    def store(self, name, inputs, golden, yardstick, facts):
        errors = {key: distance(yardstick[key], golden[key]) for key in golden}
        for key, error in errors.items():
            assert error <= AGREEMENT * max(1.0, golden[key].abs().max().item()), f"{name}/{key}: {error}"
        for key, tensor in {**inputs, **golden}.items():
            stored = tensor.float() if tensor.is_floating_point() else tensor.to(torch.int32)
            self.tensors[f"{name}/{key}"] = stored.detach().contiguous().clone()
        self.cases[name] = {**facts, "float32_error": {key: float(f"{error:.1e}") for key, error in errors.items()}}


def cast(inputs, dtype):
    """Fresh leaves in this precision; integers become the int64 that PyTorch indexes with."""
    floats = lambda tensor: tensor.detach().to(dtype).clone().requires_grad_()
    return {key: floats(value) if value.is_floating_point() else value.long() for key, value in inputs.items()}


def differentiate(function, inputs, d_out):
    """`out` and `d_<input>` for every floating-point input. Scalars get the shape [1]."""
    out = function(**inputs)
    out.backward(d_out)
    gradients = {f"d_{key}": value.grad for key, value in inputs.items() if value.is_floating_point()}
    return {"out": out.detach(), **gradients}


def distance(left, right):
    return (left.double() - right.double()).abs().max().item()


def embedding(goldens):
    inputs = {"weight": goldens.normal(11, 6), "ids": torch.tensor([3, 0, 3, 10, 7, 3, 0, 5], dtype=torch.int32)}
    goldens.record("embedding/repeated_ids", inputs, lambda weight, ids: F.embedding(ids, weight))
    inputs = {"weight": goldens.normal(11, 6), "weight_1": goldens.normal(9, 6), "weight_2": goldens.normal(2, 6)}
    rows = [[3, 0, 3, 10, 7, 3, 0, 5], [0, 1, 2, 3, 4, 0, 1, 2], [0, 0, 0, 1, 1, 0, 0, 0]]
    inputs |= {name: torch.tensor(ids, dtype=torch.int32) for name, ids in zip(["ids", "ids_1", "ids_2"], rows)}

    def exact(weight, weight_1, weight_2, ids, ids_1, ids_2):
        return F.embedding(ids, weight) + F.embedding(ids_1, weight_1) + F.embedding(ids_2, weight_2)

    goldens.record("embedding/sum_of_tables", inputs, exact)


def linear(goldens):
    for name, rows, fan_in, fan_out in [("small", 5, 7, 3), ("odd", 37, 29, 19), ("one_row", 1, 16, 32)]:
        inputs = {"x": goldens.normal(rows, fan_in), "weight": goldens.normal(fan_out, fan_in)}
        goldens.record(f"linear/{name}", inputs, F.linear)
        inputs["bias"] = goldens.normal(fan_out)
        goldens.record(f"linear/{name}_bias", inputs, F.linear)


def linear_onto(goldens):
    def exact(x, weight, onto, bias=None):
        return onto + F.linear(x, weight, bias)

    inputs = {"x": goldens.normal(37, 29), "weight": goldens.normal(19, 29), "onto": goldens.normal(37, 19)}
    goldens.record("linear_onto/plain", inputs, exact)
    goldens.record("linear_onto/bias", {**inputs, "bias": goldens.normal(19)}, exact)


def layer_norm(goldens):
    def exact(x, weight, bias=None):
        return F.layer_norm(x, x.shape[-1:], weight, bias, eps=1e-5)

    # `offset` has a mean far from zero: a one-pass variance loses its digits there.
    x = goldens.normal(6, 24)
    for name, rows in [("weight", x), ("narrow", goldens.normal(4, 3)), ("offset", 20.0 + 0.5 * x), ("tiny", 1e-3 * x)]:
        inputs = {"x": rows, "weight": 1.0 + goldens.normal(rows.shape[-1], scale=0.3)}
        goldens.record(f"layer_norm/{name}", inputs, exact, eps=1e-5)
    inputs = {"x": x, "weight": 1.0 + goldens.normal(24, scale=0.3), "bias": goldens.normal(24)}
    goldens.record("layer_norm/weight_bias", inputs, exact, eps=1e-5)
    inputs |= {"x": goldens.normal(150, 24)}
    goldens.record("layer_norm/weight_bias_many_rows", inputs, exact, eps=1e-5)


def root_mean_square(x, weight):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * weight


def llama_norm(x, weight):
    """transformers' own module with this weight."""
    norm = LlamaRMSNorm(weight.shape[-1], eps=1e-5)
    del norm.weight
    norm.weight = weight
    return norm(x)


def rms_norm(goldens):
    x = goldens.normal(6, 24)
    for name, rows in [("weight", x), ("offset", 20.0 + 0.5 * x), ("tiny", 1e-3 * x), ("many_rows", goldens.normal(150, 24))]:
        inputs = {"x": rows, "weight": 1.0 + goldens.normal(24, scale=0.3)}
        goldens.record(f"rms_norm/{name}", inputs, root_mean_square, llama_norm, eps=1e-5)


def head_norm(goldens):
    """Heads of queries and keys normalised, values left alone."""
    num_queries, num_keys, head_dim = 4, 2, 8

    def of_heads(norm):
        def apply(x, weight, weight_1):
            heads = x.view(x.shape[0], -1, head_dim)
            queries, keys, values = heads.split([num_queries, num_keys, num_keys], dim=1)
            return torch.cat([norm(queries, weight), norm(keys, weight_1), values], dim=1).flatten(1)

        return apply

    weights = {name: 1.0 + goldens.normal(head_dim, scale=0.3) for name in ["weight", "weight_1"]}
    inputs = {"x": goldens.normal(70, 8 * head_dim), **weights}
    facts = {"num_heads": num_queries, "num_kv_heads": num_keys}
    goldens.record("head_norm/queries_and_keys", inputs, of_heads(root_mean_square), of_heads(llama_norm), **facts)


def gelu(goldens):
    x = torch.cat([goldens.normal(57, scale=2.0), torch.tensor([-30.0, -10.0, -1e-4, 0.0, 1e-4, 10.0, 30.0])])
    goldens.record("gelu/erf", {"x": x}, F.gelu)


def activation(goldens):
    x = torch.cat([goldens.normal(57, scale=2.0), torch.tensor([-30.0, -10.0, -1e-4, 0.0, 1e-4, 10.0, 30.0])])
    for name, function in [("gelu_tanh", lambda x: F.gelu(x, approximate="tanh")), ("silu", lambda x: F.silu(x)), ("tanh", lambda x: x.tanh())]:
        goldens.record(f"activation/{name}", {"x": x}, function, activation=name)


class Half(torch.nn.Module):
    """The first or the second half of the columns."""

    def __init__(self, idx):
        super().__init__()
        self.idx = idx

    def forward(self, x):
        return x.chunk(2, dim=-1)[self.idx]


def gated(goldens):
    def exact(x):
        gate, value = x.chunk(2, dim=-1)
        return F.silu(gate) * value

    mlp = LlamaMLP(LlamaConfig(hidden_size=16, num_attention_heads=1, intermediate_size=24))
    mlp.gate_proj, mlp.up_proj, mlp.down_proj = Half(0), Half(1), torch.nn.Identity()
    goldens.record("gated/silu", {"x": goldens.normal(9, 48, scale=1.5)}, exact, lambda x: mlp(x), activation="silu")


def module_config(**config):
    """A configuration for a single module: no vocabulary to speak of, hence no special tokens in it."""
    tokens = dict.fromkeys(["pad_token_id", "bos_token_id", "cls_token_id", "eos_token_id", "sep_token_id"])
    return ModernBertConfig(vocab_size=8, **tokens, **config)


def geglu(goldens):
    def exact(x):
        value, gate = x.chunk(2, dim=-1)
        return F.gelu(value) * gate

    mlp = ModernBertMLP(module_config(hidden_size=16, intermediate_size=24))
    mlp.Wi, mlp.Wo = torch.nn.Identity(), torch.nn.Identity()
    goldens.record("geglu/chunks", {"x": goldens.normal(9, 48, scale=1.5)}, exact, lambda x: mlp(x))


def rotated(x, theta):
    """rotate_half over the whole head dimension; x [tokens, heads, head_dim], positions from 0."""
    head_dim = x.shape[-1]
    frequency = theta ** (-torch.arange(0, head_dim, 2, dtype=x.dtype) / head_dim)
    angle = torch.arange(x.shape[0], dtype=x.dtype)[:, None] * frequency
    cos, sin = (torch.cat([part, part], -1)[:, None, :] for part in (angle.cos(), angle.sin()))
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


def attend(qkv, num_heads, theta, half_width):
    """One sequence: qkv [tokens, 3 * hidden] as view(tokens, 3, heads, head_dim) to [tokens, hidden]."""
    num_tokens = qkv.shape[0]
    query, key, value = qkv.view(num_tokens, 3, num_heads, -1).unbind(1)
    if theta is not None:
        query, key = rotated(query, theta), rotated(key, theta)
    scores = torch.einsum("ihd,jhd->hij", query, key) / math.sqrt(query.shape[-1])
    if half_width is not None:
        position = torch.arange(num_tokens)
        scores = scores.masked_fill((position[:, None] - position).abs() > half_width, -math.inf)
    return torch.einsum("hij,jhd->ihd", scores.softmax(-1), value).reshape(num_tokens, -1)


def modernbert_attention(hidden, num_heads, theta, half_width):
    """transformers' own attention module and masks, with the two projections taken out."""
    kind = "full_attention" if half_width is None else "sliding_attention"
    config = module_config(
        hidden_size=hidden,
        num_hidden_layers=1,
        num_attention_heads=num_heads,
        layer_types=[kind],
        rope_parameters={kind: {"rope_type": "default", "rope_theta": theta}},
        local_attention=2 * (half_width or 0),
        attn_implementation="eager",
    )
    module = ModernBertAttention(config, layer_idx=0)
    module.Wqkv, module.Wo = torch.nn.Identity(), torch.nn.Identity()
    rotary = ModernBertRotaryEmbedding(config)
    create_mask = create_bidirectional_mask if half_width is None else create_bidirectional_sliding_window_mask

    def forward(qkv):
        states = qkv.unsqueeze(0)
        mask = create_mask(config=config, inputs_embeds=states[..., :hidden], attention_mask=None)
        positions = torch.arange(qkv.shape[0]).unsqueeze(0)
        return module(states, rotary(states, positions, kind), mask)[0].squeeze(0)

    return forward


def attention_case(goldens, name, lengths, num_heads, head_dim, theta, half_width):
    hidden = num_heads * head_dim
    inputs = {"qkv": goldens.normal(sum(lengths), 3 * hidden), "cu_seqlens": cumulative(lengths)}

    def over_sequences(one):
        return lambda qkv, cu_seqlens: torch.cat([one(qkv[start:end]) for start, end in spans(cu_seqlens)])

    exact = over_sequences(lambda qkv: attend(qkv, num_heads, theta, half_width))
    library = theta and over_sequences(modernbert_attention(hidden, num_heads, theta, half_width))
    facts = {"num_heads": num_heads, "head_dim": head_dim, "rope_theta": theta, "half_width": half_width}
    goldens.record(f"attention/{name}", inputs, exact, library, **facts)


def attention(goldens):
    small = ([1, 5, 17, 9], 2, 8)
    attention_case(goldens, "full_no_rotary", *small, theta=None, half_width=None)
    for theta in (10_000.0, 160_000.0):
        attention_case(goldens, f"full_theta{theta:.0f}", *small, theta=theta, half_width=None)
        for half_width in (1, 2, 4, 64):
            attention_case(goldens, f"window{half_width}_theta{theta:.0f}", *small, theta=theta, half_width=half_width)
    # The usual head dimension and a sequence longer than a block of 64 keys, for kernels that work in blocks.
    attention_case(goldens, "full_head64", [3, 70, 1], 1, 64, theta=160_000.0, half_width=None)
    attention_case(goldens, "window16_head64", [3, 70, 1], 1, 64, theta=10_000.0, half_width=16)


def attend_grouped(qkv, num_heads, num_kv_heads, head_dim, theta):
    """One sequence under causal attention with heads of keys and values that heads of queries share."""
    num_tokens = qkv.shape[0]
    query, key, value = qkv.view(num_tokens, -1, head_dim).split([num_heads, num_kv_heads, num_kv_heads], dim=1)
    if theta is not None:
        query, key = rotated(query, theta), rotated(key, theta)
    key, value = (part.repeat_interleave(num_heads // num_kv_heads, dim=1) for part in (key, value))
    scores = torch.einsum("ihd,jhd->hij", query, key) / math.sqrt(head_dim)
    later = torch.ones(num_tokens, num_tokens, dtype=torch.bool).triu(1)
    return torch.einsum("hij,jhd->ihd", scores.masked_fill(later, -math.inf).softmax(-1), value).reshape(num_tokens, -1)


def llama_attention(num_heads, num_kv_heads, head_dim, theta):
    """transformers' rotary positions and PyTorch's fused attention."""
    rope = {"rope_type": "default", "rope_theta": theta}
    config = LlamaConfig(hidden_size=num_heads * head_dim, num_attention_heads=num_heads, rope_parameters=rope)
    rotary = LlamaRotaryEmbedding(config)

    def forward(qkv):
        heads = qkv.view(1, qkv.shape[0], -1, head_dim).transpose(1, 2)
        query, key, value = heads.split([num_heads, num_kv_heads, num_kv_heads], dim=1)
        query, key = apply_rotary_pos_emb(query, key, *rotary(qkv, torch.arange(qkv.shape[0]).unsqueeze(0)))
        out = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        return out.transpose(1, 2).reshape(qkv.shape[0], -1)

    return forward


def causal_attention(goldens):
    # More than the 128 queries that are computed at a time.
    cases = [("plain", [1, 5, 17, 9], 2, 2), ("grouped", [1, 5, 17, 9], 4, 2), ("one_key_head_long", [3, 150, 1], 4, 1)]
    for name, lengths, num_heads, num_kv_heads in cases:
        shape = (num_heads, num_kv_heads, 8, 10_000.0)
        cols = (num_heads + 2 * num_kv_heads) * 8
        inputs = {"qkv": goldens.normal(sum(lengths), cols), "cu_seqlens": cumulative(lengths)}

        def over_sequences(one):
            return lambda qkv, cu_seqlens: torch.cat([one(qkv[start:end]) for start, end in spans(cu_seqlens)])

        facts = {"num_heads": num_heads, "num_kv_heads": num_kv_heads, "head_dim": 8, "rope_theta": 10_000.0}
        exact = over_sequences(lambda qkv: attend_grouped(qkv, *shape))
        goldens.record(f"causal_attention/{name}", inputs, exact, over_sequences(llama_attention(*shape)), **facts)


def next_token_loss(goldens):
    """The mean cross-entropy of every token given those before it in its sequence."""

    def exact(x, weight, ids, cu_seqlens, bias=None):
        logits, targets = [], []
        for start, end in spans(cu_seqlens):
            logits.append(F.linear(x[start : end - 1], weight, bias))
            targets.append(ids[start + 1 : end])
        return F.cross_entropy(torch.cat(logits), torch.cat(targets)).reshape(1)

    lengths = [1, 5, 17, 9]
    inputs = {"x": goldens.normal(32, 12), "weight": goldens.normal(30, 12), "ids": goldens.integers(30, 32)}
    inputs["cu_seqlens"] = cumulative(lengths)
    # Its gradients are computed with it: it has to be what is run backwards from.
    goldens.record("next_token_loss/plain", inputs, exact, d_out=torch.ones(1))
    goldens.record("next_token_loss/bias", {**inputs, "bias": goldens.normal(30)}, exact, d_out=torch.ones(1))


def softmax_cross_entropy(goldens):
    def exact(logits, targets):
        return F.cross_entropy(logits, targets).reshape(1)

    # `large` overflows a softmax that does not subtract the maximum.
    logits = goldens.normal(13, 97, scale=2.0)
    cases = [("mean", logits), ("large", 40.0 * logits + 200.0), ("two_classes", goldens.normal(4, 2))]
    for name, values in cases:
        inputs = {"logits": values, "targets": goldens.integers(values.shape[1], values.shape[0])}
        goldens.record(f"softmax_cross_entropy/{name}", inputs, exact)


def bce_with_logits(goldens):
    def exact(logits, targets):
        return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype)).reshape(1)

    logits = goldens.normal(8, 5, scale=2.0)
    for name, values in [("mean", logits), ("large", 50.0 * logits)]:
        goldens.record(f"bce_with_logits/{name}", {"logits": values, "targets": goldens.integers(2, 8, 5)}, exact)


def segment_mean(goldens):
    def exact(x, cu_seqlens):
        return torch.stack([x[start:end].mean(0) for start, end in spans(cu_seqlens)])

    lengths = [1, 5, 17, 9]
    inputs = {"x": goldens.normal(sum(lengths), 6), "cu_seqlens": cumulative(lengths)}
    goldens.record("segment_mean/sequences", inputs, exact)


def gather_rows(goldens):
    inputs = {"x": goldens.normal(9, 5), "rows": torch.tensor([8, 2, 2, 0, 5, 2], dtype=torch.int32)}
    goldens.record("gather_rows/repeated", inputs, lambda x, rows: x.index_select(0, rows))


def adamw_run(initial, grads, decays, settings):
    """Values after each step, clipped norms' inputs and the last moments, for parameters `initial`."""
    params = [torch.nn.Parameter(one.clone()) for one in initial]
    groups = [{"params": [one], "weight_decay": decay} for one, decay in zip(params, decays)]
    optimizer = torch.optim.AdamW(groups, lr=settings["lr"], betas=settings["betas"], eps=settings["eps"])
    norms, steps = [], []
    for step in range(settings["num_steps"]):
        for param, grad in zip(params, grads):
            param.grad = grad[step].clone()
        norms.append(torch.nn.utils.clip_grad_norm_(params, settings["max_norm"]))
        optimizer.step()
        steps.append([param.detach().clone() for param in params])
    result = {"norms": torch.stack(norms)}
    for index, param in enumerate(params):
        result[f"params_{index}"] = torch.stack([step[index] for step in steps])
        result[f"exp_avg_{index}"] = optimizer.state[param]["exp_avg"]
        result[f"exp_avg_sq_{index}"] = optimizer.state[param]["exp_avg_sq"]
    return result


def adamw(goldens):
    settings = {"lr": 1e-2, "betas": [0.9, 0.98], "eps": 1e-6, "max_norm": 1.0, "num_steps": 5}
    # Steps of different size: the clipping must act in some and leave others alone.
    scales = torch.tensor([3.0, 0.1, 1.0, 0.02, 5.0])[:, None]
    for name, sizes, decays in [("vector", [13], [0.1]), ("groups", [13, 6], [0.1, 0.0])]:
        initial = [goldens.normal(size) for size in sizes]
        grads = [goldens.normal(5, size) * scales for size in sizes]
        exact = adamw_run([one.double() for one in initial], [one.double() for one in grads], decays, settings)
        library = adamw_run(initial, grads, decays, settings)
        inputs = {f"initial_{index}": one for index, one in enumerate(initial)}
        inputs |= {f"grads_{index}": one for index, one in enumerate(grads)}
        goldens.store(f"adamw/{name}", inputs, exact, library, {**settings, "weight_decay": decays})


OPERATIONS = [
    embedding,
    linear,
    linear_onto,
    layer_norm,
    rms_norm,
    head_norm,
    gelu,
    activation,
    geglu,
    gated,
    attention,
    causal_attention,
    next_token_loss,
    softmax_cross_entropy,
    bce_with_logits,
    segment_mean,
    gather_rows,
    adamw,
]


def operations(seed):
    """(tensors, cases) of all operations. Each has its own stream: adding one leaves the others unchanged."""
    tensors, cases = {}, {}
    for operation in OPERATIONS:
        stream = int.from_bytes(operation.__name__.encode()[:7], "big") ^ seed
        goldens = Goldens(torch.Generator().manual_seed(stream))
        operation(goldens)
        tensors |= goldens.tensors
        cases |= goldens.cases
    return tensors, cases
