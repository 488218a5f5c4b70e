//! Tests with synthetic hosts.

mod derive;
mod exchange;
mod hosts;
mod query;
