"""Times ModernBERT in PyTorch and `transformers`, the peers that Arable's engine is measured against.

    python scripts/bench_pytorch.py step --precision bf16
    python scripts/bench_pytorch.py pretrain --shards FOLDER

`step`: forward, loss over the masked positions only, backward, clipping of the global norm, fused AdamW.
`kernels`: the matrix products of a layer and of the decoder, forward and backward.
`finetune`: a step with a sequence classifier. `inference`: the encoder alone.
Their sequences have one length, so that nothing is padded, and two rounds of warming up are not counted.
`pretrain`: the `transformers` Trainer with DataCollatorForLanguageModeling and dynamic padding, on the documents of shards
that Arable wrote; the first five steps are not counted. Prints one line of JSON.
"""

import argparse
import contextlib
import json
import platform
import resource
import statistics
import tempfile
import time
from pathlib import Path

import torch
import transformers
from transformers import ModernBertConfig, ModernBertForMaskedLM, ModernBertForSequenceClassification

WARM_UP_ROUNDS = 2
WARM_UP_STEPS = 5
IGNORED = -100


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", choices=["kernels", "step", "finetune", "inference", "pretrain"])
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--intermediate", type=int, default=576)
    parser.add_argument("--vocab", type=int, default=16_384)
    parser.add_argument("--tokens", type=int, default=4_096, help="tokens in a batch")
    parser.add_argument("--length", type=int, default=128, help="tokens in a sequence")
    parser.add_argument("--mask", type=float, default=0.15, help="share of positions to predict")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10, help="rounds (of pretrain: steps) that are timed")
    parser.add_argument("--shards", type=Path, help="folder with tokens.bin and offsets.bin")
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
        classifier_pooling="mean",
        num_labels=3,
        pad_token_id=0,
        bos_token_id=2,
        cls_token_id=2,
        eos_token_id=3,
        sep_token_id=3,
        attn_implementation="sdpa",
    )
    kind = ModernBertForSequenceClassification if options.work == "finetune" else ModernBertForMaskedLM
    return kind(config).train()


def batch(options):
    """input_ids and labels [sequences, length] (of finetune: [sequences])."""
    shape = (options.tokens // options.length, options.length)
    input_ids = torch.randint(5, options.vocab, shape)
    if options.work == "finetune":
        return input_ids, torch.randint(0, 3, shape[:1])
    labels = torch.full((options.tokens,), IGNORED)
    chosen = torch.randperm(options.tokens)[: round(options.mask * options.tokens)]
    labels[chosen] = input_ids.flatten()[chosen]
    return input_ids, labels.view(shape)


def autocast(options):
    return torch.autocast("cpu", torch.bfloat16) if options.precision == "bf16" else contextlib.nullcontext()


def trainer_step(options, model):
    """A function that makes one step and returns the loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.01, fused=True)
    forward = torch.compile(model) if options.compile else model

    def step(input_ids, labels):
        with autocast(options):
            loss = forward(input_ids=input_ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def encoder(options, model):
    """A function that encodes a batch."""
    forward = torch.compile(model.model) if options.compile else model.model
    model.eval()

    def encode(input_ids, _):
        with torch.inference_mode(), autocast(options):
            return forward(input_ids=input_ids).last_hidden_state[0, 0, 0].item()

    return encode


def timed(work, inputs):
    start = time.perf_counter()
    work(*inputs)
    return time.perf_counter() - start


def rounds(options):
    """Seconds of each round."""
    model = build(options)
    work = encoder(options, model) if options.work == "inference" else trainer_step(options, model)
    inputs = batch(options)
    for _ in range(WARM_UP_ROUNDS):
        work(*inputs)
    seconds = [timed(work, inputs) for _ in range(options.rounds)]
    return {"seconds": statistics.median(seconds), "tokens": options.tokens}


def kernels(options):
    """Milliseconds of each product, as `arable bench kernels` names them."""
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
    tokens, hidden, inner = options.tokens, options.hidden, options.intermediate
    masked = round(options.mask * tokens)
    found = {}
    for name, m, n, k in [
        ("qkv", tokens, 3 * hidden, hidden),
        ("attention out", tokens, hidden, hidden),
        ("mlp in", tokens, 2 * inner, hidden),
        ("mlp out", tokens, hidden, inner),
        ("decoder", masked, options.vocab, hidden),
    ]:
        x, w, dy = (torch.randn(shape, dtype=dtype) for shape in [(m, k), (n, k), (m, n)])
        products = {
            f"{name} {m} x {n} x {k}": lambda x=x, w=w: torch.nn.functional.linear(x, w),
            f"{name}, by the input": lambda dy=dy, w=w: dy @ w,
            f"{name}, by the weight": lambda dy=dy, x=x: dy.T @ x,
        }
        for case, product in products.items():
            product()
            found[case] = 1e3 * statistics.median(timed(product, ()) for _ in range(options.rounds))
    return {"seconds": 0.0, "tokens": tokens, "milliseconds": found}


class Pieces(torch.utils.data.Dataset):
    """Documents in pieces of at most `length` tokens, [CLS] and [SEP] included."""

    def __init__(self, folder, length):
        import numpy

        self.pieces = []
        for source in sorted(folder.iterdir()):
            tokens = numpy.fromfile(source / "tokens.bin", dtype="<u4") & 0x7FFFFFFF
            offsets = numpy.fromfile(source / "offsets.bin", dtype="<u8")
            for start, end in zip(offsets[:-1], offsets[1:]):
                document = tokens[int(start) : int(end)].tolist()
                width = length - 2
                self.pieces += [[2, *document[at : at + width], 3] for at in range(0, len(document), width)]

    def __len__(self):
        return len(self.pieces)

    def __getitem__(self, index):
        return {"input_ids": self.pieces[index]}


class Clock(transformers.TrainerCallback):
    """When counting began, and how many real tokens there were since."""

    def __init__(self):
        self.start = None
        self.tokens = 0

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == WARM_UP_STEPS:
            self.start, self.tokens = time.perf_counter(), 0

    def on_train_end(self, args, state, control, **kwargs):
        self.seconds = time.perf_counter() - self.start


def tokenizer(options):
    """The special tokens, which is all that the collator asks for."""
    from tokenizers import Tokenizer, models

    names = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
    words = {**names, **{f"w{i}": i for i in range(5, options.vocab)}}
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    words = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, **special)


def pretrain(options):
    clock = Clock()
    collate = transformers.DataCollatorForLanguageModeling(tokenizer(options), mlm_probability=options.mask)

    def counting(examples):
        inputs = collate(examples)
        clock.tokens += int(inputs["attention_mask"].sum())
        return inputs

    with tempfile.TemporaryDirectory() as folder:
        settings = transformers.TrainingArguments(
            folder,
            per_device_train_batch_size=options.tokens // options.length,
            max_steps=WARM_UP_STEPS + options.rounds,
            use_cpu=True,
            bf16=options.precision == "bf16",
            torch_compile=options.compile,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_strategy="no",
        )
        dataset = Pieces(options.shards, options.length)
        trainer = transformers.Trainer(
            build(options), settings, data_collator=counting, train_dataset=dataset, callbacks=[clock]
        )
        trainer.train()
    return {"seconds": clock.seconds, "tokens": clock.tokens}


def main():
    options = arguments()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    found = {"pretrain": pretrain, "kernels": kernels}.get(options.work, rounds)(options)
    facts = {
        **found,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "options": {name: str(value) for name, value in vars(options).items()},
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
