//! `cargo xtask iso`: a CD image that boots the hypervisor with dom0 through GRUB, on BIOS and on UEFI.

use crate::packages::Packages;
use crate::scenario::Options;
use crate::{initramfs, paths, setup, shell};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Arguments of `iso`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    options: Options,
    /// Where the image is written
    #[arg(long, short, default_value = "radon.iso")]
    output: PathBuf,
    /// Scenarios for dom0 to run instead of an interactive session
    #[arg(long, default_value = "")]
    scenario: String,
}

/// Makes the image where the user wants it.
pub fn run(args: &Args) -> Result<()> {
    make(&args.options, &args.scenario, &args.output)?;
    println!("{}", args.output.display());
    println!(
        "try it: qemu-system-x86_64 -machine q35 -cpu EPYC,+svm,+npt -m 4G -cdrom {} -serial stdio",
        args.output.display()
    );
    Ok(())
}

/// Makes an image whose dom0 runs `scenario`.
pub fn make(options: &Options, scenario: &str, output: &Path) -> Result<()> {
    setup::run()?;
    let packages = Packages::fetch()?;
    let tree = paths::cache().join(format!("iso-{}", options.hypervisor.name()));
    let boot = tree.join("boot");
    fs::create_dir_all(boot.join("grub"))?;
    let copy = |from: &Path, name: &str| {
        fs::copy(from, boot.join(name)).map(drop).with_context(|| format!("cannot copy {}", from.display()))
    };
    copy(&options.image(&packages)?, "hypervisor")?;
    copy(&packages.kernel(false)?, "vmlinuz")?;
    copy(&initramfs::dom0(&packages, &options.extra(&[])?)?, "initrd.cpio")?;
    // Reading from a CD costs more than unpacking.
    shell::quiet(shell::command("gzip").args(["-1", "-f", "-n"]).arg(boot.join("initrd.cpio")))?;
    let config = grub_config(&options.hypervisor_args(), &options.dom0_kernel_args(scenario));
    fs::write(boot.join("grub/grub.cfg"), config)?;
    shell::quiet(shell::command("grub-mkrescue").arg("-o").arg(output).arg(&tree))
        .context("the CD image could not be made")
}

/// GRUB's menu: on the screen and on the serial line; `--nounzip` leaves unpacking to dom0's kernel.
fn grub_config(hypervisor_args: &str, kernel_args: &str) -> String {
    format!(
        "serial --unit=0 --speed=115200\n\
         terminal_input serial console\n\
         terminal_output serial console\n\
         set timeout=1\n\
         menuentry \"Radon, with Debian as dom0\" {{\n\
         \x20   multiboot2 /boot/hypervisor {hypervisor_args}\n\
         \x20   module2 --nounzip /boot/vmlinuz {kernel_args}\n\
         \x20   module2 --nounzip /boot/initrd.cpio.gz\n\
         }}\n"
    )
}
