//! The language of a text.

/// The ISO 639-1 code of the most likely language of a text, or `None` if there is no evidence. The
/// reference uses langdetect; this uses the `whatlang` crate.
pub(crate) fn detect(text: &str) -> Option<&'static str> {
    use whatlang::Lang;
    Some(match whatlang::detect_lang(text)? {
        Lang::Eng => "en",
        Lang::Deu => "de",
        Lang::Fra => "fr",
        Lang::Spa => "es",
        Lang::Ita => "it",
        Lang::Por => "pt",
        Lang::Nld => "nl",
        Lang::Fin => "fi",
        Lang::Swe => "sv",
        Lang::Rus => "ru",
        Lang::Bul => "bg",
        Lang::Ukr => "uk",
        Lang::Pol => "pl",
        Lang::Ell => "el",
        Lang::Tur => "tr",
        Lang::Vie => "vi",
        Lang::Tha => "th",
        Lang::Kor => "ko",
        Lang::Jpn => "ja",
        Lang::Cmn => "zh-cn",
        Lang::Ara => "ar",
        Lang::Pes => "fa",
        Lang::Urd => "ur",
        Lang::Heb => "he",
        Lang::Hin => "hi",
        Lang::Mar => "mr",
        Lang::Nep => "ne",
        Lang::Ben => "bn",
        Lang::Pan => "pa",
        Lang::Guj => "gu",
        Lang::Tam => "ta",
        Lang::Tel => "te",
        Lang::Kan => "kn",
        Lang::Mal => "ml",
        other => other.code(),
    })
}
