//! A listener as it is imported.

use secrecy::SecretString;
use serde_json::{Map, Value};

use crate::files::{self, Files};
use crate::left::{NotCarried, Place, shown};

/// A listener.
#[derive(Debug)]
pub struct ImportedGateway {
    /// What it is called.
    pub name: String,
    /// Where it stands in the file.
    pub place: Place,
    /// The keys of `[gateway.NAME]`, `device` not among them.
    pub settings: Map<String, Value>,
    /// Who signs in to it.
    pub devices: Vec<ImportedDevice>,
}

/// A client of a gateway.
#[derive(Debug)]
pub struct ImportedDevice {
    /// The name that it signs in with.
    pub name: String,
    /// The keys of `[gateway.NAME.device.DEVICE]`.
    pub settings: Map<String, Value>,
    /// The password that it has now, where that is known.
    pub password: Option<SecretString>,
}

impl ImportedGateway {
    pub(crate) fn new(name: String, place: Place) -> Self {
        Self {
            name,
            place,
            settings: Map::new(),
            devices: Vec::new(),
        }
    }

    /// `certificate` and `key`, if both can be read and are somebody's own; else the gateway
    /// makes its own.
    pub(crate) fn certificate(
        &mut self,
        certificate: &str,
        key: &str,
        place: &Place,
        files: &dyn Files,
        left: &mut Vec<NotCarried>,
    ) {
        let unfit = if certificate.contains("snakeoil") {
            let why = "is the system's own (snakeoil), which no device trusts".to_owned();
            Some((certificate, why))
        } else {
            [certificate, key].into_iter().find_map(|path| {
                let why = files::named(files, path).err()?;
                Some((path, why))
            })
        };
        match unfit {
            None => {
                self.set("certificate", certificate);
                self.set("key", key);
            }
            Some((path, why)) => left.push(
                NotCarried::new(
                    place.clone(),
                    &format!("the certificate file {}", shown(path)),
                    format!("{why}; the gateway makes a certificate of its own"),
                )
                .instead(format!(
                    "for one that Postrider can read and devices trust: set \
                     gateway.{}.certificate and key",
                    self.name
                )),
            ),
        }
    }

    pub(crate) fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.settings.insert(key.to_owned(), value.into());
    }
}
