//! What gateways count.
//!
//! Names of gateways come from the configuration, and words for results from the program: a device
//! cannot make up a series.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::{Metrics, Names};

/// Counters of gateways, by name.
#[derive(Default)]
pub(super) struct Gateways {
    sessions: Family<GatewayLabel, Counter>,
    auth: Family<AuthLabels, Counter>,
    messages: Family<GatewayLabel, Counter>,
    refusals: Family<RefusalLabels, Counter>,
    names: Names,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct GatewayLabel {
    pub(super) gateway: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AuthLabels {
    gateway: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    gateway: String,
    reason: &'static str,
}

impl Gateways {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "gateway_sessions",
            "Connections to gateways that were greeted",
            self.sessions.clone(),
        );
        registry.register(
            "gateway_auth",
            "Sign-ins of devices by how they ended",
            self.auth.clone(),
        );
        registry.register(
            "gateway_messages",
            "Messages that gateways took into the queue",
            self.messages.clone(),
        );
        registry.register(
            "gateway_refusals",
            "Connections, senders, recipients and messages that gateways refused, by the reason",
            self.refusals.clone(),
        );
    }

    fn label(&self, gateway: &str) -> GatewayLabel {
        GatewayLabel {
            gateway: self.names.bounded(gateway),
        }
    }
}

impl Metrics {
    /// A connection to a gateway was greeted.
    pub fn gateway_session(&self, gateway: &str) {
        let gateways = &self.0.gateways;
        let label = gateways.label(gateway);
        gateways.sessions.get_or_create(&label).inc();
    }

    /// A device signed in, or could not: `result` is `ok`, or one of a few words.
    pub fn gateway_auth(&self, gateway: &str, result: &'static str) {
        let gateways = &self.0.gateways;
        let GatewayLabel { gateway } = gateways.label(gateway);
        let labels = AuthLabels { gateway, result };
        gateways.auth.get_or_create(&labels).inc();
    }

    /// A gateway took a message into the queue.
    pub fn gateway_message(&self, gateway: &str) {
        let gateways = &self.0.gateways;
        let label = gateways.label(gateway);
        gateways.messages.get_or_create(&label).inc();
    }

    /// A gateway refused something: `reason` is one of a few words.
    pub fn gateway_refusal(&self, gateway: &str, reason: &'static str) {
        let gateways = &self.0.gateways;
        let GatewayLabel { gateway } = gateways.label(gateway);
        let labels = RefusalLabels { gateway, reason };
        gateways.refusals.get_or_create(&labels).inc();
    }
}
