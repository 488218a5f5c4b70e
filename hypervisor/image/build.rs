//! Hands the link script to the linker for the bare-metal image; a host build is an ordinary program.

fn main() {
    println!("cargo::rerun-if-changed=link.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let dir = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bins=-T{dir}/link.ld");
        // The loader reads the file as one flat range (see the Multiboot header): pages in the file as in memory.
        println!("cargo::rustc-link-arg-bins=-zmax-page-size=4096");
        println!("cargo::rustc-link-arg-bins=--no-gc-sections");
    }
}
