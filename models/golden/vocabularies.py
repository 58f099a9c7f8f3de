"""Small tokenizers of the three kinds that ternary models use, and the texts they are tested on."""

import collections
import json

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors, trainers

TRAINING_TEXT = """
The river ran down from the hills, past the mill and the old stone bridge, and on to the sea.
In the morning the children walked along the bank, throwing bread to the ducks and counting boats.
There were three boats with red sails, two with white sails, and one that had no sail at all.
"Where does the water go?" asked the youngest. "It goes to the sea," said her brother, "and then it
comes back as rain." She thought about that for a while, and then she said that it was a good thing.
A ternary weight is minus one, zero or plus one, so a product is a sum and nothing has to be
multiplied. The scale of a matrix is one number; the scale of an activation is one number for a token.
Der Fluss fließt ins Meer, und über der Brücke scheint die Sonne. Où va l'eau? Elle va à la mer.
El río baja de las montañas y pasa por el molino. Река течёт в море, и дети идут вдоль берега.
川は海に流れます。孩子们在河边散步，数着小船。강은 바다로 흐른다. النهر يجري إلى البحر.
def total(values):
    result = 0
    for value in values:
        result += value
    return result
It's 12:30; we'll meet at 7, don't be late. 3.14159, 2.71828, 1,000,000 and 0x1F are numbers.
""".strip().splitlines()

CASES = [
    "",
    " ",
    "   ",
    "The river",
    " the  river   runs ",
    "one\ttwo\n\nthree\n \n four",
    "\r\n\r\nwindows\r\n",
    "We'll see; it's HERS, I'M sure they'd've",
    "1 12 123 1234 12345678 3.14159 1,000,000",
    "Über den Flüssen, où ça? El niño.",
    "Река течёт в море, 2024 год.",
    "川は海に流れます。孩子们在河边散步，数着小船。",
    "강은 바다로 흐른다",
    "النهر يجري إلى البحر",
    "नदी बहती है",
    "🦀 🚀🚀 👩‍🚀 👨‍👩‍👧 🇩🇪 ❤️",
    "cafe\u0301 vs caf\u00e9, \ufb01ne, \u212b",
    "def total(values):\n    return sum(v**2 for v in values)  # squares\n",
    "if (a != b) { x += a[i] * b[j]; } // ===\n\t\treturn -1;",
    "https://example.org/a_b?c=d&e=%20f",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "▁already▁marked▁ text",
    "no\u00a0break\u200bzero\u2003em\ufeffbom",
    "\x01\x02\x1b[0m\x7f",
    "\U0001d54f\U00020000",
    "<|begin_of_text|>hello<|eot_id|>",
    "a <|end_of_text|> b<|endoftext|>c",
    "<s> text </s>text<unk>",
    "<|im_start|>user\nhi<|im_end|>",
    "trailing spaces   ",
]

LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


# Characters of the SentencePiece-like vocabulary; all others fall back to bytes.
LLAMA2_ALPHABET = 48


def prepend(bos, bos_id):
    """The post-processor that puts the BOS token before a text."""
    return processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, bos_id)]
    )


def llama3(vocab_size):
    """Byte-level BPE with Llama 3's split, `ignore_merges`, and BOS before every text."""
    special = [
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
    ]
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    train_byte_level(tokenizer, vocab_size - len(special))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    first = vocab_size - len(special)
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            prepend(special[0], first),
        ]
    )
    return tokenizer, {"bos": (special[0], first), "eos": (special[1], first + 1), "end_of_turn": first + 4}


def gpt2(vocab_size):
    """Byte-level BPE with GPT-2's split; nothing is put before a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    train_byte_level(tokenizer, vocab_size - 1)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>", normalized=False)])
    return tokenizer, {"bos": ("<|endoftext|>", vocab_size - 1), "eos": ("<|endoftext|>", vocab_size - 1)}


def llama2(vocab_size):
    """BPE over characters as SentencePiece has it: a space becomes U+2581, a text begins with one,
    a character outside the vocabulary falls back to its bytes."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace()
    first = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    # The trainer's own limit of the alphabet breaks ties at random.
    counts = collections.Counter("".join(TRAINING_TEXT))
    rare = sorted(counts, key=lambda c: (-counts[c], c))[LLAMA2_ALPHABET:]
    learner.train_from_iterator(
        [line.translate({ord(c): None for c in rare}) for line in TRAINING_TEXT],
        trainers.BpeTrainer(vocab_size=vocab_size - len(first), show_progress=False),
    )
    learnt = sorted(learner.get_vocab().items(), key=lambda item: item[1])
    vocab = {token: id for id, token in enumerate(first)}
    vocab.update({token: len(first) + id for token, id in learnt})
    assert len(vocab) == vocab_size, len(vocab)
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    tokenizer = Tokenizer(
        models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in first[:3]])
    tokenizer.post_processor = prepend("<s>", 1)
    return tokenizer, {"bos": ("<s>", 1), "eos": ("</s>", 2)}


def train_byte_level(tokenizer, vocab_size):
    tokenizer.train_from_iterator(
        TRAINING_TEXT,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    assert tokenizer.get_vocab_size() == vocab_size, tokenizer.get_vocab_size()


def cases(tokenizer, texts):
    """What the tokenizer makes of each text; special tokens written in a text are recognised."""
    out = []
    for text in texts:
        with_special = tokenizer.encode(text).ids
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        out.append(
            {
                "text": text,
                "ids_with_special": with_special,
                "ids": ids,
                "decode_ids_skip_special": tokenizer.decode(ids, skip_special_tokens=True),
                "decode_ids_keep_special": tokenizer.decode(ids, skip_special_tokens=False),
            }
        )
    return out
