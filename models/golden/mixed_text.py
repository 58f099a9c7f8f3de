"""Prints 2,000 lines of mixed text to compare tokenizers on: languages, emoji, blanks, digits, code, special tokens.

    python mixed_text.py [SEED] > lines.txt
"""

import random
import sys

WORDS = """
the river runs down from hills and past an old stone bridge to sea it's we'll DON'T I'd they've HE'S o'clock
Über Straße weiß größer où ça élève garçon niño mañana corazón città perché naïve cœur İstanbul ığdır œuvre
река течёт в море дети идут ПРИВЕТ щука ѣ її ґанок θάλασσα ποταμός Ελλάδα ὅτι
川 海に流れます 孩子们在河边散步 数着小船 東京都 カタカナ ｶﾀｶﾅ ひらがな 繁體中文 강은 바다로 흐른다 한글 ㅋㅋㅋ
النهر يجري إلى البحر السَّلامُ עִבְרִית שלום नदी बहती है हिन्दी தமிழ் ไทยภาษา ภาษาไทย বাংলা မြန်မာ አማርኛ ქართული հայերեն
ᚠᚢᚦ 𝕏𝕐 𠀀𠀁 𐍈 ﬁne ﬀ ² ½ Ⅷ ４２ ٣٤٥ १२३ ①② ㊗ ℃ Å Å é ê̄ n͂
""".split()
EMOJI = "🦀 🚀🚀 👩‍🚀 👨‍👩‍👧 🇩🇪🇫🇷 ❤️ ☃ 👍🏽 🏳️‍🌈 ✨💯 🫠 ©️ ™ 🀄".split()
BLANKS = [" ", "  ", "   ", "    ", " " * 7, " " * 16, " " * 40, "\t", "\t\t", " \t ", "\u00a0", "\u2003", "\u3000", "\u200b", "\ufeff", "\u0085", "\x0b", "\x0c", "\u2028", "\u202f"]
MARKS = list(".,;:!?'\"()[]{}<>/\\|@#$%^&*-_=+~`") + ["...", "—", "–", "…", "„", "“", "”", "«", "»", "¿", "¡", "、", "。", "「", "」", "؟", "।", "--", "==", "!=", "->", "=>", "::", "//", "/*", "*/", "'s", "'S", "'ll", "’s", "▁", "▁▁x", "€", "£", "₹", "±", "×", "÷", "∑", "→", "█", "\x01", "\x1b[0m", "\x7f"]
CODE = [
    "def total(values):\treturn sum(v**2 for v in values)  # squares",
    "if (a != b) { x += a[i] * b[j]; } // ===",
    "    for (int i = 0; i < n; ++i) printf(\"%d\\n\", i);",
    "fn main() -> Result<(), Box<dyn Error>> { println!(\"{x:?}\"); Ok(()) }",
    "https://example.org/a_b?c=d&e=%20f#anchor",
    "SELECT * FROM t WHERE id IN (1,2,3) AND name LIKE '%x%';",
    "<table><tr><td>cell</td></tr></table><br/><code>x</code>",
    "snake_case camelCase PascalCase SCREAMING_CASE kebab-case x2y3",
    "\\frac{1}{2}\\sum_{i=0}^{n} x_i^2 \\leq \\alpha",
    "{\"key\": [1, 2.5e-3, null, true], \"a\\u00e9\": \"b\"}",
    "user@example.com +49 (0)30 1234-5678 192.168.0.1 2001:db8::1",
]
SPECIAL = """
<s> </s> <unk> <pad> <bos> <eos> <mask> <|begin_of_text|> <|end_of_text|> <|eot_id|> <|start_header_id|>user<|end_header_id|>
<|im_start|>user <|im_end|> <|endoftext|> <start_of_turn>model <end_of_turn> <unused1> [multimodal] <0x0A> <0xE2> [INST] <<SYS>>
<repo_name> <fim_prefix> <|fim_prefix|> <jupyter_start> [PAD7]
""".split()


def number(rng):
    return rng.choice(
        [
            str(rng.randrange(10 ** rng.randrange(1, 14))),
            f"{rng.uniform(-1000, 1000):.{rng.randrange(6)}f}",
            f"{rng.randrange(10**9):,}",
            hex(rng.randrange(2**40)),
            f"{rng.randrange(24):02}:{rng.randrange(60):02}",
            "0" * rng.randrange(1, 9),
            "".join(rng.choice("٠١٢٣٤٥٦٧٨٩०१२３４") for _ in range(rng.randrange(1, 6))),
        ]
    )


def character(rng):
    """Any character that a line can hold."""
    while True:
        c = chr(rng.choice([rng.randrange(0x20, 0x250), rng.randrange(0x3000), rng.randrange(0x10000), rng.randrange(0x40000)]))
        if not (0xD800 <= ord(c) < 0xE000 or c in "\0\n\r"):
            return c


def line(rng):
    parts = []
    for _ in range(rng.choice([1, 2, 4, 8, 12, 20])):
        kind = rng.random()
        if kind < 0.50:
            parts.append(rng.choice(WORDS))
        elif kind < 0.60:
            parts.append(number(rng))
        elif kind < 0.72:
            parts.append(rng.choice(MARKS) * rng.choice([1, 1, 1, 2, 3, 5]))
        elif kind < 0.78:
            parts.append(rng.choice(EMOJI))
        elif kind < 0.83:
            parts.append(rng.choice(CODE))
        elif kind < 0.89:
            parts.append(rng.choice(SPECIAL))
        elif kind < 0.94:
            parts.append(rng.choice("aAxZ0 .=-#é日🦀") * rng.randrange(1, 60))
        else:
            parts.append("".join(character(rng) for _ in range(rng.randrange(1, 6))))
        if rng.random() < 0.8:
            parts.append(rng.choice(BLANKS) if rng.random() < 0.3 else " ")
    if rng.random() < 0.7 and parts[-1] == " ":
        parts.pop()
    return "".join(parts)


def lines(seed):
    rng = random.Random(seed)
    return [line(rng) for _ in range(2000)]


if __name__ == "__main__":
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    for text in lines(seed):
        print(text)
