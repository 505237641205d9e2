//! Starting and stopping, and what a newcomer is told to write down.

use std::net::{IpAddr, Ipv4Addr};

use postrider_config::{Config, Presets};
use postrider_sandbox::{Sandbox, SandboxOptions, Scenario, StartError};
use tokio::net::TcpStream;

use crate::site::{DAEMON, Site};

#[tokio::test]
async fn it_listens_on_loopback_and_nowhere_else() {
    let open = SandboxOptions {
        listen: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        ..SandboxOptions::default()
    };
    assert!(matches!(
        Sandbox::start(open).await,
        Err(StartError::NotLoopback(_))
    ));
    let site = Site::start().await;
    assert!(site.sandbox.smtp_addr().ip().is_loopback());
    assert_eq!(site.sandbox.authority().host_str(), Some("localhost"));
}

#[tokio::test]
async fn a_scenario_that_contradicts_itself_does_not_start() {
    let mut scenario = Scenario::default();
    scenario.users.clear();
    let refused = Sandbox::start(SandboxOptions {
        scenario,
        ..SandboxOptions::default()
    })
    .await;
    assert!(matches!(refused, Err(StartError::Scenario(e)) if !e.problems.is_empty()));
}

#[tokio::test]
async fn stopping_frees_every_port_and_removes_a_temporary_directory() {
    let site = Site::start().await;
    let ports = [
        site.sandbox.smtp_addr().port(),
        site.sandbox.authority().port().unwrap(),
        site.sandbox.control_url().port().unwrap(),
    ];
    let dir = site.sandbox.dir().to_owned();
    assert!(dir.join("ca.pem").exists() && dir.join("mail").is_dir());
    // A connection kept alive does not keep the sandbox.
    site.http.get(site.url("")).send().await.unwrap();
    site.http
        .get(site.sandbox.control_url().clone())
        .send()
        .await
        .unwrap();

    site.sandbox.stop().await;

    assert!(!dir.exists());
    for port in ports {
        assert!(
            TcpStream::connect((Ipv4Addr::LOCALHOST, port))
                .await
                .is_err(),
            "{port}"
        );
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_directory_it_makes_is_its_owners_alone_and_stays() {
    use std::os::unix::fs::PermissionsExt as _;
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("a/sandbox");
    let options = SandboxOptions {
        dir: Some(dir.clone()),
        ..SandboxOptions::default()
    };
    let sandbox = Sandbox::start(options).await.unwrap();
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&dir), mode(&sandbox.ca_file())), (0o700, 0o600));
    assert_eq!(
        std::fs::read_to_string(sandbox.ca_file()).unwrap(),
        sandbox.ca_pem()
    );
    drop(sandbox);
    assert!(dir.join("ca.pem").exists());
}

#[tokio::test]
async fn a_directory_in_use_is_refused_and_its_authority_stays() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("sandbox");
    let options = SandboxOptions {
        dir: Some(dir.clone()),
        ..SandboxOptions::default()
    };
    let first = Sandbox::start(options.clone()).await.unwrap();

    let error = Sandbox::start(options.clone()).await.unwrap_err();

    assert!(matches!(error, StartError::InUse(_)));
    assert_eq!(
        error.to_string(),
        format!("another sandbox uses the directory {}", dir.display())
    );
    assert_eq!(
        std::fs::read_to_string(first.ca_file()).unwrap(),
        first.ca_pem()
    );
    first.stop().await;
    Sandbox::start(options).await.unwrap().stop().await;
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let taken = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = Sandbox::start(SandboxOptions {
        entra_port: port,
        ..SandboxOptions::default()
    })
    .await
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("the sandbox cannot listen on 127.0.0.1:{port} for Entra ID")
    );
}

#[tokio::test]
async fn the_lines_to_paste_are_a_configuration() {
    let site = Site::start().await;
    let text = site.sandbox.config_snippet();
    let config =
        Config::parse(&text, None, &Presets::builtin()).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let daemon = &config.accounts["sandbox"];
    assert_eq!(
        (daemon.username.as_str(), daemon.server.port),
        ("svc-mail@contoso.com", site.sandbox.smtp_addr().port())
    );
    assert_eq!(daemon.auth.settings["client_id"], DAEMON);
    assert_eq!(daemon.server.ca_file, Some(site.sandbox.ca_file()));
    assert!(config.accounts.contains_key("sandbox-person"));
    assert!(text.contains("# export SANDBOX_CLIENT_SECRET=daemon-client-secret"));
    assert!(text.contains("# ceo@contoso.com signs in with the password ceo-password"));
    assert!(!text.contains("alerts@contoso.com signs in"));

    let served = site
        .http
        .get(site.sandbox.control_url().join("v1/config").unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(served.text().await.unwrap(), text);
}
