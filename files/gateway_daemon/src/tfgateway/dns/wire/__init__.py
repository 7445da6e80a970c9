"""The wire format of DNS: names, queries, records, EDNS, cookies, TSIG. Pure."""
