"""What to paste where at the identity provider, and what to do next (pure)."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

BASE = "/scim/v2"


@dataclass(frozen=True, slots=True)
class Product:
    """Where an identity provider wants the base URL and the secret, and the page about it."""

    place: str
    url: str
    secret: str
    page: str


PRODUCTS: Mapping[str, Product] = {
    "authentik": Product(
        "Applications → Providers → Create → SCIM Provider", "URL", "Token", "authentik.md"
    ),
    "entra-id": Product(
        "Provisioning → New configuration", "Tenant URL", "Secret token", "entra-id.md"
    ),
    "jumpcloud": Product(
        "Export users to this app (Identity Management)", "Base URL", "Token Key", "jumpcloud.md"
    ),
    "keycloak": Product(
        "User federation → Add provider → scim",
        "SCIM 2.0 endpoint",
        "Auth password/token",
        "keycloak.md",
    ),
    "okta": Product(
        "Provisioning → Configure API Integration",
        "SCIM 2.0 Base URL",
        "OAuth Bearer Token",
        "okta.md",
    ),
    "onelogin": Product("Configuration", "SCIM Base URL", "SCIM Bearer Token", "onelogin.md"),
    "pingone": Product(
        "Integrations → Provisioning → + → New connection → Identity Store → SCIM Outbound",
        "SCIM base URL",
        "OAuth 2 Bearer Token",
        "pingone.md",
    ),
    "other": Product("its SCIM settings", "SCIM base URL", "Bearer token", "README.md"),
}


def next_steps(target: Path, settings: Mapping[str, str], which: str) -> Iterator[str]:
    """Return what to paste where, and what to type next, line by line."""
    product = PRODUCTS[which]
    base = (settings.get("PUBLIC_URL") or "https://your.host").rstrip("/")
    yield f"\nWritten to {target}, secrets into files beside it; only their owner may read them."
    yield f"\nAt the identity provider, {product.place}:"
    width = max(len(product.url), len(product.secret)) + 2
    yield f"  {product.url:<{width}}{base}{BASE}"
    yield f"  {product.secret:<{width}}{settings['WEBHOOK_SECRET']}"
    yield "  What it sends as externalId has to be what the homeserver gets as sub at the sign-in"
    yield f"  (SSO_SUBJECT_ATTRIBUTE names another attribute); see docs/setup/{product.page}."
    yield "\nThen:"
    at = f" --env-file {shlex.quote(str(target))}"
    yield f"  scim-matrix check{at}"
    yield f"  scim-matrix serve{at}"
    yield f"  scim-matrix status{at}"
    if settings["DRY_RUN"] == "true":
        yield f"  scim-matrix log{at}"
        yield f"Once the log reads well, take DRY_RUN out of {target} and restart."
