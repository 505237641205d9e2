//! Exchange Online: SMTP client submission.
