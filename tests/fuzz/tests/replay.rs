//! Replays every target's corpus, then some inputs made from it, under plain `cargo test`. `RADON_FUZZ_MS` (default 1000)
//! is how long each target is tried.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use radon_fuzz_targets::TARGETS;

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let files = std::fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let mut files: Vec<_> = files.map(|f| f.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{name} has no corpus");
    files.iter().map(|f| std::fs::read(f).unwrap()).collect()
}

/// SplitMix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// A new input: an old one with some bytes changed, cut or doubled; or noise.
fn mutate(seeds: &[Vec<u8>], state: &mut u64) -> Vec<u8> {
    let mut below = |n: usize| random(state) as usize % n.max(1);
    let mut input = seeds[below(seeds.len())].clone();
    if below(8) == 0 {
        input = vec![0; below(600)];
        input.iter_mut().for_each(|b| *b = below(256) as u8);
    }
    for _ in 0..below(8) {
        let at = below(input.len());
        match below(6) {
            0 => input.truncate(at),
            1 => input.extend_from_within(at..),
            2 => input.insert(at, below(256) as u8),
            3 => drop(input.get_mut(at).map(|b| *b ^= 1 << below(8))),
            4 => drop(input.get_mut(at).map(|b| *b = [0, 1, 0x7f, 0x80, 0xff][below(5)])),
            _ => drop(input.get_mut(at).map(|b| *b = below(256) as u8)),
        }
        input.truncate(4096);
    }
    input
}

fn replay(name: &str) {
    let run = TARGETS.iter().find(|t| t.0 == name).expect("a target").1;
    let check = |input: &[u8]| {
        if let Err(e) = catch_unwind(AssertUnwindSafe(|| run(input))) {
            let hex: String = input.iter().map(|b| format!("{b:02x}")).collect();
            eprintln!("{name} fails on {hex}");
            resume_unwind(e);
        }
    };
    let seeds = corpus(name);
    seeds.iter().for_each(|s| check(s));
    let time = std::env::var("RADON_FUZZ_MS").ok().and_then(|v| v.parse().ok()).unwrap_or(1000);
    let end = Instant::now() + Duration::from_millis(time);
    let mut state = std::env::var("RADON_SEED").ok().and_then(|v| v.parse().ok()).unwrap_or(1);
    let mut inputs = 0u64;
    while Instant::now() < end {
        check(&mutate(&seeds, &mut state));
        inputs += 1;
    }
    println!("{name}: {} seeds, {inputs} inputs", seeds.len());
}

macro_rules! replays {
    ($($name:ident)*) => {
        $(#[test] fn $name() { replay(stringify!($name)) })*
        #[test]
        fn every_target_is_replayed() {
            let names: Vec<_> = TARGETS.iter().map(|t| t.0).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}
replays! { hypercall decode_length decode_memory evtchn grant bootproto acpi kernel cmdline vpci policy store store_records
vapic mmio walk symbols vhd qcow2 nbd gpt block_ring block_table xmlrpc jsonrpc filter
dhcp dhcp_reply leases dns metadata console_ring console_file framebuffer_page framebuffer_viewer xlcfg saved_vm }
