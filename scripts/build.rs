//! Stores the commit in the program, for `--version` and `provenance.json`.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=.git/HEAD");
    println!("cargo:rerun-if-changed=.git/refs/heads");
    println!("cargo:rerun-if-changed=src");
    let args = ["describe", "--always", "--exclude=*", "--abbrev=40", "--dirty=-changed"];
    let described = Command::new("git").args(args).output();
    // An archive without .git has no commit.
    let commit = match described {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).into_owned()
        }
        _ => String::new(),
    };
    println!("cargo:rustc-env=BUILT_FROM_COMMIT={}", commit.trim());
}
