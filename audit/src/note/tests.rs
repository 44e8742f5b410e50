use proptest::prelude::*;

use super::*;

const VKEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
const LINE: &str = "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
const TEXT: &str = "This is an example message.\n";

fn vkey() -> VerifierKey {
    VerifierKey::parse(VKEY).unwrap()
}

fn key(name: &str) -> SigningKey {
    SigningKey::generate(name).unwrap()
}

/// THREATS 6.1.
#[test]
fn the_published_note_opens() {
    assert_eq!(open(&format!("{TEXT}\n{LINE}"), &vkey()), Ok(TEXT));
    assert_eq!(vkey().to_string(), VKEY);
    assert_eq!(
        (vkey().name(), vkey().id()),
        ("example.com/foo", [0x53, 0x0d, 0x90, 0x3a])
    );
}

#[test]
fn a_changed_text_or_signature_is_refused() {
    let note = format!("{TEXT}\n{LINE}");
    assert_eq!(
        open(&note.replace("example message", "Example message"), &vkey()),
        Err(NoteError::Signature("example.com/foo".to_owned()))
    );
    // Each character of the signature counts, including the unused bits of base64.
    let start = note.find("Uw2Q").unwrap();
    for at in start..note.len() - 1 {
        let mut bytes = note.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        assert!(
            open(std::str::from_utf8(&bytes).unwrap(), &vkey()).is_err(),
            "byte {at}"
        );
    }
}

/// T54.
#[test]
fn a_wrong_key_never_opens_a_note() {
    let (ours, same_name, other_name) = (key("a/log"), key("a/log"), key("b/log"));
    let note = sign(TEXT, &ours);
    assert_eq!(open(&note, ours.verifier()), Ok(TEXT));
    assert!(matches!(
        open(&note, same_name.verifier()),
        Err(NoteError::UnknownKey(_))
    ));
    assert!(matches!(
        open(&note, other_name.verifier()),
        Err(NoteError::UnknownKey(_))
    ));
    let renamed = SigningKey::from_seed("b/log", ours.key.as_bytes()).unwrap();
    assert!(matches!(
        open(&note, renamed.verifier()),
        Err(NoteError::UnknownKey(_))
    ));
    // Another key with the same name and a colliding id: its signature fails the note under both keys.
    let mut colliding = same_name.verifier().clone();
    colliding.id = ours.public.id;
    assert!(matches!(open(&note, &colliding), Err(NoteError::Signature(_))));
}

#[test]
fn signatures_of_others_are_ignored_and_a_bad_one_of_ours_is_not() {
    let (ours, other) = (key("a/log"), key("witness.example/w"));
    let line_of = |key: &SigningKey, text: &str| sign(text, key).rsplit_once("\n\n").unwrap().1.to_owned();
    let (good, foreign) = (line_of(&ours, TEXT), line_of(&other, TEXT));
    for lines in [
        format!("{good}{foreign}"),
        format!("{foreign}{good}"),
        format!("{good}{good}"),
    ] {
        assert_eq!(open(&format!("{TEXT}\n{lines}"), ours.verifier()), Ok(TEXT));
    }
    let bad = line_of(&ours, "another text\n");
    assert!(matches!(
        open(&format!("{TEXT}\n{good}{bad}"), ours.verifier()),
        Err(NoteError::Signature(_))
    ));
    assert!(matches!(
        open(&format!("{TEXT}\n{foreign}"), ours.verifier()),
        Err(NoteError::UnknownKey(_))
    ));
}

#[test]
fn a_text_with_empty_lines_is_split_at_the_last() {
    let ours = key("a/log");
    let text = "one\n\ntwo\n\n\nthree\n";
    assert_eq!(open(&sign(text, &ours), ours.verifier()), Ok(text));
}

/// T69.
#[test]
fn a_note_that_is_too_large_or_malformed_is_refused() {
    let ours = key("a/log");
    let good = sign(TEXT, &ours);
    let line = good.rsplit_once("\n\n").unwrap().1;
    let with = |n: usize| format!("{TEXT}\n{}", line.repeat(n));
    assert_eq!(open(&with(MAX_SIGNATURES), ours.verifier()), Ok(TEXT));
    assert_eq!(
        open(&with(MAX_SIGNATURES + 1), ours.verifier()),
        Err(NoteError::TooLarge)
    );
    assert_eq!(
        open(
            &sign(&format!("{}\n", "x".repeat(MAX_NOTE)), &ours),
            ours.verifier()
        ),
        Err(NoteError::TooLarge)
    );
    let around = sign("x\n", &ours).len() - 2;
    let longest = sign(&format!("{}\n", "x".repeat(MAX_NOTE - around - 1)), &ours);
    assert_eq!(longest.len(), MAX_NOTE);
    assert!(open(&longest, ours.verifier()).is_ok());
    for bad in [
        "",
        "\n",
        "\n\n",
        "text\n",
        "text\n\n",
        good.trim_end(),
        &good.replace('\n', "\r\n"),
        &good.replace("— ", "- "),
        &good.replace(" a/log ", "  "),
        &format!("{good}\n"),
        &format!("{good}— x !!!\n"),
        &format!("{good}— x AAA=\n"),
        &sign("tab\there\n", &ours),
    ] {
        assert!(
            matches!(open(bad, ours.verifier()), Err(NoteError::Form(_))),
            "{bad:?}"
        );
    }
}

/// T84.
#[test]
fn a_signing_key_survives_its_text_and_hides_from_debug() {
    let ours = key("shop.internal/shop/1");
    let text = ours.to_text();
    assert!(text.starts_with("PRIVATE+KEY+shop.internal/shop/1+"));
    let again = SigningKey::parse(&text).unwrap();
    assert_eq!(again.verifier(), ours.verifier());
    assert_eq!(
        SigningKey::parse(&format!("{}\n", text.as_str()))
            .unwrap()
            .verifier(),
        ours.verifier()
    );
    // `PRIVATE+KEY+name+id+seed`; the base64 of the seed may contain more `+`.
    let secret = text.splitn(5, '+').last().unwrap();
    assert!(secret.len() >= 40 && !format!("{ours:?}").contains(secret));
    assert!(open(&sign(TEXT, &again), ours.verifier()).is_ok());
}

#[test]
fn key_texts_that_are_not_right_are_refused_without_telling_the_seed() {
    let text = key("a/log").to_text();
    let secret = text.splitn(5, '+').last().unwrap();
    for bad in [
        text.replace("a/log", "a/lag"),
        text.replace("PRIVATE", "private"),
        text[..text.len() - 4].to_owned(),
        text.replace("a/log", "a log"),
        String::new(),
    ] {
        let error = SigningKey::parse(&bad).unwrap_err();
        assert!(!error.to_string().contains(secret), "{error}");
    }
    assert!(matches!(
        VerifierKey::parse(&VKEY.replace("530d", "530e")),
        Err(KeyError::Hash { .. })
    ));
    assert!(matches!(
        VerifierKey::parse("a+00000000+AA=="),
        Err(KeyError::Type(0))
    ));
    assert!(matches!(
        SigningKey::generate("with space"),
        Err(KeyError::Name(_))
    ));
    assert!(matches!(SigningKey::generate("a+b"), Err(KeyError::Name(_))));
    assert!(matches!(SigningKey::generate(""), Err(KeyError::Name(_))));
}

#[test]
fn a_weak_public_key_is_refused() {
    // The neutral element: under it one signature fits every text.
    let mut point = [0; 32];
    point[0] = 1;
    let name = "a/log";
    let id = Sha256::new()
        .chain_update(name)
        .chain_update([b'\n', 1])
        .chain_update(point)
        .finalize();
    let encoded = BASE64_STANDARD.encode([&[1], point.as_slice()].concat());
    let text = format!("{name}+{}+{encoded}", hex(&id[..4]));
    assert_eq!(VerifierKey::parse(&text), Err(KeyError::Point));
}

proptest! {
    /// T55.
    #[test]
    fn any_text_is_an_error_or_a_note(text in "(?s).{0,200}", tail in "(— [a-z/]{0,9} [A-Za-z0-9=]{0,12}\n){0,3}") {
        let note = format!("{text}\n\n{tail}");
        prop_assert!(open(&note, &vkey()).is_err());
        let _ = VerifierKey::parse(&text);
        let _ = SigningKey::parse(&text);
    }
}

#[test]
fn a_key_is_shown_by_its_public_half_alone() {
    let ours = key("a/log");
    let shown = format!("{ours:?} {:?}", ours.verifier());
    assert_eq!(shown.matches(&ours.verifier().to_string()).count(), 2, "{shown}");
    assert!(!shown.contains("PRIVATE"), "{shown}");
}

#[test]
fn a_name_has_1_to_255_bytes_without_spaces_control_characters_and_plus() {
    for name in ["a", "host.internal/service/1", "ä", &"n".repeat(MAX_KEY_NAME)] {
        assert_eq!(SigningKey::generate(name).unwrap().verifier().name(), name);
    }
    let long = "n".repeat(MAX_KEY_NAME + 1);
    for name in [
        "",
        "a b",
        "a\u{2003}b",
        "a\tb",
        "a\u{7}b",
        "a\u{85}b",
        "a+b",
        &long,
        &"ä".repeat(128),
    ] {
        let Err(KeyError::Name(told)) = SigningKey::generate(name) else {
            panic!("{name:?} is no name of a key");
        };
        assert!(
            name.starts_with(&told) && told.chars().count() <= MAX_KEY_NAME,
            "{name:?}"
        );
    }
}
