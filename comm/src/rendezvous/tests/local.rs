//! The token file that ranks of one machine share, and the conditions that make it unsafe.
#![cfg(unix)]

use super::super::local;
use super::*;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

const PORT: u16 = 29501;
const NAME: &str = "ssmv-raw-29501.token";

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[track_caller]
fn refused(folder: &Path, text: &str) {
    let error = local::token(Some(folder), PORT).unwrap_err().to_string();
    assert!(error.contains(text), "{error}");
}

#[test]
fn ranks_that_start_at_once_read_the_same_token() {
    let folder = private_folder();
    let read = || local::token(Some(folder.path()), PORT).unwrap().to_hex();
    let tokens: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(read)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(tokens.iter().all(|token| *token == tokens[0]));
    let permissions = fs::metadata(folder.path().join(NAME)).unwrap().permissions();
    assert_eq!(permissions.mode() & 0o777, 0o600);
    assert_ne!(local::token(Some(folder.path()), PORT + 1).unwrap().to_hex(), tokens[0]);
}

#[test]
fn a_file_that_others_can_read_or_that_is_no_token_is_refused() {
    let folder = private_folder();
    let path = folder.path().join(NAME);
    local::token(Some(folder.path()), PORT).unwrap();
    mode(&path, 0o644);
    refused(folder.path(), "its mode is 0644, but only its owner may read it: chmod 600");
    mode(&path, 0o600);
    local::token(Some(folder.path()), PORT).unwrap();
    fs::write(&path, "").unwrap();
    refused(folder.path(), "these are 0 characters");
    fs::remove_file(&path).unwrap();
    let other = folder.path().join("other");
    fs::write(&other, TOKEN).unwrap();
    mode(&other, 0o600);
    symlink(&other, &path).unwrap();
    refused(folder.path(), "it is a symbolic link");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    refused(folder.path(), "not a regular file");
}

#[test]
fn a_folder_that_others_can_open_is_refused() {
    let folder = private_folder();
    for open in [0o710, 0o701, 0o755, 0o777] {
        mode(folder.path(), open);
        refused(folder.path(), &format!("its mode is {open:04o}, but only its owner may open it: chmod 700"));
    }
    mode(folder.path(), 0o700);
    let link = folder.path().join("link");
    symlink(folder.path(), &link).unwrap();
    // Linux says that it is not a directory, other systems that it is a link.
    assert!(local::token(Some(&link), PORT).is_err());
    refused(&folder.path().join("none"), "none");
}

#[test]
fn a_folder_of_another_user_is_refused() {
    let folder = private_folder();
    // Only root can give a folder away; for another user, / is one that is not theirs.
    match std::os::unix::fs::chown(folder.path(), Some(65534), None) {
        Ok(()) => refused(folder.path(), "it belongs to another user, 65534"),
        Err(_) => refused(Path::new("/"), "it belongs to another user, 0"),
    }
}

#[test]
fn another_user_without_the_token_cannot_join() {
    let mut job = Job::new(2);
    job.settings.timeout = Duration::from_millis(600);
    // Another user has another folder.
    let theirs = private_folder();
    let settings = Settings { token_folder: Some(theirs.path().into()), ..job.settings.clone() };
    let options = Options { timeout: Duration::from_secs(10), on_stall: Arc::new(|_| {}) };
    thread::scope(|scope| {
        let master = scope.spawn(|| job.join(&job.place(0), &fingerprint("a"), &Security::default()));
        for security in [Security::default(), Security { insecure: true, ..Security::default() }] {
            let error = join_with(&job.place(1), &fingerprint("a"), &security, options.clone(), &settings);
            let expected = Reason::Untrusted { address: job.address() };
            assert_eq!(error.unwrap_err().reason, expected);
        }
        let error = master.join().unwrap().unwrap_err().to_string();
        assert!(error.contains("rank 1 is missing"), "{error}");
    });
}
