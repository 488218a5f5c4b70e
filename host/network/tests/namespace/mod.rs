//! Tests within a network namespace of their own.
#![allow(dead_code, reason = "each test program uses a part")]

use std::path::Path;
use std::process::{Command, Output};

const INSIDE: &str = "RADON_TEST_NAMESPACE";

/// Whether this is the process within the namespace, where the test is to be done; else starts that process and waits for it.
pub fn within(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some_and(|name| name == test) {
        return true;
    }
    let me = std::env::current_exe().unwrap();
    // A user namespace besides: an ordinary user is root in there. A mount namespace: /sys must show these interfaces.
    let output = Command::new("unshare")
        .args([
            "--map-root-user",
            "--net",
            "--mount",
            "sh",
            "-c",
            "mount -t sysfs sysfs /sys && exec \"$@\"",
            "sh",
        ])
        .arg(me)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, test)
        .output()
        .expect("unshare of util-linux");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "{text}");
    false
}

/// Runs a program of the system.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new(program)
        .args(arguments)
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `ip`.
pub fn ip(arguments: &[&str]) -> String {
    run("ip", arguments)
}

/// The packet filter's rules, as the kernel has them.
pub fn rules() -> String {
    run("nft", &["--stateless", "list", "ruleset"])
}

/// Runs `radon-network`.
pub fn program(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_radon-network"))
        .arg("--state")
        .arg(dir)
        .args(arguments)
        .output()
        .unwrap()
}
