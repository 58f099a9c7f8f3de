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
# Llama's: no normalization, spaces kept, bytes for what is unknown. Gemma's also inserts no space. The others have
# SentencePiece's defaults: Unicode's compatibility forms, and no extra spaces.
PLAIN = dict(normalization_rule_name="identity", remove_extra_whitespaces=False, byte_fallback=True)
MODELS = {
    "llama": dict(PLAIN, model_type="bpe"),
    "gemma": dict(PLAIN, model_type="bpe", add_dummy_prefix=False, user_defined_symbols=["▁▁", "<table>"]),
    "bpe_nfkc": dict(model_type="bpe", normalization_rule_name="nfkc"),
    "unigram": dict(model_type="unigram"),
    "unigram_bytes": dict(PLAIN, model_type="unigram"),
}
MORE = ["ﬁ ½ Å ＡＢＣ\u3000x\u00a0y", "ｶﾞ", "  two  spaces ", "<table>a</table>", "<s>"]


def main():
    for name, settings in MODELS.items():
        folder = HERE / "sentencepiece" / name
        (folder / "golden").mkdir(parents=True, exist_ok=True)
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(vocabularies.TRAINING_TEXT),
            model_prefix=str(folder / "tokenizer"),
            vocab_size=480 if settings.get("byte_fallback") else 220,
            character_coverage=0.97,
            num_threads=1,
            minloglevel=2,
            **settings,
        )
        (folder / "tokenizer.vocab").unlink()
        model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        cases = []
        for text in vocabularies.CASES + MORE:
            ids = model.encode(text)
            cases.append({"text": text, "ids": ids, "decoded": model.decode(ids)})
        checkpoints.dump(folder / "golden" / "cases.json", cases)
        print(name, model.vocab_size())


if __name__ == "__main__":
    main()
