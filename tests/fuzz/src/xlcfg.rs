//! xl's configuration files.

/// A file; a line in an error is one that there is.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let lines = text.split('\n').count();
    match radon_xlcfg::guest::parse(&text) {
        Ok(guest) => assert!(
            guest.memory <= guest.memory_max && guest.vcpus <= guest.vcpus_max && guest.disks.len() <= 16
        ),
        Err(error) => assert!((1..=lines).contains(&error.line), "{error}"),
    }
    let _ = (radon_xlcfg::disk::parse(&text), radon_xlcfg::vif::parse(&text));
}
