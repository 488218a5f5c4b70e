//! What services say: into a file of each, with the time, and on the machine's console.

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

/// A time, in seconds since 1970, as `2026-03-01T12:34:56Z`.
pub fn stamp(seconds: u64) -> String {
    let (days, rest) = (seconds / 86400, seconds % 86400);
    // Years beginning in March have their leap day at the end (Howard Hinnant, "chrono-compatible low-level date algorithms").
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next;
    format!("{year:04}-{month:02}-{date:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_dates() {
        assert_eq!(stamp(0), "1970-01-01T00:00:00Z");
        assert_eq!(stamp(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(stamp(1_767_225_599), "2025-12-31T23:59:59Z");
    }

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
