"""A small tokenizer in CLIP's format: byte symbols, those with `</w>`, merges, two marks."""

import json
from collections import Counter
from pathlib import Path

from transformers import CLIPTokenizer

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
WORDS = (
    "a a a glass glass garden garden at dawn dawn dream dreams dreamer dreaming of the the light lights "
    "rain rainy in grass guard harder morning night bright blurry dark drawn laser art"
)
MERGES = 48


def byte_symbols() -> list[str]:
    """The printable stand-in of every byte, in the order of CLIP's vocabulary."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + n) for n in range(len(others))]


def learn_merges() -> list[tuple[str, str]]:
    """Byte-pair merges of WORDS, the most frequent pair first, ties in alphabetical order."""
    words = Counter(tuple(w[:-1]) + (w[-1] + "</w>",) for w in WORDS.split())
    merges = []
    while len(merges) < MERGES:
        pairs = Counter()
        for word, n in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += n
        best = min(pairs, key=lambda p: (-pairs[p], p))
        merges.append(best)
        words = Counter({merge(word, best): n for word, n in words.items()})
    return merges


def merge(word, pair):
    out = []
    for symbol in word:
        if out and (out[-1], symbol) == pair:
            out[-1] += symbol
        else:
            out.append(symbol)
    return tuple(out)


def write(folder: Path, pad: str) -> CLIPTokenizer:
    """Writes the files that Stable Diffusion 1.5's `tokenizer` has and reads them back."""
    folder.mkdir(parents=True)
    merges = learn_merges()
    symbols = byte_symbols()
    tokens = symbols + [s + "</w>" for s in symbols] + ["".join(m) for m in merges] + [BOS, EOS]
    vocab = {token: i for i, token in enumerate(tokens)}
    assert len(vocab) == len(tokens)
    mark = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    marks = {"bos_token": {"content": BOS, **mark}, "eos_token": {"content": EOS, **mark}}
    config = {
        "add_prefix_space": False, "do_lower_case": True, "errors": "replace", "model_max_length": 77,
        "tokenizer_class": "CLIPTokenizer", "pad_token": pad, "unk_token": marks["eos_token"], **marks,
    }
    special = {**marks, "pad_token": pad, "unk_token": marks["eos_token"]}
    text = json.dumps(vocab, ensure_ascii=False, separators=(",", ":"))
    (folder / "vocab.json").write_text(text + "\n")
    lines = ["#version: 0.2", *(" ".join(m) for m in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
    return CLIPTokenizer.from_pretrained(folder)


def encode(tokenizer: CLIPTokenizer, prompts):
    """Token ids as the Stable Diffusion pipelines ask for them."""
    out = tokenizer(
        list(prompts), padding="max_length", max_length=tokenizer.model_max_length, truncation=True,
        return_tensors="pt",
    )
    return out.input_ids
