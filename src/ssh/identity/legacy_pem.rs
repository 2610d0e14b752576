//! Encrypted private keys in the PEM format of old (RFC 1421 headers, as OpenSSL and `ssh-keygen -m PEM` write them).
//!
//! Main function: [`decrypt`]. Invariant: the decrypted text is zeroized, and every way in which a wrong passphrase or a
//! damaged file can fail is the same one.

use base64ct::{Base64, Encoding as _};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt as _, InnerIvInit as _, KeyInit as _};
use zeroize::{Zeroize as _, Zeroizing};

/// Which cipher a `DEK-Info` header names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cipher {
    Aes128,
    Aes192,
    Aes256,
    TripleDes,
}

impl Cipher {
    fn named(name: &str) -> Option<Self> {
        match name {
            "AES-128-CBC" => Some(Self::Aes128),
            "AES-192-CBC" => Some(Self::Aes192),
            "AES-256-CBC" => Some(Self::Aes256),
            // What OpenSSH wrote before 2010.
            "DES-EDE3-CBC" => Some(Self::TripleDes),
            _ => None,
        }
    }

    fn key_length(self) -> usize {
        match self {
            Self::Aes128 => 16,
            Self::Aes192 | Self::TripleDes => 24,
            Self::Aes256 => 32,
        }
    }

    fn decrypt<'a>(self, key: &[u8], iv: &[u8], data: &'a mut [u8]) -> Option<&'a [u8]> {
        macro_rules! with {
            ($cipher:ty) => {{
                let cipher = <$cipher>::new_from_slice(key).ok()?;
                let decryptor = cbc::Decryptor::inner_iv_slice_init(cipher, iv).ok()?;
                decryptor.decrypt_padded::<Pkcs7>(data).ok()
            }};
        }
        match self {
            Self::Aes128 => with!(aes::Aes128),
            Self::Aes192 => with!(aes::Aes192),
            Self::Aes256 => with!(aes::Aes256),
            Self::TripleDes => with!(des::TdesEde3),
        }
    }
}

/// Whether the text is a key in this format.
pub(super) fn is_encrypted(text: &str) -> bool {
    text.lines().any(|line| line == "Proc-Type: 4,ENCRYPTED")
}

/// Whether its cipher is one that is read here.
pub(super) fn is_supported(text: &str) -> bool {
    header(text).is_some()
}

/// The same key without encryption; nothing when the passphrase is wrong or the file damaged.
pub(super) fn decrypt(text: &str, passphrase: &str) -> Option<Zeroizing<String>> {
    let (cipher, iv) = header(text)?;
    let begin = text.lines().find(|line| line.starts_with("-----BEGIN "))?;
    let end = begin.replacen("BEGIN", "END", 1);
    let body: String = text
        .lines()
        .skip_while(|line| *line != begin)
        .skip(1)
        .take_while(|line| *line != end)
        .filter(|line| !line.contains(':'))
        .map(str::trim)
        .collect();
    let mut data = Zeroizing::new(Base64::decode_vec(&body).ok()?);
    let key = derive(passphrase, iv.get(..8)?, cipher.key_length());
    let plain = cipher.decrypt(&key, &iv, &mut data)?;
    let encoded = Zeroizing::new(Base64::encode_string(plain));
    Some(Zeroizing::new(format!("{begin}\n{}\n{end}\n", *encoded)))
}

/// The cipher and its initial vector.
fn header(text: &str) -> Option<(Cipher, Vec<u8>)> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix("DEK-Info: "))?;
    let (name, iv) = value.trim().split_once(',')?;
    let digits = iv.as_bytes().chunks(2);
    let iv: Option<Vec<u8>> = digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    Some((Cipher::named(name)?, iv?))
}

/// OpenSSL's EVP_BytesToKey with MD5 and one round: each block is the digest of the one before, the passphrase and the
/// salt.
fn derive(passphrase: &str, salt: &[u8], length: usize) -> Zeroizing<Vec<u8>> {
    let mut key = Zeroizing::new(Vec::with_capacity(length + 16));
    let mut block = [0; 16];
    while key.len() < length {
        let mut context = md5::Context::new();
        if !key.is_empty() {
            context.consume(block);
        }
        context.consume(passphrase.as_bytes());
        context.consume(salt);
        block = context.finalize().0;
        key.extend_from_slice(&block);
    }
    block.zeroize();
    key.truncate(length);
    key
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_key_is_derived_as_openssl_derives_it() {
        // openssl enc -aes-256-cbc -md md5 -S 0102030405060708 -k secret -P
        let key = derive("secret", &[1, 2, 3, 4, 5, 6, 7, 8], 32);
        let hex: String = key.iter().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(
            hex,
            "C9E5A1BD216DBE1317E230CEF48F38EE7F0E17AD64022144BCCEC4A1AA2879AB"
        );
    }

    #[test]
    fn an_unknown_cipher_is_not_supported() {
        let text = |info: &str| format!("Proc-Type: 4,ENCRYPTED\nDEK-Info: {info}\n");
        assert!(is_encrypted(&text("")));
        assert!(is_supported(&text("DES-EDE3-CBC,0123456789ABCDEF")));
        for odd in ["CAMELLIA-128-CBC,00", "AES-128-CBC", "AES-128-CBC,0x", ""] {
            assert!(!is_supported(&text(odd)), "{odd}");
        }
    }

    proptest! {
        #[test]
        fn hostile_files_are_no_keys(
            iv in "[0-9A-Fa-fx]{0,40}",
            cipher in prop_oneof![Just("AES-128-CBC"), Just("AES-256-CBC"), Just("DES-EDE3-CBC"), Just("X")],
            body in "[A-Za-z0-9+/=\\n:]{0,200}",
        ) {
            let text = format!("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: {cipher},{iv}\n\n{body}");
            // Whatever comes of it, it ends.
            let _ = (is_supported(&text), decrypt(&text, "x"));
        }
    }
}
