//! Builds the crate again when a migration is added: `sqlx::migrate!` watches only the files it has seen.

fn main() {
    println!("cargo::rerun-if-changed=migrations");
}
