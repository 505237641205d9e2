//! Who a message says it is from, on its envelope and in its header, after a script had it.

use postrider_smtp::message::{Field, Header, Intake};

/// All who are named as its authors.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Authors {
    reverse_path: Option<String>,
    from: Vec<Vec<String>>,
    sender: Vec<Vec<String>>,
    /// The header could be read; else nobody knows who is named.
    is_readable: bool,
}

impl Authors {
    /// Those of this message.
    pub(crate) fn of(reverse_path: Option<&str>, octets: &[u8]) -> Self {
        let header = header(octets);
        let is_readable = header.is_some();
        let header = header.unwrap_or_default();
        let named = |name: &str| {
            let fields = header.fields().filter(|field| field.is(name));
            fields.map(Field::addresses).collect()
        };
        Self {
            reverse_path: reverse_path.map(str::to_owned),
            from: named("From"),
            sender: named("Sender"),
            is_readable,
        }
    }

    /// Whether these are known to be the same.
    pub(crate) fn are(&self, others: &Self) -> bool {
        self.is_readable && self == others
    }

    /// Whether everybody who is named may be, and somebody is.
    ///
    /// # Errors
    /// Who may not.
    pub(crate) fn check(&self, may: impl Fn(&str) -> bool) -> Result<(), String> {
        if !self.is_readable {
            return Err("its header is too long".to_owned());
        }
        if let Some(path) = &self.reverse_path
            && !may(path)
        {
            return Err(format!("the device may not send as {path:?}"));
        }
        for (name, fields) in [("From", &self.from), ("Sender", &self.sender)] {
            if fields.len() > 1 || (name == "From" && fields.is_empty()) {
                return Err(format!("it has {} fields {name}", fields.len()));
            }
            for addresses in fields {
                if addresses.is_empty() {
                    return Err(format!("its field {name} has no address"));
                }
                if let Some(other) = addresses.iter().find(|address| !may(address)) {
                    return Err(format!("the device may not send as {other:?} ({name})"));
                }
            }
        }
        Ok(())
    }
}

/// Its header; none where it is longer than a gateway takes one.
fn header(octets: &[u8]) -> Option<Header> {
    let end = octets.windows(4).position(|four| four == b"\r\n\r\n");
    let octets = end.map_or(octets, |end| &octets[..end + 2]);
    let (mut intake, mut body) = (Intake::default(), Vec::new());
    let read = intake
        .push(octets, &mut body)
        .and_then(|()| intake.finish(&mut body));
    read.ok().map(|()| intake.take_header())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(path: &str, header: &str) -> Result<(), String> {
        let text = format!("{header}Subject: x\r\n\r\nFrom: body@example.org\r\n");
        let path = (!path.is_empty()).then_some(path);
        Authors::of(path, text.as_bytes()).check(|address| address == "a@contoso.com")
    }

    #[test]
    fn everybody_who_is_named_has_to_be_allowed() {
        for (path, header, problem) in [
            ("a@contoso.com", "From: A <a@contoso.com>\r\n", ""),
            ("", "From: a@contoso.com\r\nSender: a@contoso.com\r\n", ""),
            (
                "b@contoso.com",
                "From: a@contoso.com\r\n",
                "\"b@contoso.com\"",
            ),
            ("", "From: a@contoso.com, b@contoso.com\r\n", "(From)"),
            (
                "",
                "From: a@contoso.com\r\nSender: b@contoso.com\r\n",
                "(Sender)",
            ),
            (
                "",
                "From: a@contoso.com\r\nfrom: a@contoso.com\r\n",
                "2 fields From",
            ),
            ("", "", "0 fields From"),
            ("", "From: nobody\r\n", "From"),
        ] {
            let problem_found = checked(path, header).err().unwrap_or_default();
            assert_eq!(problem_found.is_empty(), problem.is_empty(), "{header}");
            assert!(problem_found.contains(problem), "{problem_found}");
        }
    }
}
