//! `unpack IMAGE [ELF-OUT]`: unpacks a kernel and prints how it would be loaded.
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let image = std::fs::read(args.next().ok_or("usage: unpack IMAGE [ELF-OUT]")?)?;
    let packed = radon_kernel::Packed::detect(&image)?;
    let mut elf = vec![0; packed.unpacked_len];
    packed.unpack_into(&mut elf)?;
    println!("{:?}, {} -> {} bytes", packed.format, packed.data.len(), elf.len());
    let plan = radon_kernel::LoadPlan::parse(&elf)?;
    println!("entry {:#x}", plan.entry);
    for s in &plan.segments {
        println!("segment {:#x}-{:#x} from file {:#x?}", s.gpa, s.end(), s.file);
    }
    for n in &plan.notes {
        println!("note {:2}: number {:x?}, text {:?}", n.kind, n.number(), n.text());
    }
    if let Some(out) = args.next() {
        std::fs::write(out, &elf)?;
    }
    Ok(())
}
