use super::*;
use proptest::prelude::*;
use std::process::Command;

const AT: u64 = 0xfc00_0000;

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// The table at an address in the guest.
fn at(tables: &Tables, address: u64) -> &[u8] {
    let start = (address - AT) as usize;
    let len = u32_at(&tables.bytes, start + 4) as usize;
    &tables.bytes[start..start + len]
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |s, b| s.wrapping_add(*b))
}

/// The tables that the XSDT lists, and the DSDT and FACS that the FADT names.
fn walk(tables: &Tables) -> Vec<(String, Vec<u8>)> {
    assert_eq!(&tables.rsdp[..8], b"RSD PTR ");
    assert_eq!(tables.bytes[..36], tables.rsdp[..]);
    assert_eq!((sum(&tables.rsdp[..20]), sum(&tables.rsdp)), (0, 0));
    let xsdt = at(tables, u32_at(&tables.rsdp, 24).into());
    let mut found = vec![("XSDT".to_owned(), xsdt.to_vec())];
    for entry in xsdt[36..].chunks(8) {
        let table = at(tables, u64::from_le_bytes(entry.try_into().unwrap()));
        found.push((String::from_utf8_lossy(&table[..4]).into_owned(), table.to_vec()));
        if table.starts_with(b"FACP") {
            assert_eq!(u32_at(table, 40), u32_at(table, 140));
            found.push(("DSDT".into(), at(tables, u32_at(table, 140).into()).to_vec()));
            found.push(("FACS".into(), at(tables, u32_at(table, 132).into()).to_vec()));
            assert_eq!(u32_at(table, 132) % 64, 0);
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn every_table_is_found_and_sums_to_zero(vcpus in 1..=MOST_VCPUS) {
        let tables = tables(AT, vcpus);
        let found = walk(&tables);
        let names: Vec<&str> = found.iter().map(|f| f.0.as_str()).collect();
        prop_assert_eq!(names, ["XSDT", "FACP", "DSDT", "FACS", "APIC"]);
        for (name, table) in &found {
            if name != "FACS" {
                prop_assert_eq!(sum(table), 0, "{}", name);
            }
        }
        let madt = &found[4].1;
        prop_assert_eq!(madt.len(), 44 + 8 * vcpus as usize);
    }
}

/// The reference implementation reads every table, and finds in the DSDT what was meant.
#[test]
fn acpica_reads_them() {
    let folder = tempfile::tempdir().unwrap();
    for vcpus in [1, 2, 17, MOST_VCPUS] {
        for (name, table) in walk(&tables(AT, vcpus)).iter().filter(|t| t.0 != "XSDT") {
            let path = folder.path().join(format!("{}.dat", name.to_lowercase()));
            std::fs::write(&path, table).unwrap();
            let out =
                Command::new("iasl").arg("-d").arg(&path).output().expect("iasl, of package acpica-tools");
            let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
            assert!(out.status.success(), "{name}: {said}");
            for bad in ["Error", "Warning", "Invalid", "Could not", "Incorrect"] {
                assert!(!said.contains(bad), "{name}: {said}");
            }
            let text = std::fs::read_to_string(path.with_extension("dsl")).unwrap();
            match name.as_str() {
                "DSDT" => assert_eq!(text.matches("\"ACPI0007\"").count(), vcpus as usize),
                "APIC" => assert_eq!(text.matches("[Processor Local APIC]").count(), vcpus as usize),
                "FACP" => assert!(text.contains("000000000000B004"), "{text}"),
                _ => {}
            }
        }
    }
}
