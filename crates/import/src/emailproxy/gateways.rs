//! The proxy's listeners, as gateways.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::Value;

use super::{Import, LocalServer};
use crate::Options;
use crate::gateway::{ImportedDevice, ImportedGateway};
use crate::ini::truth;
use crate::left::NotCarried;

impl<'a> Import<'a> {
    pub(super) fn gateways(&mut self, options: &Options) {
        for server in std::mem::take(&mut self.servers) {
            if let Some(gateway) = self.gateway(&server, options) {
                self.imported.gateways.push(gateway);
            }
            self.servers.push(server);
        }
    }

    fn gateway(&mut self, server: &LocalServer<'a>, options: &Options) -> Option<ImportedGateway> {
        let section = server.section;
        let place = section.place.clone();
        let first = *server.accounts.first().or_else(|| {
            self.imported.not_carried.push(NotCarried::new(
                place.clone(),
                &format!("[{}]", section.name),
                "no mailbox in the file sends through it",
            ));
            None
        })?;
        let get = |key: &str| {
            let entry = self.ini.get(section, key)?;
            (!entry.value.is_empty()).then_some(entry)
        };
        let name = self.names.of(&section.name.to_lowercase());
        let mut gateway = ImportedGateway::new(name, place);
        let address = get("local_address").map_or("localhost", |entry| entry.value.as_str());
        let here = matches!(address, "localhost" | "127.0.0.1" | "::1" | "[::1]");
        let own: Option<IpAddr> = address.trim_matches(['[', ']']).parse().ok();
        let own = own.filter(|_| !here && !options.clients.is_empty());
        let open = own.is_some();
        let listen = SocketAddr::new(own.unwrap_or(Ipv4Addr::LOCALHOST.into()), server.port);
        gateway.set("listen", listen.to_string());
        if open {
            gateway.set("clients", options.clients.as_slice());
        } else if !here {
            let place = get("local_address").map_or(&section.place, |entry| &entry.place);
            self.imported.not_carried.push(
                NotCarried::new(
                    place.clone(),
                    "local_address",
                    "who may reach it from other machines is not in the file, so it listens on \
                     the loopback interface alone",
                )
                .instead("import with --client NETWORK, or set listen and clients"),
            );
        }
        if let (Some(certificate), Some(key)) =
            (get("local_certificate_path"), get("local_key_path"))
        {
            let place = certificate.place.clone();
            let paths = (self.beside(certificate), self.beside(key));
            let left = &mut self.imported.not_carried;
            gateway.certificate(&paths.0, &paths.1, &place, self.files, left);
            let starttls = get("local_starttls").is_some_and(|entry| truth(&entry.value));
            gateway.set("tls", if starttls { "starttls" } else { "implicit" });
        } else {
            // Clients on this machine go on without TLS; others have to learn it.
            gateway.set("tls", "offered");
            if open {
                self.imported.not_carried.push(
                    NotCarried::new(
                        section.place.clone(),
                        &format!("[{}] without TLS", section.name),
                        "clients on other machines must use STARTTLS: passwords do not cross \
                         a network in clear",
                    )
                    .instead("turn STARTTLS on in these clients"),
                );
            }
        }
        let accounts = &self.imported.accounts;
        let account = |at: &usize| accounts.get(*at);
        gateway.set("account", account(&first)?.name.as_str());
        let with_passwords = server.accounts.iter().zip(&server.passwords);
        for (account, password) in with_passwords.filter_map(|(at, it)| Some((account(at)?, it))) {
            let mut settings = serde_json::Map::new();
            if server.accounts.len() > 1 {
                settings.insert("account".to_owned(), Value::from(account.name.as_str()));
            }
            gateway.devices.push(ImportedDevice {
                name: account.username().to_owned(),
                settings,
                password: password.clone(),
            });
        }
        Some(gateway)
    }
}
