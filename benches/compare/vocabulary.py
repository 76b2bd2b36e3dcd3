"""A made-up CLIP vocabulary: as many tokens as asked for, in the files that CLIP's tokenizer has.

Bytes first, then bytes that end a word, then merges: all pairs of letters, pairs that end a word, and
so on with longer words, until the size is reached; the two marks come last, as in CLIP. Prompts are padded to
77 tokens, so that what they are cut into changes no work; every text can be tokenized.
"""

import itertools
import json
import string

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
END = "</w>"


def byte_symbols():
    """GPT-2's printable stand-in for each of the 256 bytes, those that are printable themselves first."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]


def _merges():
    """Pairs (left, right) without end; the left part and the right one exist when they come."""
    letters = string.ascii_lowercase
    for length in itertools.count(2):
        for end in ("", END):
            for word in itertools.product(letters, repeat=length):
                text = "".join(word)
                yield text[:-1], text[-1] + end


def make(size):
    """(vocab, merges) of `size` tokens, at least 514."""
    symbols = byte_symbols()
    fewest = 2 * len(symbols) + 2
    if size < fewest:
        raise ValueError(f"a vocabulary of {size} tokens, expected at least {fewest}: every byte has two")
    merges = list(itertools.islice(_merges(), size - fewest))
    words = [*symbols, *[s + END for s in symbols], *[left + right for left, right in merges], BOS, EOS]
    return {word: ix for ix, word in enumerate(words)}, merges


def files(size, pad):
    """The tokenizer's files: name to text."""
    vocab, merges = make(size)
    marks = {"bos_token": BOS, "eos_token": EOS, "unk_token": EOS, "pad_token": pad}
    config = {
        **marks,
        "add_prefix_space": False,
        "do_lower_case": True,
        "errors": "replace",
        "model_max_length": 77,
        "tokenizer_class": "CLIPTokenizer",
    }
    return {
        "vocab.json": json.dumps(vocab, ensure_ascii=False),
        "merges.txt": "#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in merges),
        "tokenizer_config.json": json.dumps(config, indent=2) + "\n",
        "special_tokens_map.json": json.dumps(marks, indent=2) + "\n",
    }
