//! Messages of HTTP/1 as the scripts of both sides make and read them. Naive on purpose: it shares no line with the router.

/// What a body is made of: its tag over and over, so that every byte says whose it is.
pub(super) fn body(tag: &str, length: usize) -> Vec<u8> {
    format!("{tag};").bytes().cycle().take(length).collect()
}

/// A body in chunks of a size, with a trailer when `trailer` says so.
pub(super) fn chunked(body: &[u8], size: usize, trailer: bool) -> Vec<u8> {
    let mut text = Vec::new();
    for chunk in body.chunks(size.max(1)) {
        text.extend(format!("{:x}\r\n", chunk.len()).bytes());
        text.extend(chunk);
        text.extend(b"\r\n");
    }
    text.extend(if trailer { &b"0\r\nX-End: yes\r\n\r\n"[..] } else { b"0\r\n\r\n" });
    text
}

/// A message read from the front of some bytes.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) head: String,
    /// What of the body has come.
    pub(super) body: Vec<u8>,
    /// All of it has.
    pub(super) whole: bool,
    /// Bytes that it takes up.
    pub(super) length: usize,
}

impl Message {
    /// The value of a field.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The status of a response.
    pub(super) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// The path of a request.
    pub(super) fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or("")
    }
}

/// How the end of a message without a length is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Open {
    /// There is no body: it is a request.
    NoBody,
    /// The end of the connection, which has come or not.
    Close { closed: bool },
}

/// Reads the first message; none before its head is whole. `bodyless` says that it has none whatever it announces.
pub(super) fn read(bytes: &[u8], open: Open, bodyless: bool) -> Option<Result<Message, String>> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = match std::str::from_utf8(bytes.get(..end)?) {
        Ok(head) => head.to_owned(),
        Err(_) => return Some(Err("a head that is no text".to_owned())),
    };
    let mut message = Message { head, body: Vec::new(), whole: true, length: end };
    let rest = bytes.get(end..)?;
    let status = message.status();
    let none = bodyless || (open != Open::NoBody && (status < 200 || status == 204 || status == 304));
    if none {
        return Some(Ok(message));
    }
    if message.field("Transfer-Encoding").is_some() {
        return Some(read_chunks(message, rest));
    }
    let length = message.field("Content-Length").map(|length| length.parse::<usize>());
    match (length, open) {
        (Some(Err(_)), _) => return Some(Err("a length that is no number".to_owned())),
        (Some(Ok(length)), _) => {
            message.whole = rest.len() >= length;
            message.body = rest.get(..length).unwrap_or(rest).to_vec();
        }
        (None, Open::NoBody) => {}
        (None, Open::Close { closed }) => {
            message.body = rest.to_vec();
            message.whole = closed;
        }
    }
    message.length += message.body.len();
    Some(Ok(message))
}

fn read_chunks(mut message: Message, rest: &[u8]) -> Result<Message, String> {
    let line = |from: usize| {
        let at = rest.get(from..)?.windows(2).position(|two| two == b"\r\n")?;
        Some((rest.get(from..from + at)?, from + at + 2))
    };
    message.whole = false;
    let mut from = 0;
    while let Some((size, after)) = line(from) {
        let text = String::from_utf8_lossy(size);
        let size = usize::from_str_radix(text.trim(), 16).map_err(|_| format!("a chunk of size {text:?}"))?;
        if size == 0 {
            let mut from = after;
            while let Some((trailer, after)) = line(from) {
                from = after;
                if trailer.is_empty() {
                    message.whole = true;
                    message.length += from;
                    return Ok(message);
                }
            }
            break;
        }
        let chunk = rest.get(after..).unwrap_or(&[]);
        message.body.extend(chunk.get(..size).unwrap_or(chunk));
        if chunk.len() < size + 2 {
            break;
        }
        from = after + size + 2;
    }
    message.length += rest.len();
    Ok(message)
}
