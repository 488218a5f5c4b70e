//! What commands print: a table for people, JSON for programs.

use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;

use radon_linux::clock::stamp;
use serde::Serialize;
use serde_json::json;

use super::{Error, bytes};
use crate::repository::Space;
use crate::{Kind, Repository, Volume};

/// How to print.
pub struct Show {
    /// JSON, on one line.
    pub json: bool,
}

/// A volume and its room.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    volume: &'a Volume,
    #[serde(flatten)]
    space: Space,
}

impl Show {
    fn json(value: &impl Serialize) -> Result<(), Error> {
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, value)?;
        Ok(writeln!(out)?)
    }

    /// What was made or changed: its number, which scripts can use.
    pub fn made(&self, volume: &Volume) -> Result<(), Error> {
        if self.json {
            return Self::json(volume);
        }
        Ok(writeln!(io::stdout(), "{}", volume.id)?)
    }

    /// All volumes.
    pub fn list(&self, repository: &Repository) -> Result<(), Error> {
        let volumes = repository.volumes()?;
        let mut rows = Vec::new();
        for volume in &volumes {
            rows.push(Row { volume, space: repository.space(volume.id)? });
        }
        if self.json {
            return Self::json(&rows);
        }
        let mut out = io::stdout().lock();
        writeln!(
            out,
            "{:<36} {:<8} {:>12} {:>12} {:>12}  NAME",
            "NUMBER", "KIND", "SIZE", "ALLOCATED", "EXCLUSIVE"
        )?;
        for Row { volume, space } in rows {
            let [size, allocated, exclusive] =
                [volume.size, space.allocated, space.exclusive].map(bytes::show);
            let (id, kind, name) = (volume.id, kind(volume), &volume.name);
            writeln!(out, "{id} {kind:<8} {size:>12} {allocated:>12} {exclusive:>12}  {name}")?;
        }
        Ok(())
    }

    /// One volume.
    pub fn one(&self, repository: &Repository, volume: &Volume) -> Result<(), Error> {
        let space = repository.space(volume.id)?;
        if self.json {
            return Self::json(&Row { volume, space });
        }
        let mut out = io::stdout().lock();
        writeln!(out, "number     {}", volume.id)?;
        writeln!(out, "name       {}", volume.name)?;
        writeln!(out, "kind       {}", kind(volume))?;
        writeln!(out, "size       {} ({} bytes)", bytes::show(volume.size), volume.size)?;
        writeln!(
            out,
            "allocated  {}, of which deleting frees {}",
            bytes::show(space.allocated),
            bytes::show(space.exclusive)
        )?;
        if let Some(origin) = volume.origin {
            writeln!(out, "made from  {origin}")?;
        }
        Ok(writeln!(out, "made       {}", stamp(volume.created))?)
    }

    /// The repository.
    pub fn info(&self, dir: &Path, repository: &Repository) -> Result<(), Error> {
        let totals = repository.totals()?;
        let volumes = repository.volumes()?;
        let system = repository.system().name();
        if self.json {
            let (size, free, count) = (totals.size, totals.free, volumes.len());
            return Self::json(&json!({
                "path": dir, "file_system": system, "size": size, "free": free, "volumes": count,
                "promised": volumes.iter().map(|v| v.size).sum::<u64>(),
            }));
        }
        let promised = volumes.iter().map(|v| v.size).sum();
        let mut out = io::stdout().lock();
        writeln!(out, "repository   {} ({system})", dir.display())?;
        writeln!(out, "size         {}, free {}", bytes::show(totals.size), bytes::show(totals.free))?;
        Ok(writeln!(out, "volumes      {}, together {}", volumes.len(), bytes::show(promised))?)
    }

    /// Ranges of bytes: offset and length.
    pub fn ranges(&self, ranges: &[Range<u64>]) -> Result<(), Error> {
        let pairs = ranges.iter().map(|r| (r.start, r.end - r.start));
        if self.json {
            let objects = pairs.map(|(offset, length)| json!({"offset": offset, "length": length}));
            return Self::json(&objects.collect::<Vec<_>>());
        }
        let mut out = io::stdout().lock();
        for (offset, length) in pairs {
            writeln!(out, "{offset} {length}")?;
        }
        Ok(())
    }

    /// What `check` found.
    pub fn problems(&self, dir: &Path, wrong: &[String]) -> Result<(), Error> {
        if self.json {
            return Self::json(&wrong);
        }
        let mut out = io::stdout().lock();
        for problem in wrong {
            writeln!(out, "{problem}")?;
        }
        if wrong.is_empty() {
            writeln!(out, "{}: nothing wrong", dir.display())?;
        }
        Ok(())
    }
}

fn kind(volume: &Volume) -> &'static str {
    match volume.kind {
        Kind::Volume => "volume",
        Kind::Snapshot => "snapshot",
    }
}
