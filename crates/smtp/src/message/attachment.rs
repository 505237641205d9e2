//! Files on their way into a message.

use std::{fs::OpenOptions, io::Read, os::unix::fs::OpenOptionsExt, path::Path};

use lettre::message::{
    SinglePart,
    header::{ContentDisposition, ContentId, ContentTransferEncoding, ContentType},
};

use super::{Attachment, MessageError, Source, fields};

/// A name that file systems take.
const MAX_FILE_NAME_OCTETS: usize = 255;
const UNKNOWN_TYPE: &str = "application/octet-stream";

/// The part, and whether the HTML shows it. Reads at most `budget` octets and takes them off it.
pub(super) fn part(
    index: usize,
    attachment: Attachment,
    budget: &mut usize,
) -> Result<(SinglePart, bool), MessageError> {
    let field = |key: &str| format!("attachments[{}].{key}", index + 1);
    let name = match (&attachment.name, &attachment.source) {
        (Some(name), _) => {
            check_file_name(&field("name"), name)?;
            name.clone()
        }
        (None, Source::Path(path)) => {
            let name = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default();
            check_file_name(&field("path"), &name)?;
            name
        }
        (None, Source::Bytes(_)) => return Err(MessageError::new(field("name"), "is missing")),
    };
    let content_type = content_type(&field("type"), attachment.mime_type.as_deref(), &name)?;
    let content_id = attachment
        .content_id
        .as_deref()
        .map(|id| content_id(&field("cid"), id))
        .transpose()?;
    let octets = match attachment.source {
        Source::Path(path) => read(&field("path"), &path, *budget)?,
        Source::Bytes(octets) => octets,
    };
    // Base64 makes four octets of three, and a line end of each 57.
    let encoded = octets.len() / 57 * 78 + 80;
    *budget = budget.checked_sub(encoded).ok_or_else(|| {
        MessageError::new(
            format!("attachments[{}]", index + 1),
            "the message would become too large",
        )
    })?;
    let mut builder = SinglePart::builder()
        .content_type(content_type)
        // Whatever the file holds, its octets arrive: even text keeps its line ends.
        .header(ContentTransferEncoding::Base64);
    let inline = content_id.is_some();
    builder = match content_id {
        Some(id) => builder
            .header(ContentId::from(id))
            .header(ContentDisposition::inline_with_name(&name)),
        None => builder.header(ContentDisposition::attachment(&name)),
    };
    Ok((builder.body(octets), inline))
}

fn check_file_name(field: &str, name: &str) -> Result<(), MessageError> {
    fields::check_value(field, name)?;
    if name.is_empty() || name.len() > MAX_FILE_NAME_OCTETS || name.contains(['/', '\\']) {
        return Err(MessageError::new(
            field,
            format!("not a file name: {:?}", fields::shorten(name)),
        ));
    }
    Ok(())
}

fn content_type(field: &str, given: Option<&str>, name: &str) -> Result<ContentType, MessageError> {
    let guessed;
    let text = if let Some(text) = given {
        fields::check_value(field, text)?;
        text
    } else {
        guessed = mime_guess::from_path(name)
            .first_raw()
            .unwrap_or(UNKNOWN_TYPE);
        guessed
    };
    let invalid = || {
        MessageError::new(
            field,
            format!("not a MIME type: {:?}", fields::shorten(text)),
        )
    };
    if text.len() > MAX_FILE_NAME_OCTETS || text.to_ascii_lowercase().starts_with("multipart/") {
        return Err(invalid());
    }
    ContentType::parse(text).map_err(|_| invalid())
}

fn content_id(field: &str, id: &str) -> Result<String, MessageError> {
    let id = id
        .strip_prefix('<')
        .and_then(|id| id.strip_suffix('>'))
        .unwrap_or(id);
    let allowed = |octet: u8| octet.is_ascii_alphanumeric() || b"@._-+".contains(&octet);
    if id.is_empty() || id.len() > MAX_FILE_NAME_OCTETS || !id.bytes().all(allowed) {
        let message = format!(
            "not a content id (letters, digits and @._-+): {:?}",
            fields::shorten(id)
        );
        return Err(MessageError::new(field, message));
    }
    Ok(format!("<{id}>"))
}

fn read(field: &str, path: &Path, budget: usize) -> Result<Vec<u8>, MessageError> {
    let failed = |error: std::io::Error| {
        MessageError::new(field, format!("cannot read {}: {error}", path.display()))
    };
    // A pipe nobody writes to would keep the opening waiting.
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)
        .map_err(failed)?;
    let size = file.metadata().map_err(failed)?;
    if !size.is_file() {
        return Err(MessageError::new(
            field,
            format!("{} is not a regular file", path.display()),
        ));
    }
    let too_large =
        || MessageError::new(field, format!("{} is too large to be sent", path.display()));
    let expected = usize::try_from(size.len())
        .ok()
        .filter(|&size| size <= budget)
        .ok_or_else(too_large)?;
    let mut octets = Vec::with_capacity(expected);
    // It may have grown since.
    let limit = u64::try_from(budget).unwrap_or(u64::MAX);
    file.take(limit.saturating_add(1))
        .read_to_end(&mut octets)
        .map_err(failed)?;
    if octets.len() > budget {
        Err(too_large())
    } else {
        Ok(octets)
    }
}
