//! `docs/xenapi.md` is what the model says.

use std::path::Path;

#[test]
fn the_page_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/xenapi.md");
    let page = radon_api::document::page(radon_api::model());
    if std::env::var_os("RADON_WRITE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == page,
        "docs/xenapi.md is old; RADON_WRITE_DOCS=1 cargo test -p radon-api --test document writes it"
    );
}
