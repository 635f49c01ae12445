//! Configuration files: any text, cut into files where it says so.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway_control::source::{PROBLEMS_MAX, Source, load, reload};

fuzz_target!(|bytes: &[u8]| {
    let texts = String::from_utf8_lossy(bytes);
    let files = texts.split('\0').enumerate();
    let sources: Vec<Source> = files
        .map(|(number, text)| Source::Text { name: format!("{number}.yaml"), text: text.to_owned() })
        .collect();
    match load(&sources, Some("host-a")) {
        Ok(mesh) => {
            let again = reload(&sources, Some("host-a"), &mesh.snapshot).expect("it was good a moment ago");
            assert_eq!(again.node, mesh.node);
            assert_eq!(again.enrollments, mesh.enrollments);
            assert_eq!(again.snapshot.workload_count(), mesh.snapshot.workload_count());
            assert_eq!(again.snapshot.service_count(), mesh.snapshot.service_count());
        }
        Err(diagnostics) => {
            assert!(diagnostics.errors() > 0, "a refusal says why");
            assert!(diagnostics.iter().count() <= PROBLEMS_MAX);
            let shown = diagnostics.to_string();
            assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "safe for a terminal");
        }
    }
});
