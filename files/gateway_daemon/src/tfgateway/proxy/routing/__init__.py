"""From a host name to a service: static services and those of redis."""
