"""The gateway's side of tunnels: clients register, visitors are carried to them, both can migrate."""
