//! Devices that a gateway refused lately, each with what to do about it.

use std::time::{Duration, SystemTime};

use postrider_gateway::report::Refusee;

use super::report::{DoctorStage, Finding, YOU};
use crate::app::gateway::NO_CLIENT;
use crate::control::FailingDevice;
use crate::when;

/// So many are told of.
const TOLD: usize = 5;

/// The devices that failed last. Whoever is on the network can fail: none of them is a fault of
/// the gateway.
pub(super) fn stages(
    gateway: &str,
    failing: &[FailingDevice],
    now: SystemTime,
) -> Vec<DoctorStage> {
    const NAME: &str = "device";
    let stage = |device: &FailingDevice| {
        let who = match &device.device {
            Some(name) => format!("{name} ({})", device.client),
            None => device.client.to_string(),
        };
        let times = match device.count {
            1 => "once".to_owned(),
            count => format!("{count} times"),
        };
        let last = when::relative(device.at, now);
        let evidence = format!("{who}: failed {times}, last {last}");
        let finding = Finding::new(
            "gateway.device_fails",
            device.why.clone(),
            next_step(gateway, device),
            YOU,
        );
        DoctorStage::warning(NAME, Duration::ZERO, evidence, finding)
    };
    let mut stages: Vec<_> = failing.iter().take(TOLD).map(stage).collect();
    if failing.len() > TOLD {
        let more = failing.len() - TOLD;
        let evidence = format!("and {more} more that failed: postrider status --json");
        stages.push(DoctorStage::skipped(NAME, evidence));
    }
    stages
}

/// What to do about a device that heard this.
fn next_step(gateway: &str, device: &FailingDevice) -> String {
    if device.device.is_none() && device.why == NO_CLIENT {
        return format!("if it is one of yours, add its network to clients of [gateway.{gateway}]");
    }
    let refusee = Refusee {
        gateway,
        device: device.device.as_deref(),
        has_settings: false,
    };
    refusee.next_step(&device.why).unwrap_or_else(|| {
        let which = device.device.as_ref();
        let which = which.map_or_else(String::new, |name| format!(" --device {name}"));
        format!("postrider gateway report --gateway {gateway}{which} tells all that was refused")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::Moment;

    fn failing(device: Option<&str>, why: &str) -> FailingDevice {
        FailingDevice {
            device: device.map(str::to_owned),
            client: [192, 168, 1, 20].into(),
            at: Moment(SystemTime::UNIX_EPOCH),
            why: why.to_owned(),
            count: 3,
        }
    }

    #[test]
    fn each_refusal_has_a_next_step() {
        for (device, why, step) in [
            (
                Some("ups"),
                "535 5.7.8 x",
                "credential add ups --gateway office --replace",
            ),
            (None, "535 5.7.8 x", "credential list --gateway office"),
            (None, NO_CLIENT, "clients of [gateway.office]"),
            (None, "530 5.7.0 x", "switch sign-in and encryption on"),
            (
                Some("ups"),
                "550 5.7.1 you may not send as a@b.c, but as d@e.f",
                "rewrite_from",
            ),
            (
                Some("ups"),
                "500 5.5.2 x",
                "report --gateway office --device ups",
            ),
            (None, "500 5.5.2 x", "report --gateway office tells"),
        ] {
            let found = next_step("office", &failing(device, why));
            assert!(found.contains(step), "{why}: {found}");
        }
    }

    #[test]
    fn a_crowd_of_them_is_counted() {
        let many = vec![failing(None, "535 5.7.8 x"); 7];
        let stages = stages(
            "office",
            &many,
            SystemTime::UNIX_EPOCH + Duration::from_mins(5),
        );
        assert_eq!(stages.len(), TOLD + 1);
        assert_eq!(
            stages[0].evidence,
            "192.168.1.20: failed 3 times, last 5 min ago"
        );
        assert!(stages[TOLD].evidence.starts_with("and 2 more"));
    }
}
