//! Import and export of files and pipes, with a progress bar.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use radon_image::{FileOutput, FileSource, Format, Input, Output};

use super::Error;
use crate::{Repository, Volume};

/// Whether a file may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// It may.
    Yes,
    /// That is an error.
    No,
}

/// A bar; seen only on a terminal.
pub fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let template = "{wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

fn tell(bar: &ProgressBar, done: u64, total: Option<u64>) {
    match total {
        Some(total) => bar.set_length(total),
        None => bar.unset_length(),
    }
    bar.set_position(done);
}

/// Makes a volume of an image.
pub fn import(
    repository: &Repository,
    name: &str,
    path: &Path,
    format: Option<Format>,
    bar: &ProgressBar,
) -> Result<Volume, Error> {
    let mut progress = |done, total| {
        tell(bar, done, total);
        Ok(())
    };
    let volume = if path == Path::new("-") {
        let format = format.ok_or("say --format: standard input cannot be looked at twice")?;
        let mut stdin = io::stdin().lock();
        repository.import(Input::Stream(&mut stdin), format, name, &mut progress)?
    } else {
        let open = || FileSource::new(File::open(path)?);
        let source = open().map_err(|e| format!("{}: {e}", path.display()))?;
        let format = match format {
            Some(format) => format,
            None => Format::probe(&source)?,
        };
        repository.import(Input::File(&source), format, name, &mut progress)?
    };
    bar.finish_and_clear();
    Ok(volume)
}

/// Standard output as an image.
struct Stdout<'a> {
    out: io::StdoutLock<'static>,
    bar: &'a ProgressBar,
}

impl Output for Stdout<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        io::Write::write_all(&mut self.out, data)
    }

    fn progress(&mut self, done: u64, total: u64) -> io::Result<()> {
        tell(self.bar, done, Some(total));
        Ok(())
    }
}

/// Writes an image of a volume. A file appears under its name when it is complete.
pub fn export(
    repository: &Repository,
    volume: &Volume,
    path: &Path,
    format: Option<Format>,
    overwrite: Overwrite,
    bar: &ProgressBar,
) -> Result<(), Error> {
    let Some(format) = format.or_else(|| by_extension(path)) else {
        return Err(format!("{}: say --format, its name does not tell", path.display()).into());
    };
    if path == Path::new("-") {
        let mut out = Stdout { out: io::stdout().lock(), bar };
        repository.export(volume.id, format, &mut out)?;
        io::Write::flush(&mut out.out)?;
        bar.finish_and_clear();
        return Ok(());
    }
    if overwrite == Overwrite::No && path.exists() {
        return Err(format!("{} is there already; --force replaces it", path.display()).into());
    }
    let mut part: OsString = path.into();
    part.push(".part");
    let part = PathBuf::from(part);
    let failed = |e: io::Error| format!("{}: {e}", part.display());
    let file = File::create(&part).map_err(failed)?;
    let mut out = FileOutput::new(file, |done, total| {
        tell(bar, done, Some(total));
        Ok(())
    });
    let done = repository.export(volume.id, format, &mut out).map_err(Error::from);
    let done = done.and_then(|()| Ok(out.finish().map_err(failed)?));
    if let Err(error) = done {
        let _ = fs::remove_file(&part);
        return Err(error);
    }
    fs::rename(&part, path).map_err(failed)?;
    bar.finish_and_clear();
    Ok(())
}

fn by_extension(path: &Path) -> Option<Format> {
    match path.extension()?.to_str()? {
        "raw" | "img" => Some(Format::Raw),
        "vhd" | "vpc" => Some(Format::Vhd),
        "qcow2" => Some(Format::Qcow2),
        _ => None,
    }
}
