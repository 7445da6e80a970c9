"""Typed settings, each documented below its field, read from one ``gateway.toml``. Unknown keys are errors."""

from tfgateway.settings.dns import (
    CookieSettings,
    DnsSettings,
    NotifySettings,
    RateSettings,
    TransferSettings,
    UpdateSettings,
)
from tfgateway.settings.file import DEFAULT_PATH, Settings, load, parse
from tfgateway.settings.node import (
    ExplorerSettings,
    FourToSixSettings,
    GatewaySettings,
    IdentitySettings,
    LocationSettings,
    LogSettings,
    ReconcilerSettings,
    RedisSettings,
    WorkersSettings,
)
from tfgateway.settings.proxy import CheckSettings, ProxySettings, ServiceSettings, TargetSettings

__all__ = [
    "DEFAULT_PATH",
    "CheckSettings",
    "CookieSettings",
    "DnsSettings",
    "ExplorerSettings",
    "FourToSixSettings",
    "GatewaySettings",
    "IdentitySettings",
    "LocationSettings",
    "LogSettings",
    "NotifySettings",
    "ProxySettings",
    "RateSettings",
    "ReconcilerSettings",
    "RedisSettings",
    "ServiceSettings",
    "Settings",
    "TargetSettings",
    "TransferSettings",
    "UpdateSettings",
    "WorkersSettings",
    "load",
    "parse",
]
