//! Random bytes from the generator that TLS uses as well.

/// `N` random bytes, fit for keys.
///
/// # Errors
/// When the system's generator fails; nothing secret can be made then.
pub fn bytes<const N: usize>() -> Result<[u8; N], boring::error::ErrorStack> {
    let mut bytes = [0; N];
    boring::rand::rand_bytes(&mut bytes)?;
    Ok(bytes)
}
