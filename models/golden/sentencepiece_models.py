"""Writes `sentencepiece/*`: checkpoints whose only tokenizer is a tokenizer.model, and reference ids.

The ids and texts are those of the `sentencepiece` library (0.2.3). It is not among the pinned packages, so that this
is run by hand.
"""

import json
import pathlib

import sentencepiece

import checkpoints
import vocabularies

HERE = pathlib.Path(__file__).resolve().parent
# Llama's: no normalization, spaces kept, bytes for what is unknown. Gemma's also inserts no space. The others drop extra
# spaces and normalize, by a few rules or by SentencePiece's default, Unicode's compatibility forms.
PLAIN = dict(normalization_rule_name="identity", remove_extra_whitespaces=False, byte_fallback=True)
MODELS = {
    "llama": dict(PLAIN, model_type="bpe"),
    "gemma": dict(PLAIN, model_type="bpe", add_dummy_prefix=False, user_defined_symbols=["▁▁", "<table>"]),
    "bpe_rules": dict(model_type="bpe"),
    "unigram": dict(model_type="unigram"),
    "unigram_bytes": dict(PLAIN, model_type="unigram"),
}
# Characters before and after, in hexadecimal. At every place the longest rule applies.
RULES = ["FB01\t66 69", "41\t61", "41 30A\tE5", "41 30A 301\t61 61", "9\t20", "D A\t20", "200B\t"]
MORE = ["A\u030a\u0301 A\u030aB A\u030a\u0302", "ﬁ ½ Å ＡＢＣ\u3000x\u00a0y", "ｶﾞ", "  two  spaces ", "<table>a</table>", "<s>"]


def main():
    for name, settings in MODELS.items():
        folder = HERE / "sentencepiece" / name
        (folder / "golden").mkdir(parents=True, exist_ok=True)
        if name.endswith("rules"):
            rules = folder / "rules.tsv"
            rules.write_text("\n".join(RULES) + "\n")
            settings = dict(settings, normalization_rule_tsv=str(rules))
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(vocabularies.TRAINING_TEXT),
            model_prefix=str(folder / "tokenizer"),
            vocab_size=440 if settings.get("byte_fallback") else 200,
            character_coverage=0.98,
            num_threads=1,
            minloglevel=2,
            **settings,
        )
        (folder / "tokenizer.vocab").unlink()
        (folder / "rules.tsv").unlink(missing_ok=True)
        model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        cases = []
        for text in vocabularies.CASES + MORE:
            ids = model.encode(text)
            known = model.unk_id() not in ids
            cases.append({"text": text, "ids": ids, "decoded": model.decode(ids) if known else None})
        checkpoints.dump(folder / "golden" / "cases.json", cases)
        print(name, model.vocab_size())


if __name__ == "__main__":
    main()
