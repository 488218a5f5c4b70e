//! Tests in simulated time.

mod affinity;
mod fairness;
mod model;
mod pools;
mod sim;
