//! `radon-volume`: storage repositories by hand.

#![forbid(unsafe_code)]

use clap::Parser;
use radon_volume::cli::{Options, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("radon-volume: {error}");
            ExitCode::FAILURE
        }
    }
}
