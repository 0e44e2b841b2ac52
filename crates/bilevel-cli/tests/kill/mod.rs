//! SIGKILL at a moment at which the command certainly runs.

#![cfg(unix)]

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Stdio},
    thread::sleep,
    time::Duration,
};

/// Attempts, each at half of the time of the one before.
const ATTEMPTS: u32 = 12;
const SIGKILL: i32 = 9;

/// Starts the command, waits for the file that shows that its work has begun and then this long, and kills it. A run
/// that had ended by then, or written the file that shows its end, is thrown away and killed earlier.
///
/// # Panics
/// When the command always ends first.
pub fn while_it_runs(
    command: impl Fn() -> Command,
    folder: &Path,
    [begun, ended]: [&str; 2],
    moment: Duration,
) {
    for attempt in 0..ATTEMPTS {
        let mut child = command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while !folder.join(begun).exists() && child.try_wait().unwrap().is_none() {
            sleep(Duration::from_micros(200));
        }
        sleep(moment / 2_u32.pow(attempt));
        // Nothing can be tidied up after this signal.
        child.kill().unwrap();
        if child.wait().unwrap().signal() == Some(SIGKILL) && !folder.join(ended).exists() {
            return;
        }
        fs::remove_dir_all(folder).unwrap();
    }
    panic!("the command always ended before it could be killed");
}
