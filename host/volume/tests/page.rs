//! Runs the commands of `docs/volumes.md`, as they stand there, on a disk of the test's own.

mod xfs;

use std::fs;
use std::path::Path;
use std::process::Command;

use xfs::Scratch;

#[test]
fn the_commands_of_the_page_work() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/volumes.md");
    let page = fs::read_to_string(page).unwrap();
    let blocks: Vec<&str> =
        page.split("```sh\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
    assert!(blocks.len() >= 4 && blocks.concat().matches("radon-volume ").count() > 15);
    // Places of this machine instead of the page's.
    let scratch = Scratch::new(2 << 30);
    let dir = scratch.dir().to_str().unwrap();
    let script = blocks.concat();
    let script = script.replace("/dev/sdb1", scratch.device()).replace("/srv/volumes", &format!("{dir}/mnt"));
    let script = script.replace("/run/", &format!("{dir}/run/"));
    let script = format!(
        "cd {dir}; mkdir run; qemu-img create -q -f qcow2 image.qcow2 64M\n\
                          qemu-io -c 'write -P 3 1M 3M' image.qcow2 >/dev/null\n{script}"
    );
    let program = Path::new(env!("CARGO_BIN_EXE_radon-volume")).parent().unwrap();
    let path = format!("{}:{}:/usr/sbin:/sbin", program.display(), std::env::var("PATH").unwrap());
    let out =
        Command::new("bash").args(["-e", "-u", "-o", "pipefail", "-c", &script]).env("PATH", path).output();
    let out = out.unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{stdout}\n{stderr}");
    for wanted in ["is a repository now", "Images are identical.", "5242880 65536", "nothing wrong"] {
        assert!(stdout.contains(wanted), "{wanted}: {stdout}");
    }
}
