//! Benchmarks against other crates; there is nothing here but them (`make bench`).
