"""DNS updates by users (RFC 2136): who may change what, the records they made, and the way to the DNS plane."""
