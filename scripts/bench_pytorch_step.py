"""Times one training step of ModernBERT in PyTorch, the peer that Arable's engine is measured against.

    python scripts/bench_pytorch_step.py --precision bf16 --threads 2 --steps 10

A step: forward, logits of the masked positions only, loss, backward, clipping of the global norm, fused AdamW. All sequences have
the same length, so that nothing is padded. Two steps of warming up are not counted. Prints one line of JSON.
"""

import argparse
import contextlib
import json
import platform
import statistics
import time

import torch
import transformers
from transformers import ModernBertConfig, ModernBertForMaskedLM

WARM_UP_STEPS = 2
IGNORED = -100


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--intermediate", type=int, default=576)
    parser.add_argument("--vocab", type=int, default=16_384)
    parser.add_argument("--tokens", type=int, default=4_096, help="tokens in a step")
    parser.add_argument("--length", type=int, default=128, help="tokens in a sequence")
    parser.add_argument("--mask", type=float, default=0.3, help="share of positions to predict")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10, help="steps that are timed")
    options = parser.parse_args()
    if options.tokens % options.length:
        parser.error(f"--tokens {options.tokens} is not a multiple of --length {options.length}")
    return options


def build(options):
    config = ModernBertConfig(
        vocab_size=options.vocab,
        hidden_size=options.hidden,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        intermediate_size=options.intermediate,
        max_position_embeddings=options.length,
        sparse_prediction=True,
        pad_token_id=0,
        bos_token_id=1,
        cls_token_id=1,
        eos_token_id=2,
        sep_token_id=2,
        attn_implementation="sdpa",
    )
    return ModernBertForMaskedLM(config).train()


def batch(options):
    """input_ids and labels [sequences, length]; exactly round(mask * tokens) positions are to be predicted."""
    shape = (options.tokens // options.length, options.length)
    input_ids = torch.randint(4, options.vocab, shape)
    labels = torch.full((options.tokens,), IGNORED)
    chosen = torch.randperm(options.tokens)[: round(options.mask * options.tokens)]
    labels[chosen] = input_ids.flatten()[chosen]
    return input_ids, labels.view(shape)


def stepper(options, model):
    """A function that makes one step and returns the loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.01, fused=True)
    forward = torch.compile(model) if options.compile else model
    bf16 = options.precision == "bf16"

    def step(input_ids, labels):
        with torch.autocast("cpu", torch.bfloat16) if bf16 else contextlib.nullcontext():
            loss = forward(input_ids=input_ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def timed(step, inputs):
    start = time.perf_counter()
    step(*inputs)
    return time.perf_counter() - start


def main():
    options = arguments()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    model = build(options)
    step, inputs = stepper(options, model), batch(options)
    losses = [step(*inputs) for _ in range(WARM_UP_STEPS)]
    seconds = [timed(step, inputs) for _ in range(options.steps)]
    facts = {
        "median_s": statistics.median(seconds),
        "min_s": min(seconds),
        "max_s": max(seconds),
        "steps": options.steps,
        "first_loss": losses[0],
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "options": vars(options),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        },
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
