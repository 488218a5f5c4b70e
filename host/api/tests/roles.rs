//! Who may call what: every message with the role that it needs, as `roles.txt` has it. Who changes a role changes that page.

use std::path::Path;

#[test]
fn every_message_needs_the_role_that_the_page_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/roles.txt");
    let mut lines: Vec<String> =
        radon_api::model().messages().map(|m| format!("{} {}\n", m.full_name(), m.role)).collect();
    lines.sort();
    let page = lines.concat();
    if std::env::var_os("RADON_WRITE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let differ: Vec<_> = page.lines().filter(|l| !kept.lines().any(|k| k == *l)).collect();
    assert!(page == kept, "roles differ from tests/roles.txt: {differ:?}");
}
