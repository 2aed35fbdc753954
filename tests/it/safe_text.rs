//! Names that others chose: they neither run in a spreadsheet nor move the cursor of a terminal.

#![expect(clippy::disallowed_methods, reason = "these tests write files of others")]

use super::program::Bench;
use std::fs;

#[test]
fn texts_that_look_like_formulas_are_escaped_in_csv_files_and_read_back() {
    let bench = Bench::new("");
    let table = |value: &str, top1: &str| {
        let text = format!("note,offset,pretrain_epoch,finetune_top1\n{value},-0.5,8,{top1}\n");
        fs::write(bench.path(&format!("{top1}.csv")), text).unwrap();
    };
    table("=1+1", "80");
    // As an earlier comparison has written it.
    table("'=1+1", "81");
    table("other", "82");
    let text = bench.done(&["compare", "80.csv", "81.csv", "82.csv", "--csv", "out.csv"]);
    assert!(text.contains("80.csv/note==1+1,") && text.contains("81.csv/note==1+1,"), "{text}");
    let table = bench.read("out.csv");
    assert_eq!(table.matches(",'=1+1,8,").count(), 2, "{table}");
}

#[test]
fn names_of_files_stay_on_one_line_and_run_in_no_spreadsheet() {
    let bench = Bench::new("");
    let name = "=data/train/a\n\u{1b}[2Jb.jpg";
    fs::create_dir_all(bench.path("=data/train")).unwrap();
    fs::write(bench.path(name), "no picture").unwrap();
    let check = bench.mae(&["data", "check", "=data", "--csv", "found.csv"]);
    let text = String::from_utf8(check.stdout).unwrap();
    assert!(
        text.contains("\n  =data/train/a\\n\\u{1b}[2Jb.jpg: corrupt or unsupported image"),
        "{text}"
    );
    assert!(bench.read("found.csv").contains(&format!("bad,train,\"'{name}\",")));
    let error = bench.refused(&["plan", "a\u{1b}[2Jb.toml"], 2);
    assert!(error.contains("a\\u{1b}[2Jb.toml"), "{error}");
}
