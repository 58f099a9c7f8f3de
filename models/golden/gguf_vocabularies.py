"""Writes `vocabularies/*/vocabulary.gguf`: tokenizers as GGUF files have them, without tensors, and reference ids.

The ids are llama.cpp's (`llama-cpp-python`), which reads the same files; for the byte-level kinds the `tokenizers`
library must agree. Decoded text is that of the `tokenizers` library.
"""

import json
from pathlib import Path

import gguf
from llama_cpp import Llama
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

import vocabularies
from vocabularies import CASES, LLAMA3_SPLIT

HERE = Path(__file__).resolve().parent
GPT2_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# Name: expressions, ignore_merges, NFC, BOS and end-of-text tokens, whether a text begins with BOS.
BYTE_LEVEL = {
    "llama-bpe": ([LLAMA3_SPLIT], True, False, "<|begin_of_text|>", "<|eot_id|>", True),
    "qwen2": ([LLAMA3_SPLIT.replace("{1,3}", "")], False, True, "<|endoftext|>", "<|im_end|>", False),
    "gpt-2": ([GPT2_SPLIT], False, False, "<|endoftext|>", "<|endoftext|>", False),
    "smollm": ([r"\p{N}", GPT2_SPLIT], False, False, "<|im_start|>", "<|im_end|>", False),
    "default": ([r"[\p{P}\$\+<=>\^~\|]+", GPT2_SPLIT, r"\p{N}+", "[0-9][0-9][0-9]"], False, False, "<s>", "</s>", False),
}
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
MORE_CASES = [
    "a\n\nb  c   d\n",
    "<table><tr>x</tr></table>",
    "<start_of_turn>user\nhi<end_of_turn>\n",
    "  leading and      inner",
    "tototototototo rererere nananana",
    "sum\u0308 ,,,,,, 5,678.90 $3+4=7^2 ~|",
]


def byte_level(name):
    splits, ignore_merges, compose, bos, end, add_bos = BYTE_LEVEL[name]
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if compose:
        tokenizer.normalizer = normalizers.NFC()
    steps = [pre_tokenizers.Split(Regex(split), "isolated") for split in splits]
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    vocabularies.train_byte_level(tokenizer, 500)
    tokenizer.decoder = decoders.ByteLevel()
    special = list(dict.fromkeys([bos, end]))
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    tokenizer.add_tokens([AddedToken("<table>", normalized=False)])
    ids = tokenizer.get_vocab()
    types = [NORMAL] * 500 + [CONTROL] * len(special) + [USER_DEFINED]
    writer = begin(name, "gpt2", sorted(ids, key=ids.get), types)
    writer.add_tokenizer_pre(name)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(ids[bos])
    writer.add_eos_token_id(ids[end])
    if not add_bos:
        writer.add_add_bos_token(False)
    return writer, tokenizer, compose


def sentence_piece(name, prefix):
    base, _ = vocabularies.llama2(640)
    ids = base.get_vocab()
    tokens = sorted(ids, key=ids.get)
    types = [UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256 + [NORMAL] * (640 - 259)
    # Neighbouring ranks share a score, so that the leftmost pair has to win.
    scores = [0.0] * 259 + [-float(rank // 3) for rank in range(640 - 259)]
    special = [] if prefix else ["<start_of_turn>", "<end_of_turn>"]
    pieces = ["[unused]"] if prefix else ["\n\n", "  ", "   ", "      ", "<table>", "</table>"]
    for token in special + pieces:
        tokens.append(token)
        types.append(CONTROL if token in special else UNUSED if prefix else USER_DEFINED)
        scores.append(-1000.0)
    writer = begin(name, "llama", tokens, types)
    writer.add_token_scores(scores)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    if not prefix:
        writer.add_add_space_prefix(False)
        base.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    base.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    base.add_tokens([AddedToken(token, normalized=False) for token in pieces])
    return writer, base, True


def begin(name, model, tokens, types):
    folder = HERE / "vocabularies" / name
    folder.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(folder / "vocabulary.gguf", "llama")
    writer.add_tokenizer_model(model)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    return writer


def write(name, writer, tokenizer, differs):
    """`differs`: llama.cpp and the library are not the same here, by composition or by scores."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    folder = HERE / "vocabularies" / name
    llama = Llama(str(folder / "vocabulary.gguf"), vocab_only=True, verbose=False)
    composes = tokenizer.normalizer is not None and tokenizer.normalizer.normalize_str("e\u0301") == "é"
    cases = []
    for text in CASES + MORE_CASES:
        if name == "gemma" and "▁" in text:
            continue  # SentencePiece takes U+2581 for a blank everywhere, llama.cpp does not in user-defined tokens
        # llama.cpp has no composition: it gets the text composed.
        raw = (tokenizer.normalizer.normalize_str(text) if composes else text).encode()
        ids = llama.tokenize(raw, add_bos=False, special=True)
        assert differs and not composes or ids == tokenizer.encode(text, add_special_tokens=False).ids, (name, text)
        cases.append(
            {
                "text": text,
                "ids_with_special": llama.tokenize(raw, add_bos=True, special=True),
                "ids": ids,
                "ids_as_text": llama.tokenize(raw, add_bos=False, special=False),
                "decode_ids_skip_special": tokenizer.decode(ids, skip_special_tokens=True),
                "decode_ids_keep_special": tokenizer.decode(ids, skip_special_tokens=False),
            }
        )
    (folder / "golden").mkdir(exist_ok=True)
    text = "[\n" + ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases) + "\n]\n"
    (folder / "golden" / "tokenizer_cases.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    for name in BYTE_LEVEL:
        write(name, *byte_level(name))
    write("llama", *sentence_piece("llama", prefix=True))
    write("gemma", *sentence_piece("gemma", prefix=False))
