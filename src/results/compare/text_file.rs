//! Decodes text files of other programs: a byte order mark, UTF-16, and line ends of every system.

/// Decodes UTF-8 or UTF-16 text, with or without a byte order mark.
///
/// Removes NUL bytes at the end, which a power failure may leave. An error describes why `bytes` are not text.
pub(super) fn text(bytes: Vec<u8>) -> Result<String, &'static str> {
    let units = |pair: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes.chunks_exact(2).map(|two| pair([two[0], two[1]])).collect();
        String::from_utf16(&units).map_err(|_| "this is not a text file")
    };
    let text = match bytes[..] {
        [0xff, 0xfe, ..] => units(u16::from_le_bytes)?,
        [0xfe, 0xff, ..] => units(u16::from_be_bytes)?,
        // Without a mark, the zero byte of the first ASCII character tells the order.
        [first, 0, ..] if first != 0 => units(u16::from_le_bytes)?,
        [0, second, ..] if second != 0 => units(u16::from_be_bytes)?,
        _ if bytes.iter().any(|byte| *byte < b' ' && !b"\t\r\n\0".contains(byte)) => {
            return Err("this is not a text file");
        }
        _ => String::from_utf8(bytes).map_err(|_| "the encoding is neither UTF-8 nor UTF-16")?,
    };
    Ok(text.trim_start_matches('\u{feff}').trim_end_matches('\0').to_owned())
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn every_encoding_of_a_text_is_read() {
        let expected = "epoch;x\r\n1;0,5\r\n";
        let utf16 = |mark: &str, bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
            format!("{mark}{expected}").encode_utf16().flat_map(bytes).collect()
        };
        for bytes in [
            expected.as_bytes().to_vec(),
            format!("\u{feff}{expected}").into_bytes(),
            format!("{expected}\0\0\0").into_bytes(),
            utf16("\u{feff}", u16::to_le_bytes),
            utf16("\u{feff}", u16::to_be_bytes),
            utf16("", u16::to_le_bytes),
            utf16("", u16::to_be_bytes),
        ] {
            assert_eq!(text(bytes).unwrap(), expected);
        }
        assert_eq!(text(b"PK\x03\x04".to_vec()), Err("this is not a text file"));
        assert_eq!(text(b"Gr\xf6\xdfe".to_vec()), Err("the encoding is neither UTF-8 nor UTF-16"));
    }
}
