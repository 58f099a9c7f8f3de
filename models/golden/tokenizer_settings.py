"""Writes tokenizer_settings.json into the folder given: what transformers makes of settings of tokenizers.

Each case is one of four small tokenizers with other values of some keys, and with the files beside it, and has the ids of some texts and what they decode to. The class is the one that uses tokenizer.json as it
is; the classes of some model families build a tokenizer of their own from its vocabulary.
"""

import json
import pathlib
import sys
import tempfile

from tokenizers import pre_tokenizers
from transformers import AutoTokenizer

CLASS = {"tokenizer_class": "PreTrainedTokenizerFast"}
SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEXTS = [
    "",
    "the river ran",
    "  the  river, the end. ",
    "a <s> b</s>c <|x|> d<|y|>e  <|y|>  f",
    "THE River \u00e9 \u5ddd 12345",
    "<pad><unk> <|end|>the<|end|>",
    "it is n't , is it ? yes !",
]


def token(content, id=None, **flags):
    special = flags.get("special", True)
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": not special, "special": special}
    return {**({} if id is None else {"id": id}), "content": content, **plain, **flags}


def template(before=(), after=(), **ids):
    piece = lambda name: {"SpecialToken": {"id": name, "type_id": 0}}
    single = [piece(name) for name in before] + [{"Sequence": {"id": "A", "type_id": 0}}]
    single += [piece(name) for name in after]
    special = {name: {"id": name, "ids": id, "tokens": [name] * len(id)} for name, id in ids.items()}
    pair = single + [{"Sequence": {"id": "B", "type_id": 1}}]
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}


def pairs(alphabet, merges, first=(), **settings):
    tokens = [*first, *alphabet, *(left + right for left, right in merges)]
    vocab = {text: id for id, text in enumerate(tokens)}
    assert len(vocab) == len(tokens)
    return {"type": "BPE", "vocab": vocab, "merges": [list(pair) for pair in merges], **settings}


def byte_level():
    merges = [("t", "h"), ("th", "e"), ("\u0120", "the"), ("e", "r"), ("1", "2"), ("i", "v"), ("r", "iv"), ("riv", "er")]
    model = pairs(sorted(pre_tokenizers.ByteLevel.alphabet()), merges)
    byte = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False}
    end = len(model["vocab"])
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [token("<s>", end), token("</s>", end + 1)],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte]},
        "post_processor": template(["<s>"], **{"<s>": [end]}),
        "decoder": byte,
        "model": model,
    }


def sentence_piece():
    first = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    merges = [("t", "h"), ("th", "e"), ("\u2581", "the"), ("e", "r"), ("\u2581", "\u2581")]
    model = pairs("\u2581thervina", merges, first, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    return {
        "version": "1.0",
        "added_tokens": [token(text, id) for id, text in enumerate(first[:3])],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
        "pre_tokenizer": None,
        "post_processor": template(["<s>"], **{"<s>": [1]}),
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"},
            {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": model,
    }


def unigram():
    pieces = ["<unk>", "</s>", "\u2581", "\u2581the", "the", "\u2581riv", "er", *"abcdefghinrstuvyTHE12.,!?'"]
    space = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
    return {
        "version": "1.0",
        "added_tokens": [token("<unk>", 0), token("</s>", 1)],
        "normalizer": {"type": "NFKC"},
        "pre_tokenizer": space,
        "post_processor": template([], ["</s>"], **{"</s>": [1]}),
        "decoder": space,
        "model": {"type": "Unigram", "unk_id": 0, "vocab": [[piece, -float(rank)] for rank, piece in enumerate(pieces)]},
    }


def word_piece():
    words = ["[UNK]", "[CLS]", "[SEP]", "the", "river", "r", "##an", "is", "it", "n", "'", "t", ",", ".", "?", "!", "a", "b"]
    return {
        "version": "1.0",
        "added_tokens": [token(text, id) for id, text in enumerate(words[:3])],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
            "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": False},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": {word: id for id, word in enumerate(words)}},
    }


BASES = {"byte_level": byte_level(), "sentence_piece": sentence_piece(), "unigram": unigram(), "word_piece": word_piece()}
END = len(BASES["byte_level"]["model"]["vocab"])
BOTH = BASES["byte_level"]["added_tokens"]
TRUNCATION = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
PADDING = {"strategy": {"Fixed": 12}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>"}
FLAGS = [{"lstrip": True}, {"rstrip": True}, {"single_word": True}, {"normalized": True}, {"special": False}]


def cases():
    """Name, base, patch of tokenizer.json, tokenizer_config.json, other files."""
    for base in BASES:
        yield f"{base} as it is", base, {}, {}, {}
        yield f"{base} with truncation and padding", base, {"truncation": TRUNCATION, "padding": PADDING}, {}, {}
        yield f"{base} with clean-up", base, {}, {"clean_up_tokenization_spaces": True}, {}
        yield f"{base} with a beginning that the settings ask for", base, {}, {"add_bos_token": True, "add_eos_token": True, "bos_token": "<|x|>", "eos_token": "</s>"}, {}
        yield f"{base} without a beginning", base, {"post_processor": None}, {"add_bos_token": True, "bos_token": "<s>"}, {}
        yield f"{base} with a space that the settings ask for", base, {}, {"add_prefix_space": True, "legacy": False}, {}
        yield f"{base} with tokens of the settings alone", base, {}, {"added_tokens_decoder": {
            "900": token("<|y|>"), "901": token("<|x|>", special=False), "7": {"content": "<|end|>"}}}, {}
    for flags in FLAGS:
        for special in [True, False]:
            tokens = [token("<|x|>", END + 2), token("<|y|>", END + 3, **{"special": special, **flags})]
            yield f"flags {flags} {special}", "byte_level", {"added_tokens": BOTH + tokens}, {}, {}
            settings = {str(id): token(text, **{"special": special, **flags}) for id, text in [(END, "<s>"), (END + 3, "<|y|>")]}
            yield f"flags {flags} {special} of the settings", "byte_level", {"added_tokens": BOTH + tokens}, {"added_tokens_decoder": settings}, {}
    yield "other ids than stated", "byte_level", {"added_tokens": BOTH + [token("<|x|>", 5), token("<|y|>", 700)]}, {}, {}
    yield "one id for two tokens", "byte_level", {"added_tokens": BOTH + [token("<|x|>", END), token("<|y|>", END)]}, {}, {}
    yield "a token twice", "byte_level", {"added_tokens": BOTH + [token("<|x|>", END + 2), token("<|x|>", END + 3, lstrip=True, rstrip=True)]}, {}, {}
    yield "an added token of the vocabulary", "byte_level", {"added_tokens": BOTH + [token("the", 5, special=False), token("\u0120", 6)]}, {}, {}
    yield "no added tokens", "byte_level", {"added_tokens": []}, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}, {}
    yield "special tokens of the settings", "byte_level", {}, {"bos_token": "<s>", "eos_token": "<|x|>", "pad_token": "<pad>",
        "mask_token": {"__type": "AddedToken", "content": "<|y|>", "lstrip": True}, "image_token": "<|end|>",
        "additional_special_tokens": ["<unk>", "river"]}, {}
    yield "special tokens by name", "byte_level", {}, {"extra_special_tokens": {"x_token": "<|x|>", "y_token": "<|y|>"}, "unk_token": "<unk>"}, {}
    yield "more special tokens", "byte_level", {}, {"extra_special_tokens": ["<|x|>", "<|y|>", "<|x|>"]}, {}
    yield "a special token that is not said to be", "byte_level", {}, {"eos_token": "<|x|>", "added_tokens_decoder": {"800": token("<|x|>", special=False), "801": token("<|y|>", special=False)}}, {}
    old = {"special_tokens_map.json": {"bos_token": {"content": "<|x|>", "lstrip": False, "rstrip": True, "single_word": False, "normalized": False},
        "eos_token": "<|y|>", "additional_special_tokens": ["<|end|>"]}, "added_tokens.json": {"<pad>": 5, "<|end|>": 300, "<unk>": END}}
    yield "files of old versions", "byte_level", {}, {"bos_token": "<unk>"}, old
    yield "files of old versions beside new settings", "byte_level", {}, {"bos_token": "<unk>", "added_tokens_decoder": {str(END): token("<s>")}}, old
    yield "a padding token that is none", "byte_level", {"padding": PADDING}, {"pad_token": None}, {}
    yield "another id in the template", "byte_level", {"post_processor": template(["<s>"], ["</s>"], **{"<s>": [5, 6], "</s>": [7]})}, {"bos_token": "<s>"}, {}
    yield "a template within a sequence", "byte_level", {"post_processor": {"type": "Sequence", "processors": [
        {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}, template([], ["</s>"], **{"</s>": [END + 1]})]}}, {}, {}
    byte = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    yield "a space before the text", "byte_level", {"pre_tokenizer": byte}, {"add_prefix_space": False}, {}
    yield "ignored merges", "byte_level", {"model": {"ignore_merges": True, "vocab": {"rive": END, "\u0120river": END + 1}, "merges": [["t", "h"]]}}, {}, {}
    yield "no dropout", "byte_level", {"model": {"dropout": 0.0}}, {}, {}
    yield "merges of old files", "byte_level", {"model": {"merges": ["#version: 0.2", "t h", "th e"]}}, {}, {}
    yield "normalized added tokens", "byte_level", {"normalizer": {"type": "Lowercase"}, "added_tokens": BOTH + [token("RIVER", END + 2, special=False), token("The", END + 3, special=False, normalized=False)]}, {}, {}
    for settings in [{"byte_fallback": False}, {"fuse_unk": False, "byte_fallback": False}, {"unk_token": None, "byte_fallback": False}]:
        yield f"sentence_piece with {settings}", "sentence_piece", {"model": settings}, {}, {}
    first = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": False}
    yield "a space at the beginning alone", "sentence_piece", {"normalizer": None, "pre_tokenizer": first}, {}, {}


def patched(value, patch):
    """The value with other values of some keys; of the model and its vocabulary, with some more."""
    merged = {key: patched(value[key], patch[key]) for key in ("model", "vocab") if key in patch}
    return {**value, **patch, **merged}


def recorded(name, base, patch, settings, others):
    files = {"tokenizer.json": patched(BASES[base], patch), "tokenizer_config.json": {**CLASS, **settings}, **others}
    with tempfile.TemporaryDirectory() as folder:
        for file, value in {**files, "config.json": {"model_type": "llama"}}.items():
            (pathlib.Path(folder) / file).write_text(json.dumps(value))
        tokenizer = AutoTokenizer.from_pretrained(folder)
    assert type(tokenizer).__name__ in ("TokenizersBackend", "PreTrainedTokenizerFast"), type(tokenizer)
    texts = []
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        texts.append({
            "text": text,
            "ids": ids,
            "ids_without_special": tokenizer(text, add_special_tokens=False)["input_ids"],
            "decoded": tokenizer.decode(ids),
            "decoded_without_special": tokenizer.decode(ids, skip_special_tokens=True),
        })
    return {"name": name, "base": base, "patch": patch, "settings": settings, "others": others, "texts": texts}


if __name__ == "__main__":
    all = [recorded(*case) for case in cases()]
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in all)
    bases = json.dumps(BASES, ensure_ascii=False)
    out = pathlib.Path(sys.argv[1]) / "tokenizer_settings.json"
    out.write_text(f'{{"bases": {bases},\n"cases": [\n{lines}\n]}}\n', encoding="utf-8")
