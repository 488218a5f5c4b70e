//! What services say: into a file of each, with the time, and on the machine's console.

use radon_linux::clock::stamp;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A file that is longer becomes the old one.
const LONGEST: u64 = 4 << 20;

/// One service's file, and the one before it.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Log {
    /// Opens the file of a service.
    pub fn open(dir: &Path, name: &str) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let path = dir.join(format!("{name}.log"));
        let file = File::options().append(true).create(true).open(&path)?;
        let length = file.metadata()?.len();
        Ok(Self { path, file, length })
    }

    /// Writes one line.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        if self.length > LONGEST {
            fs::rename(&self.path, self.path.with_extension("log.1"))?;
            self.file = File::options().append(true).create(true).open(&self.path)?;
            self.length = 0;
        }
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let line = format!("{} {text}\n", stamp(since.as_secs()));
        self.length += line.len() as u64;
        self.file.write_all(line.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_becomes_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::open(dir.path(), "x").unwrap();
        log.line("first").unwrap();
        log.length = LONGEST + 1;
        log.line("second").unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert!(read("x.log.1").ends_with("Z first\n"));
        assert!(read("x.log").ends_with("Z second\n"));
    }
}
