//! Each trust file, valid and invalid.

use std::fmt::Write as _;

use proptest::prelude::*;
use rcgen::{BasicConstraints, IsCa};

use super::authority::{Ca, DAY, Files, HOUR, moment, write};
use crate::Tls;
use crate::expiry::What;

/// The files of a CA after a change: the file at fault, and a part of the error.
#[track_caller]
fn refused(file: &str, message: &str, change: impl FnOnce(&Ca, &Files)) {
    let ca = Ca::new("ca");
    let files = Files::new(&ca);
    change(&ca, &files);
    let error = files.load().expect_err("was to be refused");
    let path = files.folder.path().canonicalize().unwrap().join(file);
    let text = error
        .to_string()
        .replace(&files.folder.path().display().to_string(), "DIR");
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    assert!(text.contains(message), "{text}");
    assert!(!error.advice().is_empty());
}

#[test]
fn files_that_belong_together_are_accepted() {
    let ca = Ca::new("ca");
    let Tls {
        authorities,
        lifetimes,
        ..
    } = Files::new(&ca).load().unwrap();
    assert_eq!(authorities.len(), 1);
    assert_eq!(authorities[0].crl_number, "1a");
    assert!(authorities[0].next_update > authorities[0].not_after - 60);
    assert_eq!(
        lifetimes[0].until / 60,
        super::authority::now_and(8 * HOUR).as_secs() / 60
    );
    let ends = [lifetimes[1].until, lifetimes[2].until];
    assert_eq!(ends, [authorities[0].next_update, authorities[0].not_after]);
    let kinds: Vec<What> = lifetimes.iter().map(|lifetime| lifetime.what).collect();
    assert_eq!(kinds, [What::Certificate, What::RevocationList, What::Authority]);
}

#[test]
fn comments_and_two_authorities_are_accepted() {
    let (old, new) = (Ca::new("old"), Ca::new("new"));
    let authorities = format!("# before 2027\n{}\n# after\n{}", old.pem(), new.pem());
    let lists = format!("{}{}", new.crl(&[]), old.crl(&[]));
    let tls = Files::with(&authorities, &lists, &old.agent()).load().unwrap();
    assert_eq!(tls.authorities.len(), 2);
}

#[test]
fn a_ca_file_that_is_not_as_it_must_be_is_refused() {
    refused("ca.pem", "cannot read `DIR/ca.pem`", |_, f| {
        std::fs::remove_file(&f.trust.ca).unwrap()
    });
    refused("ca.pem", "it holds no section `CERTIFICATE`", |_, f| {
        drop(f.write("ca.pem", "", 0o644))
    });
    refused("ca.pem", "it holds no section `CERTIFICATE`", |_, f| {
        drop(f.write("ca.pem", "# soon\n", 0o644))
    });
    refused("ca.pem", "is neither part of a PEM section", |ca, f| {
        f.write("ca.pem", &(ca.pem() + "garbage\n"), 0o644);
    });
    refused(
        "ca.pem",
        "begins a section `PRIVATE KEY`, expected `CERTIFICATE`",
        |ca, f| {
            f.write(
                "ca.pem",
                &[ca.pem(), ca.agent().key.serialize_pem()].concat(),
                0o644,
            );
        },
    );
    refused("ca.pem", "does not end as it began", |ca, f| {
        let pem = ca.pem();
        f.write("ca.pem", &pem[..pem.len() - 40], 0o644);
    });
    refused("ca.pem", "cannot be parsed", |_, f| {
        f.write(
            "ca.pem",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            0o644,
        );
    });
    refused("ca.pem", "is no CA that may sign", |ca, f| {
        drop(f.write("ca.pem", &ca.agent().pem, 0o644))
    });
    refused("ca.pem", "two certificates have the subject", |ca, f| {
        f.write("ca.pem", &[ca.pem(), Ca::new("ca").pem()].concat(), 0o644);
    });
    refused("ca.pem", "can be written by its group or by others", |ca, f| {
        let path = f.write("ca.pem", &ca.pem(), 0o644);
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o664)).unwrap();
    });
    refused("ca.pem", "the CA `CN=ca` expired at", |_, f| {
        f.write("ca.pem", &Ca::valid("ca", -2 * DAY, -HOUR).pem(), 0o644);
    });
    refused("ca.pem", "is not valid before", |_, f| {
        f.write("ca.pem", &Ca::valid("ca", HOUR, DAY).pem(), 0o644);
    });
}

#[test]
fn a_revocation_list_that_is_not_as_it_must_be_is_refused() {
    refused("crl.pem", "cannot read", |_, f| {
        std::fs::remove_file(&f.trust.crl).unwrap()
    });
    refused("crl.pem", "it holds no section `X509 CRL`", |_, f| {
        drop(f.write("crl.pem", "", 0o644))
    });
    refused("crl.pem", "neither part of a PEM section", |_, f| {
        drop(f.write("crl.pem", "garbage", 0o644))
    });
    refused("crl.pem", "cannot be parsed", |_, f| {
        f.write(
            "crl.pem",
            "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
            0o644,
        );
    });
    refused("crl.pem", "the revocation list expired at", |ca, f| {
        f.write("crl.pem", &ca.crl_until(-HOUR, &[]), 0o644);
    });
    refused("crl.pem", "holds no revocation list of the CA `CN=ca`", |_, f| {
        f.write("crl.pem", &Ca::new("other").crl(&[]), 0o644);
    });
    refused("crl.pem", "was not signed with that CA's key", |_, f| {
        f.write("crl.pem", &Ca::new("ca").crl(&[]), 0o644);
    });
    refused("crl.pem", "more than one revocation list of the CA", |ca, f| {
        f.write("crl.pem", &ca.crl(&[]).repeat(2), 0o644);
    });
    refused(
        "crl.pem",
        "a list of an authority that is not in the CA file",
        |ca, f| {
            f.write(
                "crl.pem",
                &[ca.crl(&[]), Ca::new("other").crl(&[])].concat(),
                0o644,
            );
        },
    );
}

#[test]
fn a_certificate_that_is_not_this_agents_is_refused() {
    refused("agent.pem", "cannot read", |_, f| {
        std::fs::remove_file(&f.trust.certificate).unwrap()
    });
    refused(
        "agent.pem",
        "the certificate was not issued by the CA in",
        |_, f| {
            f.write("agent.pem", &Ca::new("other").agent().pem, 0o644);
        },
    );
    refused("agent.pem", "the certificate expired at", |ca, f| {
        let old = ca.leaf("spiffe://demo.internal/agent/dienstplan/1", |p| {
            p.not_after = moment!(-60)
        });
        f.write("agent.pem", &old.pem, 0o644);
    });
    refused("agent.pem", "has been revoked", |ca, f| {
        let revoked = ca.agent();
        f.write("agent.pem", &revoked.pem, 0o644);
        f.write("crl.pem", &ca.crl(&[&revoked]), 0o644);
    });
    refused("agent.pem", "it is no agent's certificate", |ca, f| {
        f.write("agent.pem", &ca.operator("alice").pem, 0o644);
    });
    refused(
        "agent.pem",
        "it is for service `other`, instance `1`; the configuration says `dienstplan`, `1`",
        |ca, f| {
            f.write(
                "agent.pem",
                &ca.leaf("spiffe://demo.internal/agent/other/1", |_| {}).pem,
                0o644,
            );
        },
    );
    refused("agent.pem", "it holds more than one certificate", |ca, f| {
        f.write("agent.pem", &[ca.agent().pem, ca.pem()].concat(), 0o644);
    });
    refused("agent.pem", "the certificate is refused", |ca, f| {
        let own_ca = ca.leaf("spiffe://demo.internal/agent/dienstplan/1", |p| {
            p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        });
        f.write("agent.pem", &own_ca.pem, 0o644);
    });
}

#[test]
fn a_key_that_is_not_the_certificates_or_not_private_is_refused() {
    refused("agent.key", "cannot read", |_, f| {
        std::fs::remove_file(&f.trust.key).unwrap()
    });
    refused("agent.key", "it is not the key of the certificate", |ca, f| {
        f.write("agent.key", &ca.agent().key.serialize_pem(), 0o600);
    });
    refused(
        "agent.key",
        "can be read by its group or by others (mode 0640)",
        |_, f| {
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o640);
            std::fs::set_permissions(&f.trust.key, permissions).unwrap();
        },
    );
    refused("agent.key", "expected `PRIVATE KEY`", |ca, f| {
        drop(f.write("agent.key", &ca.pem(), 0o600))
    });
    refused("agent.key", "TLS cannot use the key", |_, f| {
        f.write(
            "agent.key",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            0o600,
        );
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    /// RUSTSEC-2026-0104: a panic while a list was parsed, before its signature was checked.
    #[test]
    fn a_damaged_revocation_list_is_an_error(at in 0_usize..400, bit in 0_u8..8, cut in any::<bool>()) {
        use base64::Engine as _;
        use base64::engine::general_purpose::STANDARD;
        thread_local! {
            static CA: (Ca, Files, String) = {
                let ca = Ca::new("ca");
                let (files, list) = (Files::new(&ca), ca.crl(&[&ca.operator("alice")]));
                (ca, files, list)
            };
        }
        CA.with(|(_, files, list)| {
            let body: String = list.lines().filter(|l| !l.starts_with('-')).map(str::trim).collect();
            let mut der = STANDARD.decode(body).unwrap();
            let at = at % der.len();
            if cut { der.truncate(at) } else { der[at] ^= 1 << bit }
            let mut pem = String::new();
            write!(pem, "-----BEGIN X509 CRL-----\n{}\n-----END X509 CRL-----\n", STANDARD.encode(der)).unwrap();
            write(&files.trust.crl, pem.as_bytes(), 0o644);
            prop_assert!(files.load().is_err());
            Ok(())
        })?;
    }
}
