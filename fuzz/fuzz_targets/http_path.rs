//! Paths of requests: one form in each mode, and it stays.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway_http::path::{PathMode, canonical};

fuzz_target!(|path: &str| {
    use PathMode::{Base, DecodeAndMerge, MergeSlashes, Off, RejectAmbiguous};
    for mode in [Off, Base, MergeSlashes, DecodeAndMerge, RejectAmbiguous] {
        let Ok(once) = canonical(path, mode) else { continue };
        assert_eq!(canonical(&once, mode).as_deref(), Ok(&*once), "{mode:?}");
        if mode == Off || path == "*" {
            assert_eq!(once, path);
            continue;
        }
        assert!(once.starts_with('/') && once.is_ascii() && !once.contains('\\'));
        assert!(once.split('/').all(|element| element != "." && element != ".."));
        assert!(once.len() <= 3 * path.len().max(1));
        if mode == RejectAmbiguous {
            for other in [Base, MergeSlashes, DecodeAndMerge] {
                assert_eq!(canonical(path, other).as_deref(), Ok(&*once), "{other:?}");
            }
        }
    }
});
