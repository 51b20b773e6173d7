//! Behaviour of the configuration as a whole.

use std::{fs, path::Path, time::Duration};

use super::{Config, EXAMPLE, RegistrationMode, known_keys, secret::MASK, secret_files};

fn read(text: &str) -> Result<Config, String> {
    read_with(text, &[])
}

fn read_with(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::parse(text, Path::new("parley.toml"), environment).map_err(|error| error.to_string())
}

fn refusal(text: &str) -> String {
    read(text).expect_err("should be refused")
}

/// The example with every key in effect, or only those that have a default.
fn example_in_effect(with_samples: bool) -> String {
    let mut text = String::new();
    let mut sample = false;
    for line in EXAMPLE.lines() {
        let setting = line
            .strip_prefix('#')
            .filter(|rest| rest.starts_with(char::is_lowercase));
        sample = match setting {
            // "No default." holds for all the keys that follow it at once.
            Some(_) => sample,
            None => line == "# No default.",
        };
        match setting {
            Some(setting) if with_samples || !sample => text += setting,
            Some(_) => {}
            None => text += line,
        }
        text.push('\n');
    }
    text
}

mod the_example {
    use super::*;

    #[test]
    fn changes_nothing_as_it_is() {
        assert_eq!(read(EXAMPLE), Ok(Config::default()));
    }

    #[test]
    fn is_in_the_documentation_as_it_is() {
        let page = include_str!("../../../../docs/configuration.md");
        assert!(
            page.contains(EXAMPLE),
            "docs/configuration.md has another example"
        );
    }

    #[test]
    fn states_the_defaults() {
        let text = example_in_effect(false);
        assert_eq!(read(&text), Ok(Config::default()));
        assert_ne!(text, EXAMPLE);
    }

    #[test]
    fn is_valid_with_every_key_in_effect() {
        assert_eq!(read(&example_in_effect(true)).err(), None);
    }

    /// Not an example, but a file of this repository that would be wrong unnoticed.
    #[test]
    fn and_what_complement_starts_parley_with_are_both_accepted() {
        let template = include_str!("../../../../complement-tests/image/parley.toml");
        let text = template
            .replace("{server_name}", "hs1")
            .replace("{registrations}", "[\"/complement/appservice/irc.yaml\"]");
        assert_eq!(read(&text).err(), None);
    }

    #[test]
    fn mentions_every_key_in_its_section() {
        let text = example_in_effect(true);
        let example: toml::Table = text.parse().expect("is TOML");
        for key in known_keys::all() {
            let (section, name) = key.split_once('.').expect("has a section");
            if let Some(secret) = name.strip_suffix("_file") {
                assert!(text.contains(secret), "{key}");
                continue;
            }
            let mut value = &example[section];
            for part in name.split('.') {
                value = value
                    .get(part)
                    .unwrap_or_else(|| panic!("the example lacks {key}"));
            }
        }
    }
}

mod defaults {
    use super::*;

    #[test]
    fn nothing_at_all_is_a_working_configuration() {
        let config = Config::load(None, []).unwrap();
        assert_eq!(config, Config::default());
        assert!(config.listener.address.ip().is_loopback());
        assert_eq!(config.registration.mode, RegistrationMode::Closed);
    }

    #[test]
    fn what_show_prints_is_valid_and_means_the_same() {
        let config = read("[listener]\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\"]").unwrap();
        let shown = config.to_masked_toml().unwrap();
        assert_eq!(read(&shown), Ok(config));
    }
}

mod unknown_keys {
    use super::*;

    #[test]
    fn are_refused_with_the_line_and_the_nearest_known_one() {
        assert_eq!(
            refusal("# a comment\n\n[regsitration]\nmod = \"closed\"\n"),
            "parley.toml:4: unknown key `regsitration.mod`; did you mean `registration.mode`?"
        );
        assert_eq!(
            refusal("[listener]\nadress = \"127.0.0.1:1\""),
            "parley.toml:2: unknown key `listener.adress`; did you mean `listener.address`?"
        );
        assert_eq!(
            refusal("[rate_limits.login]\nper_seconds = 1"),
            "parley.toml:2: unknown key `rate_limits.login.per_seconds`; \
             did you mean `rate_limits.login.per_second`?"
        );
    }

    #[test]
    fn are_found_in_the_section_where_they_belong() {
        assert_eq!(
            refusal("[server]\ntrusted_proxies = []"),
            "parley.toml:2: unknown key `server.trusted_proxies`; \
             did you mean `listener.trusted_proxies`?"
        );
    }

    #[test]
    fn get_no_suggestion_when_nothing_is_near() {
        assert_eq!(
            refusal("[kubernetes]\ningress = true"),
            "parley.toml:2: unknown key `kubernetes.ingress`"
        );
    }

    #[test]
    fn outside_of_every_section_are_refused_too() {
        assert_eq!(
            refusal("name = \"example.org\""),
            "parley.toml:1: unknown key `name`; did you mean `server.name`?"
        );
        assert_eq!(
            refusal("[listner]"),
            "parley.toml:1: unknown key `listner`; did you mean `listener`?"
        );
    }

    #[test]
    fn of_the_environment_are_refused_with_the_variable() {
        assert_eq!(
            read_with("", &[("PARLEY_SERVER__NAM", "example.org")]).unwrap_err(),
            "environment variable PARLEY_SERVER__NAM: unknown key `server.nam`; \
             did you mean `server.name`?"
        );
    }
}

mod values {
    use super::*;

    #[test]
    fn of_turn_servers_are_checked() {
        let uris = "uris = [\"turn:turn.example.org\"]";
        assert_eq!(
            refusal(&format!("[turn]\n{uris}")),
            "`turn.shared_secret`: TURN servers need it, or turn.username and turn.password"
        );
        assert_eq!(
            refusal("[turn]\nshared_secret = \"north\"\nuris = [\"https://turn.example.org\"]"),
            "parley.toml:3: `turn.uris`: \
             expected addresses such as turn:turn.example.org:3478?transport=udp"
        );
        for access in [
            "shared_secret = \"north\"",
            "username = \"a\"\npassword = \"b\"",
        ] {
            assert!(
                read(&format!("[turn]\n{uris}\n{access}")).is_ok(),
                "{access}"
            );
        }
    }

    #[test]
    fn of_server_notices_are_checked() {
        assert_eq!(
            refusal("[server_notices]\nlocalpart = \"The Server\""),
            "parley.toml:2: `server_notices.localpart`: \
             expected a user name of the characters a-z 0-9 . _ = - / +"
        );
        assert_eq!(
            refusal("[server_notices]\navatar_url = \"https://example.org/logo\""),
            "parley.toml:2: `server_notices.avatar_url`: \
             expected an address of uploaded media, such as mxc://example.org/picture"
        );
    }

    #[test]
    fn of_the_wrong_type_are_refused_with_the_line() {
        assert_eq!(
            refusal("[listener]\n\nmax_connections = \"many\""),
            "parley.toml:3: `listener.max_connections`: \
             expected a whole number, not negative, found string \"many\""
        );
        assert_eq!(
            refusal("[presence]\nenabled = 1"),
            "parley.toml:2: `presence.enabled`: expected true or false, found integer `1`"
        );
        assert_eq!(
            refusal("[listener]\ntrusted_proxies = [\n  \"10.0.0.0/8\",\n  7,\n]"),
            "parley.toml:4: `listener.trusted_proxies`: expected a string, found integer `7`"
        );
        assert_eq!(
            refusal("server = 7"),
            "parley.toml:1: `server`: expected a table of keys, found integer `7`"
        );
    }

    #[test]
    fn out_of_range_are_refused_with_the_line() {
        assert_eq!(
            refusal("[listener]\nmax_connections = -1"),
            "parley.toml:2: `listener.max_connections`: \
             integer `-1` is out of range; expected a whole number, not negative"
        );
        assert!(
            refusal("[sync]\nmax_timeline_limit = 1")
                .starts_with("parley.toml:2: `sync.max_timeline_limit`: must not be less than")
        );
    }

    #[test]
    fn of_an_enumeration_are_listed_when_none_fits() {
        assert_eq!(
            refusal("[registration]\nmode = \"open\""),
            "parley.toml:2: `registration.mode`: unknown value `open`; \
             expected one of `closed`, `token`, `open-without-verification`"
        );
    }

    #[test]
    fn that_are_not_toml_are_refused_with_the_line() {
        assert!(refusal("[server]\nname = \"example.org").starts_with("parley.toml:2: "));
        assert!(refusal("[log]\nformat = 'text'\nformat = 'json'").starts_with("parley.toml:3: "));
    }

    #[test]
    fn a_server_name_has_to_be_one() {
        let refusal = refusal("[server]\nname = \"https://example.org\"");
        assert!(
            refusal.starts_with("parley.toml:2: `server.name`: "),
            "{refusal}"
        );
    }

    #[test]
    fn a_duration_needs_a_unit() {
        let refusal = refusal("[sync]\nmax_timeout = \"30\"");
        assert!(
            refusal.contains("`30` is not a duration such as \"30s\""),
            "{refusal}"
        );
    }

    #[test]
    fn sizes_are_text_with_a_unit_or_bytes() {
        let size = |text: &str| {
            let config = read(&format!("[listener]\nmax_body_size = {text}"));
            config.map(|config| config.listener.max_body_size)
        };
        assert_eq!(size("\"2 MiB\""), Ok(2 << 20));
        assert_eq!(size("\"512KiB\""), Ok(512 << 10));
        assert_eq!(size("70000"), Ok(70_000));
        assert!(
            size("\"large\"")
                .unwrap_err()
                .contains("such as \"512 KiB\"")
        );
        assert!(size("-1").is_err());
    }

    #[test]
    fn a_proxy_is_a_network_or_an_address() {
        let config = read("[listener]\ntrusted_proxies = [\"10.0.0.0/8\", \"127.0.0.1\"]");
        let networks = config.unwrap().listener.trusted_proxies;
        assert_eq!(networks[1], "127.0.0.1/32".parse().unwrap());
        assert_eq!(
            refusal("[listener]\ntrusted_proxies = [\"nginx\"]"),
            "parley.toml:2: `listener.trusted_proxies`: \
             `nginx` is neither an address nor a network such as \"10.0.0.0/8\""
        );
    }

    #[test]
    fn terms_are_documents_in_languages() {
        let terms = |first: &str, second: &str| {
            let document = |rest: &str| {
                format!(
                    "{{ id = \"terms\", name = \"Terms\", url = \"https://a.test/t\", {rest} }}"
                )
            };
            let list = format!("{}, {}", document(first), document(second));
            read(&format!("[registration]\nterms = [{list}]"))
        };
        let en = "version = \"1\", language = \"en\"";
        let config = terms(en, "version = \"1\", language = \"fr\"").unwrap();
        assert_eq!(config.registration.terms[1].language, "fr");
        for other in [
            en,
            "version = \"2\", language = \"fr\"",
            "version = \"1\", language = \"\"",
            "version = \"1\"",
            "version = \"1\", language = \"fr\", extra = 1",
        ] {
            let refusal = terms(en, other).unwrap_err();
            assert!(refusal.contains("registration.terms"), "{refusal}");
        }
    }

    #[test]
    fn the_default_room_version_exists_and_is_stable() {
        assert_eq!(
            refusal("[rooms]\ndefault_version = \"99\""),
            "parley.toml:2: `rooms.default_version`: there is no room version `99`"
        );
        let refusal = refusal("[rooms]\ndefault_version = \"org.matrix.msc3757.10\"");
        assert!(refusal.contains("is unstable"), "{refusal}");
    }

    #[test]
    fn half_of_a_rate_limit_keeps_the_other_half() {
        let limits = read("[rate_limits]\nlogin = { burst = 50 }")
            .unwrap()
            .rate_limits;
        assert_eq!(limits.login.burst, 50);
        assert_eq!(
            limits.login.per_second,
            Config::default().rate_limits.login.per_second
        );
        assert!(refusal("[rate_limits]\nlogin = { burst = 0 }").starts_with("parley.toml:2: "));
    }

    #[test]
    fn a_key_without_its_certificate_is_refused() {
        assert_eq!(
            refusal("[listener]\nprivate_key = \"key.pem\""),
            "parley.toml:2: `listener.private_key`: needs `listener.certificate` beside it"
        );
        assert_eq!(
            refusal("[federation_listener]\ncertificate = \"chain.pem\""),
            "parley.toml:2: `federation_listener.certificate`: \
             needs `federation_listener.private_key` beside it"
        );
    }
}

mod the_environment {
    use super::*;

    #[test]
    fn takes_the_place_of_what_the_file_says() {
        let config = read_with(
            "[server]\nname = \"a.example\"\n[log]\nformat = \"text\"",
            &[
                ("PARLEY_SERVER__NAME", "b.example"),
                ("PARLEY_LOG__FORMAT", "json"),
                ("PARLEY_LISTENER__ADDRESS", "[::]:80"),
                ("PARLEY_LISTENER__TRUSTED_PROXIES", "10.0.0.0/8, ::1"),
                ("PARLEY_LISTENER__MAX_CONNECTIONS", "7"),
                ("PARLEY_PRESENCE__ENABLED", "false"),
                ("PARLEY_SYNC__MAX_TIMEOUT", "40s"),
                ("PARLEY_RATE_LIMITS__LOGIN__BURST", "9"),
                (
                    "PARLEY_RATE_LIMITS__JOINS",
                    "{ per_second = 1.5, burst = 3 }",
                ),
                ("PARLEY_REGISTRATION__TOKENS", "[\"a\", \"b\"]"),
            ],
        )
        .unwrap();
        assert_eq!(config.server.name, "b.example");
        assert_eq!(config.log.format, super::super::LogFormat::Json);
        assert_eq!(config.listener.address.to_string(), "[::]:80");
        assert_eq!(config.listener.trusted_proxies.len(), 2);
        assert_eq!(config.listener.max_connections, 7);
        assert!(!config.presence.enabled);
        assert_eq!(config.sync.max_timeout, Duration::from_secs(40));
        assert_eq!(config.rate_limits.login.burst, 9);
        assert_eq!(config.rate_limits.joins.per_second, 1.5);
        assert_eq!(config.registration.tokens.len(), 2);
    }

    #[test]
    fn is_named_where_it_is_wrong() {
        assert_eq!(
            read_with("", &[("PARLEY_LISTENER__MAX_CONNECTIONS", "many")]).unwrap_err(),
            "environment variable PARLEY_LISTENER__MAX_CONNECTIONS: `listener.max_connections`: \
             expected a whole number, not negative, found string \"many\""
        );
        assert_eq!(
            read_with("", &[("PARLEY_LIMITS__PROFILE_SIZE", "65 KiB")]).unwrap_err(),
            "environment variable PARLEY_LIMITS__PROFILE_SIZE: `limits.profile_size`: \
             must be from 1 KiB to 64 KiB, which the specification allows"
        );
    }

    #[test]
    fn unsets_a_key_by_an_empty_value() {
        let file = "[metrics]\naddress = \"127.0.0.1:9000\"";
        let config = read_with(file, &[("PARLEY_METRICS__ADDRESS", "")]).unwrap();
        assert_eq!(config.metrics.address, None);
    }

    #[test]
    fn may_hold_foreign_variables() {
        let foreign = [
            ("PARLEY_PORT", "tcp://10.0.0.1:80"),
            ("PATH", "/bin"),
            ("PARLEY_CONFIG", "x"),
        ];
        assert_eq!(read_with("", &foreign), Ok(Config::default()));
    }
}

mod secrets {
    use super::*;

    const SECRET: &str = "correct horse battery staple";

    #[test]
    fn come_from_files_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str, content: &str| {
            let path = folder.path().join(name);
            fs::write(&path, content).unwrap();
            path.display().to_string()
        };
        let text = format!(
            "[registration]\nshared_secret_file = \"{}\"\ntokens_file = \"{}\"",
            path("secret", &format!("{SECRET}\n")),
            path("tokens", "one\n\ntwo\n"),
        );
        let database = path("database", "postgres://parley:pw@host/parley\n");
        let config = read_with(&text, &[("PARLEY_DATABASE__URL_FILE", &database)]).unwrap();
        assert_eq!(config.registration.shared_secret.unwrap().expose(), SECRET);
        let tokens: Vec<_> = config
            .registration
            .tokens
            .iter()
            .map(|t| t.expose())
            .collect();
        assert_eq!(tokens, ["one", "two"]);
        assert_eq!(
            config.database.url.unwrap().expose(),
            "postgres://parley:pw@host/parley"
        );
    }

    #[test]
    fn from_a_file_that_cannot_be_read_are_refused() {
        let refusal = refusal("[registration]\nshared_secret_file = \"/nonexistent/secret\"");
        let expected =
            "parley.toml:2: `registration.shared_secret_file`: cannot read /nonexistent/secret: ";
        assert!(refusal.starts_with(expected), "{refusal}");
    }

    #[test]
    fn cannot_be_given_twice() {
        let refusal = refusal(
            "[registration]\nshared_secret = \"0123456789abcdef\"\nshared_secret_file = \"x\"",
        );
        assert!(
            refusal.contains("cannot be given beside the key itself"),
            "{refusal}"
        );
    }

    #[test]
    fn of_the_environment_replace_those_of_the_file_in_either_form() {
        let file = "[registration]\nshared_secret_file = \"/nonexistent/secret\"";
        let config = read_with(file, &[("PARLEY_REGISTRATION__SHARED_SECRET", SECRET)]).unwrap();
        assert_eq!(config.registration.shared_secret.unwrap().expose(), SECRET);

        let refusal = read_with(
            &format!("[registration]\nshared_secret = \"{SECRET}\""),
            &[(
                "PARLEY_REGISTRATION__SHARED_SECRET_FILE",
                "/nonexistent/secret",
            )],
        );
        assert!(
            refusal
                .unwrap_err()
                .contains("cannot read /nonexistent/secret")
        );
    }

    #[test]
    fn that_can_be_guessed_are_refused() {
        let refusal = refusal("[registration]\nshared_secret = \"short\"");
        assert!(
            refusal.contains("must have at least 8 characters"),
            "{refusal}"
        );
    }

    #[test]
    fn are_masked_wherever_the_configuration_is_shown() {
        let config = read(&format!(
            "[registration]\nshared_secret = \"{SECRET}\"\ntokens = [\"hidden\"]\n\
             [database]\nurl = \"postgres://parley:hidden@host/parley?password=hidden\""
        ))
        .unwrap();
        for shown in [config.to_masked_toml().unwrap(), format!("{config:?}")] {
            assert!(
                !shown.contains("hidden") && !shown.contains(SECRET),
                "{shown}"
            );
            assert!(shown.contains("postgres://parley:"), "{shown}");
        }
    }

    #[test]
    fn are_not_repeated_in_errors() {
        let refusal = refusal("[database]\nurl = \"mysql://parley:hidden@host/parley\"");
        assert!(!refusal.contains("hidden"), "{refusal}");
    }

    /// Every masked key can come from a file, and every key that can come from a file is masked.
    #[test]
    fn are_exactly_the_keys_that_are_masked() {
        let config = read(&example_in_effect(true).replace("tokens = []", "tokens = [\"a\"]"));
        let shown: toml::Table = config.unwrap().to_masked_toml().unwrap().parse().unwrap();
        let mut masked = Vec::new();
        for (section, entries) in &shown {
            for (key, value) in entries.as_table().unwrap() {
                if value.to_string().contains(MASK) {
                    masked.push(format!("{section}.{key}"));
                }
            }
        }
        masked.sort();
        assert_eq!(masked, secret_files::SECRETS);
    }
}
