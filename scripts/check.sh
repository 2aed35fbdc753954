#!/usr/bin/env bash
# Checks a change, cheapest check first. `typos` and `cargo deny` run only if they are installed.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo fmt --check
if command -v typos > /dev/null; then typos; fi
cargo clippy --release --all-targets -- -D warnings
cargo test --release
RUSTDOCFLAGS="-D warnings" cargo doc --release --no-deps
if command -v cargo-deny > /dev/null; then cargo deny --config .cargo/deny.toml check; fi
