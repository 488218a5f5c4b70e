//! `radon-stored`: the store's daemon. See `docs/store.md`.

#![forbid(unsafe_code)]

mod client;
mod options;
mod start;

use clap::Parser;
use options::Options;
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = Options::parse();
    match start::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("radon-stored: {error}");
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_makes_sense() {
        <super::Options as clap::CommandFactory>::command().debug_assert();
    }
}
