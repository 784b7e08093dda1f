#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;

fn two_words() -> Vocabulary {
    let word = |word: &str, threshold, trained_on| Word {
        word: word.into(),
        synonyms: vec![format!("{word}s")],
        threshold,
        trained_on,
        hidden: false,
        examples: 0,
    };
    Vocabulary {
        teacher: "test".into(),
        student: None,
        words: vec![word("cat", None, true), word("cup of \"tea\" ☕", Some(0.4), false)],
        prompts: vec!["a photo of a {}.".into()],
        embeddings: vec![1.0, 0.0, 0.0, 0.0, 0.6, 0.8],
        embedding_size: 3,
    }
}

/// [`two_words`] and two competitors.
fn with_competitors() -> Vocabulary {
    let mut vocabulary = two_words();
    vocabulary.words.extend([Word::competitor("wall"), Word::competitor("sky")]);
    vocabulary.embeddings.extend([0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
    vocabulary
}

fn load_bytes(bytes: &[u8]) -> Result<Vocabulary, VocabularyError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("words.safetensors");
    std::fs::write(&path, bytes).unwrap();
    Vocabulary::load(&path)
}

/// The file of [`two_words`] with a part of its header replaced by another of the same length.
fn two_words_with(from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "the length of the header stands before it");
    let mut bytes = two_words().bytes().unwrap();
    let place = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    bytes[place..place + to.len()].copy_from_slice(to.as_bytes());
    bytes
}

fn problem_of(vocabulary: &Vocabulary) -> String {
    load_bytes(&vocabulary.bytes().unwrap()).unwrap_err().to_string()
}

#[test]
fn a_vocabulary_survives_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("words.safetensors");
    two_words().save(&path).unwrap();
    assert_eq!(Vocabulary::load(&path).unwrap(), two_words());
    let files = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(files, 1, "no half-written file is left behind");
}

#[test]
fn hidden_words_survive_a_file_and_are_not_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("words.safetensors");
    with_competitors().save(&path).unwrap();
    let loaded = Vocabulary::load(&path).unwrap();
    assert_eq!(loaded, with_competitors());
    assert_eq!((loaded.shown(), loaded.hidden()), (&two_words().words[..], &loaded.words[2..]));
    assert_eq!(Vocabulary::count(&path).unwrap(), 2);
}

#[test]
fn a_file_without_hidden_words_has_the_bytes_that_it_always_had() {
    let text = String::from_utf8_lossy(&two_words().bytes().unwrap()).into_owned();
    assert!(!text.contains("hidden"), "{text}");
    let text = serde_json::to_string(&Word::new("cat")).unwrap();
    assert_eq!(text, r#"{"word":"cat","synonyms":[],"threshold":null,"trained_on":false}"#);
    let text = serde_json::to_string(&Word::competitor("wall")).unwrap();
    assert!(text.contains(r#""hidden":true"#), "what a program that knows no hidden words refuses");
}

#[test]
fn hidden_words_that_make_no_sense_are_refused_by_name() {
    let mut vocabulary = with_competitors();
    vocabulary.words[2].word = "cat".into();
    assert!(problem_of(&vocabulary).contains("`cat` stands in it twice"));
    let mut vocabulary = with_competitors();
    vocabulary.words[3].threshold = Some(0.3);
    assert!(problem_of(&vocabulary).contains("the hidden word `sky` has a threshold"));
    let mut vocabulary = with_competitors();
    vocabulary.words.swap(1, 2);
    let problem = problem_of(&vocabulary);
    assert!(problem.contains("stands behind the hidden word `wall`"), "{problem}");
    let mut vocabulary = two_words();
    vocabulary.words.iter_mut().for_each(|word| word.hidden = true);
    assert!(problem_of(&vocabulary).contains("all of its words are hidden"));
}

#[test]
fn words_are_counted_by_the_header_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("words.safetensors");
    let count = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        Vocabulary::count(&path)
    };
    let whole = two_words().bytes().unwrap();
    assert_eq!(count(&whole).unwrap(), 2);
    assert_eq!(count(&whole[..whole.len() - 4]).unwrap(), 2, "the embeddings aren't looked at");
    for bytes in [&b""[..], b"words", &whole[..40], &[0xff; 64]] {
        assert!(count(bytes).unwrap_err().to_string().contains("is not a usable vocabulary"));
    }
    let other = two_words_with("wordsight-vocabulary-1", "wordsight-vocabulary-3");
    assert!(count(&other).unwrap_err().to_string().contains("format"));
}

#[test]
fn the_same_words_make_the_same_bytes_and_the_data_is_aligned() {
    let bytes = two_words().bytes().unwrap();
    assert_eq!(bytes, two_words().bytes().unwrap());
    assert!(String::from_utf8_lossy(&bytes).contains(r#"\"threshold\":0.4,"#), "a number as it was written");
    assert_eq!((bytes.len() - two_words().embeddings.len() * 4) % 8, 0);
}

#[test]
fn a_missing_file_is_named() {
    let error = Vocabulary::load(Path::new("/nowhere/words.safetensors")).unwrap_err();
    assert!(matches!(error, VocabularyError::Unreadable { .. }));
    assert!(error.to_string().contains("/nowhere/words.safetensors"), "{error}");
}

#[test]
fn bytes_that_are_no_safetensors_file_are_refused() {
    let whole = two_words().bytes().unwrap();
    for bytes in [&b""[..], b"words", &whole[..whole.len() - 1], &whole[..40], &[0xff; 64]] {
        let error = load_bytes(bytes).unwrap_err().to_string();
        assert!(
            error.contains("safetensors file") && error.contains("wordsight-distill vocabulary"),
            "{error}"
        );
    }
}

#[test]
fn a_tensor_of_another_type_or_shape_is_refused() {
    for (from, to) in
        [("\"F32\"", "\"I32\""), ("[2,3]", "[6,1]"), ("[2,3]", "[3,2]"), ("\"embeddings\"", "\"embeddingz\"")]
    {
        let error = load_bytes(&two_words_with(from, to)).unwrap_err().to_string();
        assert!(error.contains("embeddings"), "{from} to {to}: {error}");
    }
}

#[test]
fn metadata_that_are_missing_or_wrong_are_named() {
    for (from, to) in [
        ("wordsight-vocabulary-1", "wordsight-vocabulary-3"),
        ("\"format\"", "\"farmat\""),
        ("\"prompts\"", "\"pramots\""),
        ("\"teacher\"", "\"taecher\""),
        ("\"words\"", "\"wards\""),
    ] {
        let error = load_bytes(&two_words_with(from, to)).unwrap_err().to_string();
        assert!(error.contains("is not a usable vocabulary"), "{from} to {to}: {error}");
    }
}

#[test]
fn an_unknown_key_of_a_word_is_refused() {
    let error = json_entry::<Vec<Word>>("words", r#"[{"word": "cat", "treshold": 0.3}]"#).unwrap_err();
    assert!(error.to_string().contains("treshold"), "{error}");
}

#[test]
fn words_that_make_no_sense_are_refused_by_name() {
    type Spoil<'a> = &'a dyn Fn(&mut Vocabulary);
    let spoiled = |spoil: Spoil<'_>| {
        let mut vocabulary = two_words();
        spoil(&mut vocabulary);
        problem_of(&vocabulary)
    };
    let cases: [(Spoil<'_>, &str); 6] = [
        (&|v| v.words[1].word = "cat".into(), "`cat` stands in it twice"),
        (&|v| v.words[0].word = " ".into(), "is empty"),
        (&|v| v.words[0].threshold = Some(1.5), "threshold of `cat` is 1.5"),
        (&|v| v.embeddings[0] = 1.1, "embedding of `cat` has the length 1.1"),
        (&|v| v.embeddings[0] = f32::NAN, "embedding of `cat` is not finite"),
        (&|v| (v.words.clear(), v.embeddings.clear()).0, "no words"),
    ];
    for (spoil, expected) in cases {
        let error = spoiled(spoil);
        assert!(error.contains(expected), "expected {expected}: {error}");
    }
}

#[test]
fn a_vocabulary_that_would_not_load_is_not_saved() {
    let folder = tempfile::tempdir().unwrap();
    let mut vocabulary = two_words();
    vocabulary.embeddings[0] = 3.0;
    assert!(vocabulary.save(&folder.path().join("words.safetensors")).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn another_teacher_and_another_size_are_told_apart() {
    let vocabulary = two_words();
    assert!(vocabulary.check_against("test", 3).is_ok());
    let other_teacher = vocabulary.check_against("clip", 3).unwrap_err().to_string();
    assert!(other_teacher.contains("`test`") && other_teacher.contains("`clip`"), "{other_teacher}");
    let other_size = vocabulary.check_against("test", 512).unwrap_err().to_string();
    assert!(other_size.contains('3') && other_size.contains("512"), "{other_size}");
}
