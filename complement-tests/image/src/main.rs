//! The first process of the image in which Complement starts Parley.
//!
//! Complement hands a container its name (`SERVER_NAME`) and a certificate authority, and expects a homeserver on
//! port 8008 (HTTP) and 8448 (TLS). This program signs a certificate for that name, writes Parley's configuration and
//! then becomes Parley, so that the homeserver is process 1 and gets SIGTERM itself.
//!
//! A container is stopped, committed as an image and started again, perhaps under another authority: everything
//! written here is written anew at each start, and nothing else in the data folder is touched.

mod certificate;

use std::{
    env, fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::Command,
};

use anyhow::{Context, ensure};

/// The configuration, with `{server_name}` and `{registrations}` to be filled in.
const TEMPLATE: &str = include_str!("../parley.toml");

const DATA: &str = "/data";
const AUTHORITY: &str = "/complement/ca";
/// Where Complement puts the registrations of application services.
const APPSERVICES: &str = "/complement/appservice";

fn main() -> anyhow::Result<()> {
    let server_name =
        env::var("SERVER_NAME").context("Complement sets SERVER_NAME; it is missing")?;
    ensure!(
        is_host_name(&server_name),
        "SERVER_NAME {server_name:?} is not a host name"
    );

    let data = Path::new(DATA);
    fs::create_dir_all(data).with_context(|| format!("creating {DATA}"))?;

    let authority = Path::new(AUTHORITY);
    let leaf = certificate::issue(
        &read(&authority.join("ca.crt"))?,
        &read(&authority.join("ca.key"))?,
        &server_name,
    )?;
    write(&data.join("tls.crt"), &leaf.certificate, 0o644)?;
    write(&data.join("tls.key"), &leaf.private_key, 0o600)?;

    let configuration = data.join("parley.toml");
    write(
        &configuration,
        &TEMPLATE
            .replace("{server_name}", &server_name)
            .replace("{registrations}", &registrations(Path::new(APPSERVICES))?),
        0o600,
    )?;

    let error = Command::new("/usr/bin/parley")
        .arg("serve")
        .arg("--config")
        .arg(&configuration)
        .exec();
    Err(error).context("starting /usr/bin/parley")
}

/// The registrations of application services in a folder, as TOML has a list of strings. Where there is no folder, there
/// are none.
fn registrations(folder: &Path) -> anyhow::Result<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok("[]".to_owned());
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "yaml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(format!("{files:?}"))
}

/// Whether `name` can stand in a certificate and, unescaped, in a TOML string.
fn is_host_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-')
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

fn write(path: &Path, content: &str, mode: u32) -> anyhow::Result<()> {
    fs::write(path, content)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::{is_host_name, registrations};

    #[test]
    fn registrations_of_application_services_are_the_yaml_files_of_the_folder() {
        let folder = env!("CARGO_MANIFEST_DIR");
        let none = registrations(Path::new(folder)).unwrap();
        assert_eq!(none, "[]");
        assert_eq!(registrations(Path::new("/nowhere/at/all")).unwrap(), "[]");
        let folder = std::env::temp_dir().join(format!("registrations-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for name in ["b.yaml", "a.yaml", "notes.txt"] {
            fs::write(folder.join(name), "").unwrap();
        }
        let found = registrations(&folder).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        let file = |name: &str| format!("{:?}", folder.join(name));
        assert_eq!(found, format!("[{}, {}]", file("a.yaml"), file("b.yaml")));
    }

    #[test]
    fn a_server_name_that_could_break_out_of_the_configuration_is_refused() {
        assert!(is_host_name("hs1"));
        assert!(is_host_name("hs-2.example.org"));
        assert!(!is_host_name(""));
        assert!(!is_host_name("hs1\"\n[listener]"));
    }
}
