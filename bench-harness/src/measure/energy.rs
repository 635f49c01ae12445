//! What the processors take from the wall, where the machine counts it (RAPL, by way of the kernel's
//! `powercap`) and lets us read it: mostly on bare metal, and as root.

use std::fs;
use std::path::Path;

/// Where the kernel shows the counters; `intel-rapl:N` is the N-th package, of AMD's processors, too.
const POWERCAP: &str = "/sys/class/powercap";

/// The counters of all packages at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Energy(Vec<Package>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Package {
    name: String,
    microjoules: u64,
    /// Where it begins at zero again.
    most: u64,
}

impl Energy {
    /// Reads the counters; none where there are none for us.
    pub fn read() -> Option<Energy> {
        Energy::of(Path::new(POWERCAP))
    }

    fn of(folder: &Path) -> Option<Energy> {
        let mut packages = Vec::new();
        for entry in fs::read_dir(folder).ok()?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            // `intel-rapl:0:1` is a part of `intel-rapl:0`, and counted there.
            let package = name.strip_prefix("intel-rapl:").is_some_and(|rest| !rest.contains(':'));
            if !package {
                continue;
            }
            let number =
                |file| fs::read_to_string(entry.path().join(file)).ok()?.trim().parse().ok();
            let (microjoules, most) = (number("energy_uj")?, number("max_energy_range_uj")?);
            packages.push(Package { name, microjoules, most });
        }
        packages.sort_by(|one, other| one.name.cmp(&other.name));
        (!packages.is_empty()).then_some(Energy(packages))
    }

    /// Joules since `earlier`, if the same packages were counted then. A counter may have begun again
    /// once, which takes it a minute at least.
    pub fn since(&self, earlier: &Energy) -> Option<f64> {
        let same = self.0.len() == earlier.0.len();
        let mut microjoules = 0;
        for (now, before) in self.0.iter().zip(&earlier.0) {
            if now.name != before.name {
                return None;
            }
            let turned = if now.microjoules < before.microjoules { now.most } else { 0 };
            microjoules += (now.microjoules + turned).saturating_sub(before.microjoules);
        }
        same.then_some(microjoules as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packages and parts of packages with what they have counted.
    fn machine(counters: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, microjoules) in counters {
            let zone = folder.path().join(name);
            fs::create_dir(&zone).unwrap();
            fs::write(zone.join("energy_uj"), microjoules).unwrap();
            fs::write(zone.join("max_energy_range_uj"), "262143328850\n").unwrap();
        }
        folder
    }

    #[test]
    fn packages_are_added_up_and_their_parts_are_not() {
        let before = machine(&[("intel-rapl:0", "1000000\n"), ("intel-rapl:1", "262143328849\n")]);
        let now = machine(&[
            ("intel-rapl", "9\n"),
            ("intel-rapl:0", "3500000\n"),
            ("intel-rapl:0:0", "77777777\n"),
            ("intel-rapl:1", "499999\n"),
        ]);
        let read = |folder: &tempfile::TempDir| Energy::of(folder.path());
        let (before, now) = (read(&before).unwrap(), read(&now).unwrap());
        // 2.5 J of the first; the second has begun again.
        assert_eq!(now.since(&before), Some(3.0));
        assert_eq!(now.since(&now), Some(0.0));
    }

    #[test]
    fn what_cannot_be_read_is_nothing() {
        assert_eq!(Energy::of(Path::new("/nowhere")), None);
        assert_eq!(Energy::of(machine(&[]).path()), None);
        assert_eq!(Energy::of(machine(&[("intel-rapl:0", "not a number")]).path()), None);
        let (one, two) = (machine(&[("intel-rapl:0", "1")]), machine(&[("intel-rapl:1", "1")]));
        let read = |folder: &tempfile::TempDir| Energy::of(folder.path()).unwrap();
        assert_eq!(read(&one).since(&read(&two)), None, "another package");
    }
}
