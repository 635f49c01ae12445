//! The ways in which files change on disk, each of which must be told.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::source::{POLL_INTERVAL, Source, Watcher, load};

/// A change that takes longer was not told.
const PATIENCE: Duration = Duration::from_secs(60);

fn watch(path: &Path) -> Watcher {
    Watcher::new(&[Source::Path(path.into())]).unwrap()
}

fn expect_change(watcher: &mut Watcher) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let changed =
        runtime.block_on(async { tokio::time::timeout(PATIENCE, watcher.changed()).await });
    changed.expect("the change is told");
}

fn pod(address: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: web}}, status: {{podIP: {address}}}}}\n"
    )
}

fn address_of(path: &Path) -> String {
    let mesh = load(&[Source::Path(path.into())], Some("host-a")).unwrap();
    let workload = mesh.snapshot.workloads().next().unwrap();
    workload.addresses()[0].to_string()
}

#[test]
fn a_file_is_written_in_place() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("mesh.yaml");
    fs::write(&path, pod("10.0.0.1")).unwrap();
    let mut watcher = watch(&path);
    fs::write(&path, pod("10.0.0.2")).unwrap();
    expect_change(&mut watcher);
    assert_eq!(address_of(&path), "10.0.0.2");
}

#[test]
fn a_file_is_replaced_by_renaming_again_and_again() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("mesh.yaml");
    fs::write(&path, pod("10.0.0.1")).unwrap();
    let mut watcher = watch(&path);
    for address in ["10.0.0.2", "10.0.0.3", "10.0.0.4"] {
        let new = directory.path().join(".mesh.yaml.new");
        fs::write(&new, pod(address)).unwrap();
        fs::rename(&new, &path).unwrap();
        expect_change(&mut watcher);
        assert_eq!(address_of(&path), address);
    }
}

/// The layout of a mounted ConfigMap: every file leads through one link, which is replaced.
#[test]
fn kubernetes_swaps_a_whole_directory() {
    let mount = TempDir::new().unwrap();
    let publish = |generation: &str, address: &str| {
        let data = mount.path().join(generation);
        fs::create_dir(&data).unwrap();
        fs::write(data.join("mesh.yaml"), pod(address)).unwrap();
        symlink(generation, mount.path().join("..data_tmp")).unwrap();
        fs::rename(mount.path().join("..data_tmp"), mount.path().join("..data")).unwrap();
    };
    publish("..2026_01", "10.0.0.1");
    let path = mount.path().join("mesh.yaml");
    symlink("..data/mesh.yaml", &path).unwrap();
    let mut file = watch(&path);
    let mut directory = watch(mount.path());
    for (generation, address) in [("..2026_02", "10.0.0.2"), ("..2026_03", "10.0.0.3")] {
        publish(generation, address);
        expect_change(&mut file);
        expect_change(&mut directory);
        assert_eq!(address_of(&path), address);
        assert_eq!(address_of(mount.path()), address);
    }
    fs::remove_dir_all(mount.path().join("..2026_01")).unwrap();
}

#[test]
fn a_file_vanishes_and_comes_back() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("mesh.yaml");
    fs::write(&path, pod("10.0.0.1")).unwrap();
    let mut watcher = watch(&path);
    fs::remove_file(&path).unwrap();
    fs::write(&path, pod("10.0.0.2")).unwrap();
    expect_change(&mut watcher);
    assert_eq!(address_of(&path), "10.0.0.2");

    fs::remove_file(&path).unwrap();
    expect_change(&mut watcher);
    assert!(load(&[Source::Path(path.clone())], None).is_err(), "the old one is to be kept");
    fs::write(&path, pod("10.0.0.3")).unwrap();
    expect_change(&mut watcher);
    assert_eq!(address_of(&path), "10.0.0.3");
}

/// A directory that may go, below one that stays, and the file in it.
fn directory_of_a_pod() -> (TempDir, PathBuf, PathBuf) {
    let parent = TempDir::new().unwrap();
    let directory = parent.path().join("mesh");
    let path = directory.join("mesh.yaml");
    fs::create_dir(&directory).unwrap();
    fs::write(&path, pod("10.0.0.1")).unwrap();
    (parent, directory, path)
}

#[test]
fn a_directory_is_removed_and_made_anew() {
    let (_parent, directory, path) = directory_of_a_pod();
    let mut watcher = watch(&directory);
    fs::remove_dir_all(&directory).unwrap();
    expect_change(&mut watcher);
    fs::create_dir(&directory).unwrap();
    fs::write(&path, pod("10.0.0.2")).unwrap();
    expect_change(&mut watcher);
    assert_eq!(address_of(&directory), "10.0.0.2");
    fs::write(&path, pod("10.0.0.3")).unwrap();
    expect_change(&mut watcher);
    assert_eq!(address_of(&directory), "10.0.0.3");
}

/// A directory that is made anew may get the number of the one before it, as on ext4, and its watch is lost all the same:
/// only the comparison every [`POLL_INTERVAL`] would find what comes.
#[test]
fn what_comes_to_a_directory_that_was_emptied_or_made_anew_is_told_soon() {
    let (_parent, directory, path) = directory_of_a_pod();
    let mut watcher = watch(&directory);
    let made_anew = || {
        fs::remove_dir_all(&directory).unwrap();
        fs::create_dir(&directory).unwrap();
    };
    let emptied = || fs::remove_file(&path).unwrap();
    let ways: [(&str, &dyn Fn()); 4] = [
        ("10.0.0.2", &made_anew),
        ("10.0.0.3", &emptied),
        ("10.0.0.4", &made_anew),
        ("10.0.0.5", &emptied),
    ];
    for (address, away) in ways {
        away();
        expect_change(&mut watcher);
        let began = Instant::now();
        fs::write(&path, pod(address)).unwrap();
        expect_change(&mut watcher);
        assert!(began.elapsed() < POLL_INTERVAL / 2, "{address}: {:?}", began.elapsed());
        assert_eq!(address_of(&directory), address);
    }
}

#[test]
fn a_file_comes_to_a_directory_and_leaves_it() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("a.yaml"), pod("10.0.0.1")).unwrap();
    let mut watcher = watch(directory.path());
    let other = directory.path().join("b.yaml");
    fs::write(&other, pod("10.0.0.2").replace("web", "other")).unwrap();
    expect_change(&mut watcher);
    fs::remove_file(&other).unwrap();
    expect_change(&mut watcher);
    assert_eq!(address_of(directory.path()), "10.0.0.1");
}

#[test]
fn the_target_of_a_link_is_written() {
    let (links, targets) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let target = targets.path().join("shared.yaml");
    let path = links.path().join("mesh.yaml");
    fs::write(&target, pod("10.0.0.1")).unwrap();
    symlink(&target, &path).unwrap();
    let mut watcher = watch(&path);
    fs::write(&target, pod("10.0.0.2")).unwrap();
    expect_change(&mut watcher);
    assert_eq!(address_of(&path), "10.0.0.2");
}

#[test]
fn nothing_is_told_of_what_is_not_read() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("mesh.yaml");
    fs::write(&path, pod("10.0.0.1")).unwrap();
    let mut watcher = watch(directory.path());
    fs::write(directory.path().join("notes.txt"), "not for Ringway").unwrap();
    fs::write(directory.path().join(".mesh.yaml.swp"), "an editor's").unwrap();
    // Both came before this, so had they been told, they would have been told by now, as changes of their own.
    std::thread::sleep(crate::source::QUIET * 3);
    assert!(!watcher.has_changed(), "these files are not read");
    fs::write(&path, pod("10.0.0.2")).unwrap();
    expect_change(&mut watcher);
}
