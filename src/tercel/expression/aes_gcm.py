"""AES in Galois/Counter Mode, by the library `cryptography` (extra `encryption`)."""

from typing import TYPE_CHECKING

from tercel.errors import ExpressionError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

IV_SIZE = 12


def encrypt(key: bytes, iv: bytes, plaintext: bytes) -> bytes:
    """Encrypt and sign.

    Args:
        key: 16, 24 or 32 bytes.
        iv: 12 bytes, never used twice with the same key.
        plaintext: what to hide.

    Returns:
        The ciphertext, as long as the plaintext, and a tag of 16 bytes.

    Raises:
        ValueError: the key has no valid size.
        ExpressionError: the library is not installed.
    """
    return _cipher(key).encrypt(iv, plaintext, None)


def decrypt(key: bytes, iv: bytes, encrypted: bytes) -> bytes:
    """Give back what `encrypt` was given.

    Raises:
        ValueError: the key has no valid size, or it is not the one that encrypted this.
        ExpressionError: the library is not installed.
    """
    cipher = _cipher(key)
    if len(iv) != IV_SIZE:
        raise ValueError("the key does not fit")
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415  # an extra

    try:
        return cipher.decrypt(iv, encrypted, None)
    except InvalidTag:
        raise ValueError("the key does not fit") from None


def _cipher(key: bytes) -> "AESGCM":
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415  # an extra
    except ImportError:
        raise ExpressionError("Encryption needs the library cryptography: pip install 'tercel[encryption]'.") from None
    return AESGCM(key)
