"""HTTP by Host and TLS by SNI, relayed untouched to the target of the service that the name belongs to."""
