"""IPv6 for users who have none: WireGuard peers of this gateway, as redis wants them."""
