"""mongodb.*: documents written, read and waited for, by the library `pymongo` (extra `mongodb`)."""
