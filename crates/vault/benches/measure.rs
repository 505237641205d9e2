//! How long a vault takes: `cargo bench -p postrider-vault [-- DIR [RECORDS]]`. DIR says which
//! file system to measure a put on; the many records are made in memory.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};
use std::{env, fs};

use postrider_vault::{KeyOptions, Kind, Options, Rekey, Vault};

/// As large as an access token with a refresh token is.
const VALUE_OCTETS: usize = 3000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1).filter(|argument| argument != "--bench");
    let dir = arguments.next().map_or_else(env::temp_dir, PathBuf::from);
    let records = arguments.next().map_or(Ok(100_000), |text| text.parse())?;
    let value = vec![7; VALUE_OCTETS];

    within(&dir, |options| {
        let vault = Vault::open(options)?;
        vault.put(Kind::Grant, "warm", &value)?;
        let put = each(200, |_| vault.put(Kind::Grant, "warm", &value).map(drop))?;
        let get = each(2000, |_| vault.get(Kind::Grant, "warm").map(drop))?;
        println!("one record in {}: put {put:?}, get {get:?}", dir.display());
        Ok(())
    })?;

    let memory = Path::new("/dev/shm");
    let memory = if memory.is_dir() { memory } else { &dir };
    within(memory, |options| {
        let vault = Vault::open(options)?;
        let name = |number: u32| format!("login.example.org contoso client user{number:06}");
        let filled = Instant::now();
        for number in 0..records {
            vault.put(Kind::Grant, &name(number), &value)?;
        }
        println!(
            "{records} records: filled in {:?} (memory)",
            filled.elapsed()
        );
        let put = each(1000, |turn| {
            vault.put(Kind::Grant, &name(turn), &value).map(drop)
        })?;
        let get = each(5000, |turn| vault.get(Kind::Grant, &name(turn)).map(drop))?;
        println!("{records} records: put {put:?} (memory), get {get:?}");
        let open = each(20, |_| Vault::open(options).map(drop))?;
        let names = each(3, |_| vault.names(Kind::Grant).map(drop))?;
        let list = each(3, |_| vault.list(Kind::Grant).map(drop))?;
        println!("{records} records: open {open:?}, names {names:?}, list {list:?}");
        let rekey = Rekey {
            key: None,
            new_data_key: true,
            now: UNIX_EPOCH,
        };
        let rekey = each(1, |_| vault.rekey(&rekey, &mut |_| {}).map(drop))?;
        println!("{records} records: rekey {rekey:?} (memory)");
        Ok(())
    })
}

fn within(
    dir: &Path,
    measure: impl FnOnce(&Options) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let root = tempfile::tempdir_in(fs::canonicalize(dir)?)?;
    measure(&Options {
        dir: root.path().join("vault"),
        keys: KeyOptions::default(),
        now: UNIX_EPOCH,
    })
}

/// What one of so many takes.
fn each<E>(times: u32, mut act: impl FnMut(u32) -> Result<(), E>) -> Result<Duration, E> {
    let start = Instant::now();
    for turn in 0..times {
        act(turn)?;
    }
    Ok(start.elapsed() / times)
}
