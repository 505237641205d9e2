//! The author's kit: a plugin is a Rust type with `async` methods.
//!
//! ```
//! use postrider_plugin::kit::{Error, ErrorKind, Io, Plugin};
//! use postrider_plugin::wire::{Config, Description, ObtainInput, Op, Secret, Tokens};
//! # use postrider_plugin::wire::HttpRequest;
//!
//! struct Metadata;
//!
//! impl Plugin for Metadata {
//!     fn describe() -> Description {
//!         Description {
//!             name: "metadata".into(),
//!             version: env!("CARGO_PKG_VERSION").into(),
//!             summary: "a token from the machine's metadata service".into(),
//!             ops: vec![Op::Obtain],
//!             mechanisms: vec![],
//!             config_schema: schemars::json_schema!({ "type": "object" }),
//!             hosts: vec!["metadata.example.org".into()],
//!         }
//!     }
//!
//!     fn create(_: Config) -> Result<Self, Error> {
//!         Ok(Self)
//!     }
//!
//!     async fn obtain(&self, io: Io, _: ObtainInput) -> Result<Tokens, Error> {
//!         let reply = io
//!             .http(HttpRequest {
//!                 method: "GET".into(),
//!                 url: "https://metadata.example.org/token".into(),
//!                 headers: vec![],
//!                 body: None,
//!             })
//!             .await?;
//!         if reply.status != 200 {
//!             return Err(Error::new(ErrorKind::Transient, "the metadata service is not ready"));
//!         }
//!         let token = String::from_utf8_lossy(&reply.body.0).into_owned();
//!         Ok(Tokens { access_token: Secret::new(token), ..Tokens::default() })
//!     }
//! }
//!
//! postrider_plugin::export!(Metadata);
//! # fn main() {}
//! ```
//!
//! There is no runtime and no thread: a method runs until it awaits something of [`Io`], the
//! host performs that, and the method runs on. So it may await nothing else (no timer, no
//! socket, no channel of another crate), and only one thing at a time; both mistakes end the
//! flow with [`ErrorKind::Internal`] and a message saying so. The host may drop a flow at
//! any await: that is cancellation.
//!
//! A panic stops at the boundary; the instance then refuses further work. Nothing of the
//! panic's message leaves, since it may quote a secret.

mod entry;
mod error;
mod flow;
mod io;
mod settings;
pub mod testing;

use std::future::Future;

#[doc(hidden)]
pub use entry::{quiet_panics, table};
pub use error::Error;
pub use io::{Io, Level};
pub use settings::SecretSetting;

pub use crate::abi::ErrorKind;
use crate::wire::{
    Config, Description, LoginInput, ObtainInput, Op, RevokeInput, SaslInput, Tokens,
};

/// An auth plugin. One value serves one account; flows share it, perhaps on several threads.
///
/// Implement the operations that [`Plugin::describe`] lists, as `async fn`.
pub trait Plugin: Sized + Send + Sync + 'static {
    /// What the plugin is and needs.
    fn describe() -> Description;

    /// An instance for one account. The settings passed the schema of [`Plugin::describe`];
    /// check here what a schema cannot say.
    fn create(config: Config) -> Result<Self, Error>;

    /// A person signs in.
    fn login(
        &self,
        io: Io,
        input: LoginInput,
    ) -> impl Future<Output = Result<Tokens, Error>> + Send {
        let _ = (io, input);
        async { Err(Error::unsupported(Op::Login)) }
    }

    /// An access token without a person.
    fn obtain(
        &self,
        io: Io,
        input: ObtainInput,
    ) -> impl Future<Output = Result<Tokens, Error>> + Send {
        let _ = (io, input);
        async { Err(Error::unsupported(Op::Obtain)) }
    }

    /// One SASL exchange. The host ends the flow when the server's final reply came, so the
    /// last [`Io::sasl_send`] or [`Io::sasl_start`] may never return.
    fn sasl(&self, io: Io, input: SaslInput) -> impl Future<Output = Result<(), Error>> + Send {
        let _ = (io, input);
        async { Err(Error::unsupported(Op::Sasl)) }
    }

    /// The provider is told to forget a token.
    fn revoke(&self, io: Io, input: RevokeInput) -> impl Future<Output = Result<(), Error>> + Send {
        let _ = (io, input);
        async { Err(Error::unsupported(Op::Revoke)) }
    }
}

/// Ships a [`Plugin`]: defines the one symbol the host looks for.
///
/// Once per `cdylib`. The library must be built with `panic = "unwind"`, Cargo's default.
#[macro_export]
macro_rules! export {
    ($plugin:ty) => {
        #[cfg(panic = "abort")]
        compile_error!("a Postrider plugin needs panic = \"unwind\": a panic would end the host");

        /// The plugin's table (`postrider_auth.h`).
        #[unsafe(no_mangle)]
        pub extern "C" fn postrider_auth_v1() -> *const $crate::abi::AuthV1 {
            static TABLE: $crate::abi::AuthV1 = $crate::kit::table::<$plugin>();
            $crate::kit::quiet_panics();
            &raw const TABLE
        }
    };
}
