//! The slice of Microsoft Graph that setting up, checking and renewing an account needs.
//!
//! [`Graph`] turns calls into requests and answers into types; a [`Transport`] carries them, so
//! proxies, TLS and time-outs are the caller's. The invariants: the token goes to the one origin
//! that [`Graph::new`] was given and to no other, paging included; what a server says is
//! bounded before it is believed; a request that creates something is sent again only when the
//! server said that it did not take it.
//!
//! Not here: sign-in and tokens, what an error means to a person, what an account needs.
#![forbid(unsafe_code)]
#![allow(
    clippy::result_large_err,
    reason = "an error tells what Graph said; beside a request over the network its size is nothing"
)]

pub mod ids;

mod address;
mod answer;
mod application;
mod client;
mod credential;
mod directory;
mod error;
mod grant;
mod licence;
mod principal;
mod transport;

pub use application::{
    Application, ApplicationPatch, NewApplication, Owner, RequiredAccess, RequiredPermission,
};
pub use client::Graph;
pub use credential::{Certificate, NewCertificate, NewPassword, Password};
pub use directory::{Domain, Organization, Role, User};
pub use error::{GraphError, GraphErrorKind};
pub use grant::{AppRoleAssignment, Consent, DelegatedGrant};
pub use licence::{Mailbox, ProvisioningStatus, ServicePlan, mailbox_plan};
pub use principal::{Permission, PermissionKind, Resource, ServicePrincipal};
pub use transport::{
    Method, RESPONSE_OCTETS, Request, Response, Transport, TransportError, TransportErrorKind,
};
