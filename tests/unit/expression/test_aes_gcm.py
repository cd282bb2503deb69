"""AES-GCM against the vectors published with the mode."""

import pytest

from tercel.expression.aes_gcm import decrypt, encrypt

KEY = bytes.fromhex("feffe9928665731c6d6a8f9467308308")
IV = bytes.fromhex("cafebabefacedbaddecaf888")
PLAINTEXT = bytes.fromhex(
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
    "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255"
)


class TestEncrypt:
    @pytest.mark.parametrize(
        ("key", "iv", "plaintext", "expected"),
        [
            (bytes(16), bytes(12), b"", "58e2fccefa7e3061367f1d57a4e7455a"),
            (bytes(16), bytes(12), bytes(16), "0388dace60b6a392f328c2b971b2fe78ab6e47d42cec13bdf53a67b21257bddf"),
            (
                KEY,
                IV,
                PLAINTEXT,
                "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"
                "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985"
                "4d5c2af327cd64a62cf35abd2ba6fab4",
            ),
            (bytes(24), bytes(12), b"", "cd33b28ac773f74ba00ed1f312572435"),
            (bytes(32), bytes(12), bytes(16), "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"),
        ],
    )
    def test_given_a_published_vector_then_ciphertext_and_tag_are_those(
        self, key: bytes, iv: bytes, plaintext: bytes, expected: str
    ) -> None:
        assert encrypt(key, iv, plaintext).hex() == expected

    def test_given_a_key_of_another_size_then_it_is_refused(self) -> None:
        with pytest.raises(ValueError, match="128, 192, or 256 bits"):
            encrypt(b"short", IV, b"")


class TestDecrypt:
    def test_given_what_was_encrypted_then_it_comes_back(self) -> None:
        assert decrypt(KEY, IV, encrypt(KEY, IV, PLAINTEXT + b"odd")) == PLAINTEXT + b"odd"

    @pytest.mark.parametrize("changed", [0, 20, -1])
    def test_given_one_changed_byte_then_nothing_is_given_back(self, changed: int) -> None:
        sealed = bytearray(encrypt(KEY, IV, PLAINTEXT))
        sealed[changed] ^= 1

        with pytest.raises(ValueError, match="the key does not fit"):
            decrypt(KEY, IV, bytes(sealed))

    def test_given_too_little_then_nothing_is_given_back(self) -> None:
        with pytest.raises(ValueError, match="the key does not fit"):
            decrypt(KEY, IV, b"short")
