//! Certificates of two authorities, and of a server that each of them vouches for, made with `openssl` for a hundred years.

use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;

use super::*;

const NEAR: &str = "-----BEGIN CERTIFICATE-----
MIIBhTCCASugAwIBAgIUYqrX0OY5HFFfEUCCM0ojUNwtRckwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEbmVhcjAgFw0yNjExMjMxOTI3MDBaGA8yMTI2MTAzMDE5Mjcw
MFowDzENMAsGA1UEAwwEbmVhcjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABIqB
TiJ8JfBuTYNWqxfryxpMiZcj083pScf2jprBE1INHexiBEjUnGnJrSUXr+lYNWsA
gZz4kKWPlLRVKAOM+vSjYzBhMB0GA1UdDgQWBBSjt7ZGKe4BmcIyPVhbHg7zp0ln
XjAfBgNVHSMEGDAWgBSjt7ZGKe4BmcIyPVhbHg7zp0lnXjAPBgNVHRMBAf8EBTAD
AQH/MA4GA1UdDwEB/wQEAwICBDAKBggqhkjOPQQDAgNIADBFAiEAy9huCAs0jo3L
klFWplXb67hKRX8FhOlj5TYc0mdnU68CIA3bSREj83RxiQAE1SNITvqPbVBiJSSf
7de48oMWob4e
-----END CERTIFICATE-----";

const FAR: &str = "-----BEGIN CERTIFICATE-----
MIIBgjCCASmgAwIBAgIUBz9UZSZrVHTDvgEmLpj8m307E8owCgYIKoZIzj0EAwIw
DjEMMAoGA1UEAwwDZmFyMCAXDTI2MTEyMzE5MjcwMFoYDzIxMjYxMDMwMTkyNzAw
WjAOMQwwCgYDVQQDDANmYXIwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQfOJzh
AwTD9sBeZ4xfBIwhkD3/qkogy6PLOJd2LV5KLjjTDi/zZMWscvFRgE/KALQ2ogki
9N66htervjZZ8D7Ro2MwYTAdBgNVHQ4EFgQUkwq7P1cA3tmR+7bYsd1SS449i08w
HwYDVR0jBBgwFoAUkwq7P1cA3tmR+7bYsd1SS449i08wDwYDVR0TAQH/BAUwAwEB
/zAOBgNVHQ8BAf8EBAMCAgQwCgYIKoZIzj0EAwIDRwAwRAIgXPdF5LWmfNZvL6Uj
jnL4OjiPw25CsmVXrECZVNvtQx8CIDTfOLODSJfvQL4U99o4D0P1VCm8j+VU8ESH
KFRrro0a
-----END CERTIFICATE-----";

const OF_NEAR: &str = "-----BEGIN CERTIFICATE-----
MIIBnTCCAUOgAwIBAgIUNpWrZ8RnKhPr0mTyoc1STqvduGowCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEbmVhcjAgFw0yNjExMjMxOTI3MDBaGA8yMTI2MTAzMDE5Mjcw
MFowHDEaMBgGA1UEAwwRci5leGFtcGxlLmludmFsaWQwWTATBgcqhkjOPQIBBggq
hkjOPQMBBwNCAARdFzr2ZTHy6V8vPK8C8XcGxYoaYNYUfBNRKLXfuIPY/K46NGOs
zaNUjngRnUB+Uf2QM8r/T5L1indA72Os5Qyfo24wbDAcBgNVHREEFTATghFyLmV4
YW1wbGUuaW52YWxpZDAMBgNVHRMBAf8EAjAAMB0GA1UdDgQWBBTYMDwvUbz7nXIq
r/qjNK5Q6o6gmDAfBgNVHSMEGDAWgBSjt7ZGKe4BmcIyPVhbHg7zp0lnXjAKBggq
hkjOPQQDAgNIADBFAiEAyrh2WgoWrEk6PJ83XpBTgqB1bJECSEMUovVeeAfrY8wC
IFLHRkXDEvQdqz5mZUQuiF2xNfPXboxclgkFiHPFpSqI
-----END CERTIFICATE-----";

const OF_FAR: &str = "-----BEGIN CERTIFICATE-----
MIIBmzCCAUKgAwIBAgIUepg3b598to1b8TkKATuPsyzx5hIwCgYIKoZIzj0EAwIw
DjEMMAoGA1UEAwwDZmFyMCAXDTI2MTEyMzE5MjcwMFoYDzIxMjYxMDMwMTkyNzAw
WjAcMRowGAYDVQQDDBFyLmV4YW1wbGUuaW52YWxpZDBZMBMGByqGSM49AgEGCCqG
SM49AwEHA0IABBjqkz9SdFvmW0C1u76Zv7wwouSLKV6lQ3N/WMobyN8f3ABKHGH5
TVClv6VDFovKtDmTqr3a+7alJLyjT3CD7r6jbjBsMBwGA1UdEQQVMBOCEXIuZXhh
bXBsZS5pbnZhbGlkMAwGA1UdEwEB/wQCMAAwHQYDVR0OBBYEFEoK2QRA24dA6I0a
+YnasLtYMdTyMB8GA1UdIwQYMBaAFJMKuz9XAN7Zkfu22LHdUkuOPYtPMAoGCCqG
SM49BAMCA0cAMEQCICXCz6pZ2x9WHBQQjkUarvBNSIn8pztcwjIm87JjPqgVAiB3
sHPfDiR/7nOuKKrFcLmwS6qMP8etDecVcPHhHUZyjg==
-----END CERTIFICATE-----";

/// In 2030.
const NOW: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_900_000_000));

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate")
}

/// One that has this configured, on a machine that has that.
fn trust(configured: &[&str], machine: &[&str]) -> Arc<Trust> {
    let certificates = |pems: &[&str]| pems.iter().map(|pem| certificate(pem)).collect::<Vec<_>>();
    let of_machine = Machine::new();
    of_machine.set(certificates(machine)).expect("nobody has read it");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Trust::new(&Arc::new(of_machine), certificates(configured), &provider)
}

fn is_trusted(trust: &Trust, server: &str) -> bool {
    let name = |name: &'static str| ServerName::try_from(name).expect("a name");
    let of = |name| trust.verify_server_cert(&certificate(server), &[], &name, &[], NOW).is_ok();
    assert!(!of(name("other.example.invalid")), "it is another one's");
    of(name("r.example.invalid"))
}

#[test]
fn whom_either_set_trusts_is_trusted_and_nobody_else() {
    for (configured, machine, near, far) in [
        (&[NEAR][..], &[FAR][..], true, true),
        (&[NEAR], &[], true, false),
        (&[FAR], &[NEAR], true, true),
        (&[FAR], &[FAR], false, true),
        (&[NEAR, FAR], &[], true, true),
    ] {
        let trust = trust(configured, machine);
        assert_eq!((is_trusted(&trust, OF_NEAR), is_trusted(&trust, OF_FAR)), (near, far));
    }
}

#[test]
fn the_rest_of_the_machine_is_read_where_what_is_configured_does_not_do() {
    let trust = trust(&[NEAR], &[FAR]);
    let of = |server: &str| {
        let name = ServerName::try_from("r.example.invalid").expect("a name");
        trust.verify_server_cert(&certificate(server), &[], &name, &[], NOW)
    };
    assert!(of(OF_NEAR).is_ok() && trust.all.get().is_none(), "the near ones do");
    assert!(of(OF_FAR).is_ok() && trust.all.get().is_some());
    let error = of(NEAR).expect_err("it is no server");
    assert!(matches!(error, rustls::Error::InvalidCertificate(_)), "{error}");
}

#[test]
fn where_somebody_says_where_certificates_are_the_machines_own_file_does_not_count() {
    let said = |text: &str| Some(OsString::from(text));
    assert_eq!(machine_file(said("/f"), None), Some(PathBuf::from("/f")));
    assert_eq!(machine_file(said("/f"), said("/d")), Some(PathBuf::from("/f")));
    assert_eq!(machine_file(None, said("/d")), None);
}
