use proptest::prelude::*;

use super::PathMode::{Base, DecodeAndMerge, MergeSlashes, Off, RejectAmbiguous};
use super::{PathError, PathMode, canonical};

const MODES: [PathMode; 5] = [Off, Base, MergeSlashes, DecodeAndMerge, RejectAmbiguous];

#[test]
fn every_path_has_one_form() {
    use PathError::{BadEscape, DotSegment, EmptyElement, HiddenEscape, HiddenSlash, NotAbsolute};
    type Row = (&'static str, &'static str, PathMode, Result<&'static str, PathError>);
    #[rustfmt::skip]
    let rows: &[Row] = &[
        ("nothing to do",                          "/a/b",          Base,            Ok("/a/b")),
        ("RFC 9110 4.2.3: empty is the root",      "",              Base,            Ok("/")),
        ("asterisk",                               "*",             RejectAmbiguous, Ok("*")),
        ("case is kept",                           "/A/b",          Base,            Ok("/A/b")),
        ("a slash at the end is kept",             "/a/",           DecodeAndMerge,  Ok("/a/")),
        ("RFC 3986 6.2.2.1: escapes upper case",   "/a%c3%a9",      Base,            Ok("/a%C3%A9")),
        ("RFC 3986 6.2.2.2: unreserved plain",     "/%61%2Db%7e",   Base,            Ok("/a-b~")),
        ("reserved stays escaped",                 "/a%3fb%23%3b",  Base,            Ok("/a%3Fb%23%3B")),
        ("raw bytes are escaped",                  "/é",            Base,            Ok("/%C3%A9")),
        ("RFC 3986 6.2.2.3: one dot",              "/a/./b",        Base,            Ok("/a/b")),
        ("two dots",                               "/a/b/../c",     Base,            Ok("/a/c")),
        ("two dots above the root",                "/../../a",      Base,            Ok("/a")),
        ("one dot at the end",                     "/a/.",          Base,            Ok("/a/")),
        ("two dots at the end",                    "/a/b/..",       Base,            Ok("/a/")),
        ("two dots are all",                       "/..",           Base,            Ok("/")),
        ("three dots are a name",                  "/a/...",        Base,            Ok("/a/...")),
        ("a name may begin with a dot",            "/.well-known/x", Base,           Ok("/.well-known/x")),
        ("escaped dots are dots",                  "/a/%2e%2E/b",   Base,            Ok("/b")),
        ("half escaped dots too",                  "/a/.%2e/b",     Base,            Ok("/b")),
        ("a backslash is a slash",                 "/a\\..\\b",     Base,            Ok("/b")),
        ("in front, too",                          "\\a",           Base,            Ok("/a")),
        ("empty elements stay in base",            "/a//b",         Base,            Ok("/a//b")),
        ("and go where they are merged",           "//a///b//",     MergeSlashes,    Ok("/a/b/")),
        ("dots first, then slashes",               "/a//../b",      MergeSlashes,    Ok("/a/b")),
        ("only slashes",                           "///",           MergeSlashes,    Ok("/")),
        ("escaped slashes stay",                   "/a%2fb",        MergeSlashes,    Ok("/a%2Fb")),
        ("and are slashes when decoded",           "/a%2Fb%5cc",    DecodeAndMerge,  Ok("/a/b/c")),
        ("dots behind them count",                 "/a/..%2fb",     DecodeAndMerge,  Ok("/b")),
        ("before them too",                        "/a%2f..%2fb",   DecodeAndMerge,  Ok("/b")),
        ("escaped twice is escaped once",          "/a%252fb",      DecodeAndMerge,  Ok("/a%252fb")),
        ("off is off",                             "/a/..//%zz",    Off,             Ok("/a/..//%zz")),
        ("no digits",                              "/a%zz",         Base,            Err(BadEscape)),
        ("one digit",                              "/a%4",          Base,            Err(BadEscape)),
        ("an escape that decoding would make",     "/%4%31",        Base,            Err(BadEscape)),
        ("NUL",                                    "/a%00.html",    Base,            Err(PathError::Nul)),
        ("no slash in front",                      "a/b",           Base,            Err(NotAbsolute)),
        ("unambiguous",                            "/a%20b/%41/",   RejectAmbiguous, Ok("/a%20b/A/")),
        ("ambiguous: one dot",                     "/a/./b",        RejectAmbiguous, Err(DotSegment)),
        ("ambiguous: two dots",                    "/a/../b",       RejectAmbiguous, Err(DotSegment)),
        ("ambiguous: escaped dots",                "/%2e%2e/b",     RejectAmbiguous, Err(DotSegment)),
        ("ambiguous: dots with parameters",        "/a/..;x=1/b",   RejectAmbiguous, Err(DotSegment)),
        ("ambiguous: empty element",               "/a//b",         RejectAmbiguous, Err(EmptyElement)),
        ("ambiguous: empty element in front",      "//a",           RejectAmbiguous, Err(EmptyElement)),
        ("ambiguous: escaped slash",               "/a%2fb",        RejectAmbiguous, Err(HiddenSlash)),
        ("ambiguous: escaped backslash",           "/a%5cb",        RejectAmbiguous, Err(HiddenSlash)),
        ("ambiguous: backslash",                   "/a\\b",         RejectAmbiguous, Err(HiddenSlash)),
        ("ambiguous: escaped per cent sign",       "/a%252fb",      RejectAmbiguous, Err(HiddenEscape)),
    ];
    for (name, path, mode, want) in rows {
        let got = canonical(path, *mode);
        assert_eq!(got.as_deref().map_err(|error| *error), *want, "{name}: {path} in {mode:?}");
    }
}

/// Paths of what is dangerous, rather than of anything.
fn a_path() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("/".to_owned()),
        Just("\\".to_owned()),
        Just(".".to_owned()),
        Just("..".to_owned()),
        Just("%2e".to_owned()),
        Just("%2F".to_owned()),
        Just("%5c".to_owned()),
        Just("%25".to_owned()),
        Just("%4".to_owned()),
        Just("1".to_owned()),
        Just(";".to_owned()),
        Just("é".to_owned()),
        Just("%61".to_owned()),
        "[a-z0-9%~ ]{0,3}",
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn what_is_canonical_stays(path in a_path()) {
        for mode in MODES {
            let Ok(once) = canonical(&path, mode) else { continue };
            prop_assert_eq!(canonical(&once, mode), Ok(once.clone()), "{:?}", mode);
        }
    }

    #[test]
    fn canonical_paths_say_one_thing(path in a_path()) {
        for mode in [Base, MergeSlashes, DecodeAndMerge, RejectAmbiguous] {
            let Ok(path) = canonical(&path, mode) else { continue };
            prop_assert!(path.starts_with('/') && path.is_ascii() && !path.contains('\\'));
            prop_assert!(path.split('/').all(|element| element != "." && element != ".."));
            prop_assert!(!path.contains("%2E") && !path.contains("%2e"));
            if mode != Base {
                prop_assert!(!path.contains("//"), "{:?}", mode);
            }
            if matches!(mode, DecodeAndMerge | RejectAmbiguous) {
                prop_assert!(!path.contains("%2F") && !path.contains("%5C"));
            }
        }
    }

    /// What reject-ambiguous lets through, every mode reads alike.
    #[test]
    fn what_is_not_refused_is_not_ambiguous(path in a_path()) {
        if let Ok(strict) = canonical(&path, RejectAmbiguous) {
            for mode in [Base, MergeSlashes, DecodeAndMerge] {
                prop_assert_eq!(canonical(&path, mode), Ok(strict.clone()), "{:?}", mode);
            }
        }
    }
}
