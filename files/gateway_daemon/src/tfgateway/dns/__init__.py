"""An authoritative DNS server whose zones are redis hashes, read through the mirror and held in memory."""
