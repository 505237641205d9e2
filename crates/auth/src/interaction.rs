//! What a flow shows to a person and asks of them.
//!
//! Texts reach an [`Interaction`] bounded and without control characters, URLs with a scheme
//! a browser may open. Whether anybody is there is for the implementation to say.

use futures_util::future::{BoxFuture, FutureExt as _, ready};
use postrider_plugin::wire::{DeviceCode, Prompt, Secret};

use crate::flow::ReturnedBrowser;

/// A person, or the lack of one.
pub trait Interaction: Send + Sync {
    /// Shows a code to type on another device; false when nobody is there.
    fn device_code(&self, account: &str, code: &DeviceCode) -> bool;

    /// Shows a URL for the person's browser. The redirect is awaited elsewhere: the future
    /// resolves only to cut that short, with the redirected URL the person brought back
    /// themselves, or with `None` when nobody is there or they declined. An implementation
    /// that merely shows the URL returns [`futures_util::future::pending`].
    fn open_url<'a>(&'a self, account: &'a str, url: &'a str) -> BoxFuture<'a, Option<Secret>>;

    /// The browser came back and waits for a page that says how the sign-in went. An
    /// implementation that learns how it went keeps it until then.
    fn returned(&self, browser: ReturnedBrowser) {
        drop(browser);
    }

    /// Asks the person; `None` when nobody is there or they declined.
    fn prompt<'a>(&'a self, account: &'a str, prompt: &'a Prompt) -> BoxFuture<'a, Option<Secret>>;
}

/// Nobody is there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unattended;

impl Interaction for Unattended {
    fn device_code(&self, _account: &str, _code: &DeviceCode) -> bool {
        false
    }

    fn open_url<'a>(&'a self, _account: &'a str, _url: &'a str) -> BoxFuture<'a, Option<Secret>> {
        ready(None).boxed()
    }

    fn prompt<'a>(
        &'a self,
        _account: &'a str,
        _prompt: &'a Prompt,
    ) -> BoxFuture<'a, Option<Secret>> {
        ready(None).boxed()
    }
}
