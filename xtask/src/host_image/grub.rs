//! GRUB on the disk: core images for BIOS and UEFI, its menu. What `grub-install` does, without root and without a machine.

use super::KERNEL_ARGS;
use crate::{paths, shell};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;

const BIOS: &str = "/usr/lib/grub/i386-pc";
const MODULES: &[&str] = &[
    "part_gpt",
    "fat",
    "normal",
    "configfile",
    "multiboot2",
    "serial",
    "terminal",
    "echo",
    "test",
    "reboot",
    "halt",
];

/// The file for UEFI: `EFI/BOOT/BOOTX64.EFI`.
pub fn efi() -> Result<Vec<u8>> {
    core("x86_64-efi", "/grub", &["efi_gop", "all_video"])
}

/// The first sector's code, which loads sector `at`, and what stands from there on.
pub fn bios(at: u64) -> Result<(Vec<u8>, Vec<u8>)> {
    /// Where the first sector's code has the number of the next one, and a jump for floppy disks (GRUB's `i386/pc/boot.h`:
    /// `GRUB_BOOT_MACHINE_KERNEL_SECTOR`, `GRUB_BOOT_MACHINE_DRIVE_CHECK`).
    const NEXT: usize = 0x5c;
    const DRIVE_CHECK: usize = 0x66;
    /// Where the core image's first sector has the number of its second one (the last list entry of `diskboot.S`).
    const REST: usize = 512 - 12;
    let path = Path::new(BIOS).join("boot.img");
    let mut boot = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut core = core("i386-pc", "(,gpt2)/grub", &["biosdisk"])?;
    ensure!(boot.len() == 512 && core.len() > 1024, "GRUB's images have another form");
    boot.splice(NEXT..NEXT + 8, at.to_le_bytes());
    boot.splice(DRIVE_CHECK..DRIVE_CHECK + 2, [0x90, 0x90]);
    core.splice(REST..REST + 8, (at + 1).to_le_bytes());
    boot.truncate(440);
    Ok((boot, core))
}

fn core(format: &str, prefix: &str, modules: &[&str]) -> Result<Vec<u8>> {
    let out = paths::cache().join(format!("grub-{format}-{}.img", std::process::id()));
    let mut command = shell::command("grub-mkimage");
    command.args(["-O", format, "-p", prefix, "-o"]).arg(&out).args(MODULES).args(modules);
    shell::quiet(&mut command).with_context(|| format!("GRUB for {format}"))?;
    let image = fs::read(&out)?;
    fs::remove_file(out)?;
    Ok(image)
}

/// The menu: on the screen and on the serial line. `--nounzip` leaves unpacking to dom0's kernel.
pub fn menu(hypervisor_args: &str) -> String {
    format!(
        "serial --unit=0 --speed=115200\n\
         terminal_input serial console\n\
         terminal_output serial console\n\
         set timeout=1\n\
         if [ -f /radon/settings.cfg ]; then source /radon/settings.cfg; fi\n\
         menuentry \"Radon host\" {{\n\
         \x20   multiboot2 /radon/hypervisor {hypervisor_args} $hypervisor_args\n\
         \x20   module2 --nounzip /radon/vmlinuz {KERNEL_ARGS} $host_args\n\
         \x20   module2 --nounzip /radon/initrd\n\
         }}\n"
    )
}
