//! Small tables that people read.

/// Gives rows as CSV, RFC 4180.
pub(super) fn csv<const N: usize>(rows: impl IntoIterator<Item = [String; N]>) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.write_record(row).expect("a vector takes every row");
    }
    writer.into_inner().expect("a vector takes every byte")
}
