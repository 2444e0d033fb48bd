//! Text and files inside HTML.

use std::fmt::Write;

/// Text that HTML shows as it is, in an element or in a quoted attribute.
pub fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            // HTML has no control characters.
            c if c.is_control() && !matches!(c, '\n' | '\t') => html.push(char::REPLACEMENT_CHARACTER),
            c => html.push(c),
        }
    }
    html
}

/// A file as a URL that contains it, for example of the type `image/png`.
pub fn data_url(mime: &str, bytes: &[u8]) -> String {
    let mut url = String::with_capacity(bytes.len().div_ceil(3) * 4 + mime.len() + 16);
    // Writing to a string cannot fail.
    let _ = write!(url, "data:{mime};base64,");
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let value = bits >> (18 - 6 * digit) & 63;
            url.push(if digit <= chunk.len() { DIGITS[value as usize] as char } else { '=' });
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_becomes_text() {
        assert_eq!(
            escaped("a<b> & \"c\" 'd'\u{1b}\u{0}\n"),
            "a&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;��\n"
        );
        assert_eq!(escaped("–µ ≤ 2"), "–µ ≤ 2");
    }

    #[test]
    fn base64_agrees_with_rfc_4648() {
        for (text, expected) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(data_url("x/y", text.as_bytes()), format!("data:x/y;base64,{expected}"));
        }
        assert!(data_url("image/gif", &[0xfb, 0xff]).ends_with(",+/8="));
    }
}
