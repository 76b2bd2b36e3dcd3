//! The DTLS certificate, kept between runs so that its fingerprint stays the same.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, bail};
use rtc::peer_connection::certificate::CertificateParams;
use webrtc::peer_connection::RTCCertificate;
use webrtc::peer_connection::crypto::{self, RTCCryptoProvider, SignatureScheme};

/// A certificate is some 1 KiB; more is another file.
const MAX_BYTES: u64 = 64 * 1024;

/// The certificate kept in `path`, made there when the file is missing; a fresh one without a path.
///
/// # Errors
/// The file cannot be read or written, holds no certificate, or holds one that has expired.
pub fn load_or_make(path: Option<&Path>) -> anyhow::Result<RTCCertificate> {
    let provider = crypto::default_provider().context("no cryptography for DTLS")?;
    let Some(path) = path else { return make(provider.as_ref()) };
    match fs::metadata(path) {
        Ok(meta) if meta.len() > MAX_BYTES => {
            bail!("certificate {}: expected at most {MAX_BYTES} bytes, got {}", path.display(), meta.len())
        }
        Ok(_) => load(path, provider.as_ref()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let certificate = make(provider.as_ref())?;
            keep(path, &certificate)?;
            Ok(certificate)
        }
        Err(error) => Err(error).with_context(|| format!("certificate {}", path.display())),
    }
}

fn make(provider: &dyn RTCCryptoProvider) -> anyhow::Result<RTCCertificate> {
    let params =
        CertificateParams::new(vec!["dreamglass".to_owned()]).context("parameters of the certificate")?;
    let scheme = SignatureScheme::EcdsaP256Sha256;
    RTCCertificate::generate(provider.crypto(), scheme, params).context("cannot make a DTLS certificate")
}

fn load(path: &Path, provider: &dyn RTCCryptoProvider) -> anyhow::Result<RTCCertificate> {
    let name = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("certificate {name}"))?;
    // The parser slices without looking at lengths, so a cut file makes it panic.
    let parsed = catch_unwind(AssertUnwindSafe(|| RTCCertificate::from_pem(&text, provider.crypto())));
    let certificate = match parsed {
        Ok(Ok(certificate)) => certificate,
        Ok(Err(error)) => bail!("certificate {name}: expected the PEM of an earlier run, got: {error}"),
        Err(_) => bail!("certificate {name}: expected the PEM of an earlier run, got a damaged file"),
    };
    if certificate.expires <= SystemTime::now() {
        bail!("certificate {name} has expired; remove the file and a new one is made");
    }
    Ok(certificate)
}

/// Never over an existing file: of two programs that start together the second fails and says so. A file that
/// could not be written whole is removed again.
fn keep(path: &Path, certificate: &RTCCertificate) -> anyhow::Result<()> {
    let text = certificate.serialize_pem().context("cannot write the certificate as PEM")?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut file = options.open(path).with_context(|| format!("certificate {}", path.display()))?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.with_context(|| format!("certificate {}", path.display())).inspect_err(|_| {
        let _ = fs::remove_file(path);
    })
}
