"""Train a small CLIP-format byte-level BPE over the prompt corpus.

Vocabulary: 256 byte symbols, the same with </w>, the merges, then
<|startoftext|> and <|endoftext|>. Any unicode text encodes, as in CLIP.
"""
import collections
import json
import sys
from pathlib import Path

import numpy as np

import prompts

N_MERGES = 900


def bytes_to_unicode():
    """CLIP's (GPT-2's) printable stand-in for each byte."""
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    chars, n = keep[:], 0
    for b in range(256):
        if b not in keep:
            keep.append(b)
            chars.append(256 + n)
            n += 1
    return dict(zip(keep, map(chr, chars)))


def corpus(seed=3, n=3000):
    """Word counts of random prompts (letters, digits and marks apart)."""
    import re
    rng = np.random.default_rng(seed)
    words = collections.Counter()
    for key in prompts.KEYS:
        for _ in range(n):
            words.update(re.findall(r"[a-z]+|[0-9]|[^\sa-z0-9]+", prompts.sample(key, rng).lower()))
    return words


def train(words, n_merges):
    """Plain BPE; returns the list of merges."""
    table = bytes_to_unicode()
    split = {w: [table[b] for b in w.encode()] for w in words}
    for w in split:
        split[w][-1] += "</w>"
    merges = []
    while len(merges) < n_merges:
        pairs = collections.Counter()
        for w, s in split.items():
            for p in zip(s, s[1:]):
                pairs[p] += words[w]
        if not pairs:
            break
        best = max(pairs, key=lambda p: (pairs[p], p))
        merges.append(best)
        for w, s in split.items():
            i = 0
            while i < len(s) - 1:
                if (s[i], s[i + 1]) == best:
                    s[i:i + 2] = [s[i] + s[i + 1]]
                i += 1
    return merges


def main(out):
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    base = list(bytes_to_unicode().values())
    merges = train(corpus(), N_MERGES)
    tokens = base + [b + "</w>" for b in base] + ["".join(m) for m in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    tokens = list(dict.fromkeys(tokens))
    (out / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}, ensure_ascii=False))
    (out / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(m) for m in merges) + "\n")
    special = dict(bos_token="<|startoftext|>", eos_token="<|endoftext|>",
                   unk_token="<|endoftext|>", pad_token="<|endoftext|>")
    config = dict(special, tokenizer_class="CLIPTokenizer", model_max_length=77, do_lower_case=True,
                  add_prefix_space=False, errors="replace")
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (out / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
    print(len(tokens), "tokens,", len(merges), "merges")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "../models/demo/tokenizer")
