//! Runs the commands of `docs/networks.md`, as they stand there, in a network namespace.

mod namespace;

use namespace::{ip, rules, within};
use std::path::Path;
use std::process::Command;

#[test]
fn the_commands_of_the_page_work() {
    if !within("the_commands_of_the_page_work") {
        return;
    }
    for name in ["vif5.0", "eth9"] {
        ip(&["tuntap", "add", name, "mode", "tap"]);
    }
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/networks.md");
    let page = std::fs::read_to_string(page).unwrap();
    let blocks: Vec<&str> =
        page.split("```sh\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
    assert!(blocks.len() >= 5 && blocks.concat().matches("radon-network ").count() > 12);
    // Places of this machine instead of the page's.
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().to_str().unwrap();
    let script = blocks.concat().replace("/tmp/", &format!("{dir}/"));
    let script = script.replace("/var/lib/radon/networks", &format!("{dir}/state"));
    let program = Path::new(env!("CARGO_BIN_EXE_radon-network")).parent().unwrap();
    let path = format!("{}:{}:/usr/sbin:/sbin", program.display(), std::env::var("PATH").unwrap());
    let out = Command::new("bash")
        .args(["-e", "-u", "-o", "pipefail", "-c", &script])
        .env("PATH", path)
        .env("RADON_NETWORKS", format!("{dir}/state"))
        .output()
        .unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{stdout}\n{stderr}");
    for wanted in ["10.1.0.10\n", "10.1.0.20\n", "\"pending\": []", "masquerade", "radon-network: serving"] {
        assert!(stdout.contains(wanted), "{wanted}: {stdout}\n{stderr}");
    }
    // All of it was removed in the end.
    let links = ip(&["-brief", "link"]);
    let names: Vec<&str> = links.lines().filter_map(|l| l.split_whitespace().next()).collect();
    assert_eq!((names, rules()), (vec!["lo", "vif5.0", "eth9"], String::new()));
}
